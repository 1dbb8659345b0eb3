"""Who writes to a link next: one frame at a time, and the small do not wait for all the large.

A range of a pack or a catch-up of a journal takes seconds on a slow line, and there may be many; a
question that a clinician waits for must not stand behind all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

LARGE_BYTES: Final = 64 * 1024
"""From here on a frame is large: questions, answers and statements are smaller, pieces of packs and
batches of a catch-up are larger."""

SMALL_IN_A_ROW: Final = 16
"""Then a large one has its turn, however many small ones wait."""


class Turns:
    """Lets one sender at a time through, each size in the order in which they came."""

    def __init__(self) -> None:
        self._taken = False
        self._small: deque[asyncio.Future[None]] = deque()
        self._large: deque[asyncio.Future[None]] = deque()
        self._in_a_row = 0

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[None]:
        """Wait for one's turn with a frame of `size` bytes, and have it while in the context."""
        if self._taken:
            await self._wait(self._large if size >= LARGE_BYTES else self._small)
        self._taken = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, queue: deque[asyncio.Future[None]]) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()  # It was our turn already.
            raise

    def _pass_on(self) -> None:
        """Give the turn to whoever is next; it stays taken if there is somebody."""
        while (queue := self._next()) is not None:
            future = queue.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._taken = False

    def _next(self) -> deque[asyncio.Future[None]] | None:
        if self._small and (self._in_a_row < SMALL_IN_A_ROW or not self._large):
            self._in_a_row += 1
            return self._small
        self._in_a_row = 0
        return self._large or None
