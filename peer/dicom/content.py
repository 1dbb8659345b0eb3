"""The bytes of an instance, in memory or not, and readers over them that hold little of them."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from protocol.errors import Refusal

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEADER_BYTES: Final = 16 * 1024 * 1024
"""Most that is parsed of a data set before its pixel data; what nobody asks for is stepped over and
does not count.  The functional groups of ten thousand frames have about as much."""

KEPT_BYTES: Final = 8 * 1024 * 1024
"""A deflated data set that unfolds to no more than this is unfolded once, and kept."""

STEP_BYTES: Final = 256 * 1024
"""Unfolded at a time."""


class Content(Protocol):
    """What bytes, memory views and stored instances have in common: a length, and slices."""

    def __len__(self) -> int: ...

    def __getitem__(self, wanted: slice, /) -> Buffer: ...


def truncated() -> Refusal:
    """Return the refusal of a data set that stops in the middle of an element."""
    return Refusal(
        "truncated",
        "The instance ends in the middle of an element: some of it was lost on the way.",
        "Send it again from its source.",
    )


def malformed() -> Refusal:
    """Return the refusal of bytes that no reader can make sense of."""
    return Refusal(
        "malformed",
        "The instance is not built as a DICOM data set.",
        "Check the software that made or sent it.",
    )


class Source(io.BytesIO):
    """A range of a content as a file that can be read and sought.

    Raises Refusal "malformed" once more than HEADER_BYTES of it are read.
    """

    def __init__(self, content: Content, start: int, end: int) -> None:
        super().__init__()
        self._content = content
        self._start = start
        self._end = end
        self._at = start
        self._left = HEADER_BYTES

    # typing.override came with Python 3.12.
    def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[explicit-override]
        """Return the next `size` bytes, fewer at the end."""
        most = max(0, self._end - self._at)
        count = most if size is None or size < 0 else min(size, most)
        self._left -= count
        if self._left < 0:
            raise malformed()
        data = bytes(self._content[self._at : self._at + count])
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:  # type: ignore[explicit-override]
        """Go on at another place."""
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(self._start, base + offset)
        return self.tell()

    def tell(self) -> int:  # type: ignore[explicit-override]
        """Return the place, counted from the start of the range."""
        return self._at - self._start


class Inflated:
    """The data set that a deflated instance unfolds to, from `offset` on (PS3.5 section A.5).

    Read it forwards: to go back means to unfold it from its beginning again.  Raises Refusal
    "oversized" if it has more than `most` bytes, 0 for no bound; "truncated" or "malformed".
    """

    def __init__(self, deflated: Content, offset: int, most: int) -> None:
        self._deflated = deflated
        self._offset = offset
        self._length = 0
        self._rewind()
        kept = bytearray()
        while piece := self._next():
            self._length += len(piece)
            if most and self._length > most:
                raise Refusal(
                    "oversized",
                    f"The deflated data set unfolds to more than {most} bytes.",
                    "Send it in another transfer syntax.",
                )
            if self._length <= KEPT_BYTES:
                kept += piece
        if not self._inflater.eof:
            raise truncated()
        if self._length <= KEPT_BYTES:
            self._window = bytes(kept)
        else:
            self._rewind()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, wanted: slice, /) -> bytes:
        start, stop, _ = wanted.indices(self._length)
        if start < self._window_start:
            self._rewind()
        while self._window_start + len(self._window) < stop:
            piece = self._next()
            if not piece:
                break
            # What lies before is not asked for again as a rule.
            gone = min(max(0, start - self._window_start), len(self._window))
            self._window = self._window[gone:] + piece
            self._window_start += gone
        return self._window[max(0, start - self._window_start) : stop - self._window_start]

    def _rewind(self) -> None:
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._at = self._offset
        self._window = b""
        self._window_start = 0

    def _next(self) -> bytes:
        """Return what is unfolded next, b"" at the end."""
        while not self._inflater.eof:
            folded = self._inflater.unconsumed_tail
            if not folded:
                folded = bytes(self._deflated[self._at : self._at + STEP_BYTES])
                self._at += len(folded)
            try:
                piece = self._inflater.decompress(folded, STEP_BYTES)
            except zlib.error as error:
                raise malformed() from error
            if piece:
                return piece
            if not folded:
                return b""
        return b""
