"""Whose turn it is to fetch: so many studies at once, and whoever is in an emergency at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from protocol.consent import PurposeOfUse

EMERGENCIES: Final = frozenset({PurposeOfUse.ETREAT, PurposeOfUse.BTG})
"""Purposes of use for which someone may die while others are served first."""


def is_urgent(purpose: str) -> bool:
    """Whether a retrieval for this purpose overtakes the others."""
    return purpose in EMERGENCIES


SLOW_S: Final = 5.0
"""The others pause for an emergency that brings nothing no longer than this: it has the line for
itself so as to be fast, and whoever trickles its bytes is not."""

LEAST_BYTES: Final = 160 * 1024
"""Brought by all emergencies together within SLOW_S, or the others go on beside them.  Below that
the line is not what holds them up: 32 KiB/s are less than any that carries images."""


class Turns:
    """Turns to fetch a study: `at_once` for ordinary retrievals, and as many more for emergencies.

    While an emergency has a turn the others pause between two parts (`give_way`), so that it has
    the whole line; they lose nothing of what they have.  They go on while it makes no progress.
    `now`: seconds of a clock that only goes forward.
    """

    def __init__(self, at_once: int, now: Callable[[], float] = time.monotonic) -> None:
        self._ordinary = asyncio.Semaphore(at_once)
        self._urgent = asyncio.Semaphore(at_once)
        self._now = now
        self._emergencies = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self._since = now()
        self._bytes = 0
        self._is_slow = False

    @asynccontextmanager
    async def turn(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the context lasts."""
        async with self._urgent if urgent else self._ordinary:
            self._begin(urgent)
            try:
                yield
            finally:
                self._end(urgent)

    def _begin(self, urgent: bool) -> None:  # noqa: FBT001 - as in `turn`
        if urgent and not self._emergencies:
            self._since, self._bytes, self._is_slow = self._now(), 0, False
        self._emergencies += urgent
        if self._emergencies:
            self._calm.clear()

    def _end(self, urgent: bool) -> None:  # noqa: FBT001 - as in `turn`
        self._emergencies -= urgent
        if not self._emergencies:
            self._calm.set()

    def brought(self, size: int) -> None:
        """Note that an emergency has brought so many bytes."""
        self._measure()
        self._bytes += size

    async def give_way(self, *, urgent: bool) -> None:
        """Return when a retrieval may go on: an urgent one at once."""
        while not urgent and self._emergencies:
            self._measure()
            if self._is_slow:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._since + SLOW_S - self._now())):
                    await self._calm.wait()

    def _measure(self) -> None:
        now = self._now()
        if now - self._since >= SLOW_S:
            self._is_slow = self._bytes < LEAST_BYTES
            self._since, self._bytes = now, 0
