"""The pictures that are made for viewers and pages, and the latest of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from peer.config import DicomWeb
from peer.dicom.decoders import Decoders
from peer.dicom.display import Window
from peer.dicom.frames import MediaType, render


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is to look (PS3.18 section 8.3.5.1)."""

    window: Window | None
    longer_side: int | None
    media_type: MediaType


_Key: TypeAlias = tuple[bytes, int, Look]


class Pictures:
    """Makes pictures in worker threads and keeps the latest; whoever asks has shown leave.

    Each takes a processor and the memory of a decoded frame.  The latest are kept because people
    scroll back and forth in a series.
    """

    def __init__(self, settings: DicomWeb) -> None:
        self.decoders = Decoders(settings)
        self._most_bytes = settings.picture_cache_bytes
        self._turns = asyncio.Semaphore(settings.pictures_at_once)
        self._made: OrderedDict[_Key, bytes] = OrderedDict()
        self._bytes = 0

    async def picture(
        self, content_hash: bytes, read: Callable[[], Awaitable[bytes]], number: int, look: Look
    ) -> bytes:
        """Return frame `number` (from 1) of the instance that `read` returns as a picture.

        Raises as `read` and `peer.dicom.frames.render` do.
        """
        key = (content_hash, number, look)
        if (made := self._made.get(key)) is not None:
            self._made.move_to_end(key)
            return made
        async with self._turns:
            made = await asyncio.to_thread(
                render,
                await read(),
                number,
                decoders=self.decoders,
                window=look.window,
                longer_side=look.longer_side,
                media_type=look.media_type,
            )
        self._keep(key, made)
        return made

    def _keep(self, key: _Key, made: bytes) -> None:
        self._bytes += len(made) - len(self._made.pop(key, b""))
        self._made[key] = made
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._made.popitem(last=False)[1])
