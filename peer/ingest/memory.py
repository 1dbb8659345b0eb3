"""How much of the node's memory instances on their way in may take, together.

An instance that is not large is in memory as a whole until it is durable, and nobody knows its size
before its end: neither C-STORE nor multipart bodies announce it.  So each grows as its bytes come,
up to `ingest.large_bytes` and within a common bound; one that finds no room waits, which keeps its
sender waiting, and is refused in the end.

Were all to wait for each other, none would ever end.  Therefore room for one instance of the
largest size is kept apart: whoever has found no room first gets it, grows to its end in it, and
leaves it to the next.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from peer.config import Ingest as Settings
from protocol.errors import Refusal

BUSY: Final = "busy"


@dataclass(eq=False, slots=True)
class _Waiting:
    share: Share
    size: int
    tell: Callable[[], None]


class Memory:
    """The common bound.  Safe for use from many threads."""

    def __init__(self, settings: Settings) -> None:
        self.wait_s = settings.memory_wait_s
        self._lock = threading.Lock()
        self._room = settings.memory_bytes - settings.largest_held
        self._eldest: Share | None = None
        self._waiting: deque[_Waiting] = deque()
        self._closed = False

    def share(self) -> Share:
        """Return the share of one instance, which holds nothing yet."""
        return Share(self)

    def close(self) -> None:
        """Let nobody wait any longer: the node stops."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            each.tell()

    def ask(self, share: Share, size: int, tell: Callable[[], None] | None) -> _Waiting | None:
        """Give room to a share; else return its place in the queue, if it has a way to be told."""
        with self._lock:
            if (share is self._eldest or not self._waiting) and self._gave(share, size):
                return None
            waiting = _Waiting(share, size, tell or _nobody)
            if tell is not None and not self._closed:
                self._waiting.append(waiting)
            return waiting

    def leave(self, waiting: _Waiting) -> bool:
        """Leave the queue; return whether room was given before that."""
        with self._lock:
            if self._closed:
                return False
            if waiting not in self._waiting:
                return True
            self._waiting.remove(waiting)
            told = self._serve()
        for tell in told:
            tell()
        return False

    def take_back(self, share: Share) -> None:
        """Take back all that a share holds, and serve those who wait."""
        with self._lock:
            self._room += share.common
            share.common = 0
            if self._eldest is share:
                self._eldest = None
            told = self._serve()
        for tell in told:
            tell()

    def _serve(self) -> list[Callable[[], None]]:
        told = []
        while self._waiting and self._gave(self._waiting[0].share, self._waiting[0].size):
            told.append(self._waiting.popleft().tell)
        return told

    def _gave(self, share: Share, size: int) -> bool:
        if share is self._eldest:
            return True
        if size <= self._room:
            self._room -= size
            share.common += size
            return True
        if self._eldest is None:
            self._eldest = share
            return True
        return False


class Share:
    """What one instance holds: at most `large_bytes`, which is for its reader to see to."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._held = 0
        self.common = 0
        """Bytes of the common room; what it holds of the room that is kept apart is not counted."""

    @property
    def held(self) -> int:
        """Bytes that it holds, of the common room and of what is kept apart."""
        return self._held

    def grow_at_once(self, size: int) -> bool:
        """Hold `size` bytes more if there is room now; return whether there was."""
        if self._memory.ask(self, size, None) is not None:
            return False
        self._held += size
        return True

    async def grow(self, size: int) -> None:
        """Hold `size` bytes more; wait for room, and raise Refusal "busy" if none comes in time."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(told.set)

        waiting = self._memory.ask(self, size, tell)
        if waiting is None:
            self._held += size
            return
        try:
            async with asyncio.timeout(self._memory.wait_s):
                await told.wait()
        except TimeoutError:
            pass
        finally:
            given = self._memory.leave(waiting)
        if not given:
            raise _busy()
        self._held += size

    def grow_blocking(self, size: int) -> None:
        """Do as `grow` does, in a thread."""
        told = threading.Event()
        waiting = self._memory.ask(self, size, told.set)
        if waiting is not None:
            told.wait(self._memory.wait_s)
            if not self._memory.leave(waiting):
                raise _busy()
        self._held += size

    def give_back(self) -> None:
        """Hold nothing any more."""
        self._held = 0
        self._memory.take_back(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()


def _nobody() -> None:
    """Whom nobody waits for."""


def _busy() -> Refusal:
    return Refusal(
        BUSY,
        "The node has no memory for more instances just now.",
        "Send it again in a minute; an operator can raise ingest.memory_bytes.",
    )
