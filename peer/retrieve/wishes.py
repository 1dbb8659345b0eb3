"""What somebody waits for while a study arrives: it is fetched before all else."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from peer.retrieve.chunks import Piece


@dataclass(slots=True, eq=False)
class _Wish:
    lacking: set[tuple[bytes, int]]
    """(pack id, chunk number)."""
    granted: asyncio.Future[None]


class Wishes:
    """The pieces that are waited for; `queue` has those that nobody fetches yet.

    `over`: why nothing more comes, None while anything may.
    """

    def __init__(self) -> None:
        self.queue: deque[Piece] = deque()
        self._waiting: list[_Wish] = []
        self._stirred = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self.over: Exception | None = None

    async def granted(self, pieces: Iterable[Piece]) -> None:
        """Ask for pieces; return when all of them have come, raise what `end` was told."""
        if self.over is not None:
            raise self.over
        wanted = list(pieces)
        asked = self._lacking()
        wish = _Wish(
            set().union(*map(_numbers, wanted)), asyncio.get_running_loop().create_future()
        )
        self._waiting.append(wish)
        self._none.clear()
        self.queue.extend(each for each in wanted if not _numbers(each) <= asked)
        self._stirred.set()
        try:
            await wish.granted
        finally:
            self._forget(wish)

    def came(self, pack_id: bytes, number: int) -> None:
        """Note that a chunk is here."""
        for wish in tuple(self._waiting):
            wish.lacking.discard((pack_id, number))
            if not wish.lacking:
                self._forget(wish)
                if not wish.granted.done():
                    wish.granted.set_result(None)

    def again(self, piece: Piece) -> None:
        """Ask once more for a piece that came wrong, if it is waited for."""
        if _numbers(piece) & self._lacking():
            self.queue.append(piece)
            self._stirred.set()

    async def next(self) -> Piece:
        """Return a piece to be fetched, once there is any that is still waited for."""
        while True:
            while self.queue:
                piece = self.queue.popleft()
                if _numbers(piece) & self._lacking():
                    return piece
            self._stirred.clear()
            await self._stirred.wait()

    async def rest(self) -> None:
        """Return when nobody waits for anything."""
        await self._none.wait()

    def end(self, why: Exception) -> None:
        """Tell whoever waits that nothing more comes."""
        self.over = why
        for wish in tuple(self._waiting):
            self._forget(wish)
            if not wish.granted.done():
                wish.granted.set_exception(why)

    def _forget(self, wish: _Wish) -> None:
        if wish in self._waiting:
            self._waiting.remove(wish)
        if not self._waiting:
            self._none.set()

    def _lacking(self) -> set[tuple[bytes, int]]:
        return set().union(*(wish.lacking for wish in self._waiting))


def _numbers(piece: Piece) -> set[tuple[bytes, int]]:
    return {(piece.pack_id, chunk.number) for chunk in piece.chunks}
