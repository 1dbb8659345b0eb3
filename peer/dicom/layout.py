"""Where the elements of a data set lie, without reading their values (PS3.5 section 7.1).

pydicom accepts a data set that stops anywhere; an archive must not.  This walk visits every
top-level element, steps into what has undefined length, and so knows whether the last element is
all there and where the pixel data begins.  It follows pydicom where real files break the rules: a
VR that is not two capital letters means that the element is implicit.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from peer.dicom.content import Content, truncated
from protocol.errors import Refusal

PIXEL_TAGS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, Double Float and plain Pixel Data (PS3.3 section C.7.6.24)."""

NESTING: Final = 32
"""Deepest nesting of sequences that is followed; structured reports stay below a dozen."""

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_HEAD: Final = 8
LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
"""VRs with a 32-bit length after two reserved bytes (PS3.5 section 7.1.2)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a walk over a data set found."""

    explicit: bool
    """Whether the first element is in explicit VR, whatever the transfer syntax says."""
    pixel_data: int | None
    """Offset of the first pixel data element."""
    pixel_tag: int
    """Its tag, 0 if there is none."""
    regular: bool
    """False if a sequence is not built as the standard says; its end was then not found."""


class _Irregular(Exception):
    """Something stands where an item should."""


def survey(data: Content, start: int, *, explicit: bool, little_endian: bool) -> Layout:
    """Walk the data set that begins at `start` and ends with `data`.

    Raises Refusal "truncated" if it stops in the middle of an element, "malformed" if it is nested
    deeper than NESTING.
    """
    vr = bytes(data[start + 4 : start + 6])
    if len(vr) == 2:  # noqa: PLR2004 - a VR
        explicit = vr.isalpha() and vr.isupper()
    walk = _Walk(data, explicit=explicit, little_endian=little_endian)
    try:
        walk.top_level(start)
        regular = True
    except _Irregular:
        regular = False
    return Layout(explicit, walk.pixel_data, walk.pixel_tag, regular)


def end_of_items(data: Content, start: int, *, explicit: bool) -> int | None:
    """Return where the items of undefined length end that begin at `start`, little endian.

    None if they are irregular; raises Refusal as `survey` does.
    """
    try:
        return _Walk(data, explicit=explicit, little_endian=True).items(start, 1)
    except _Irregular:
        return None


class _Walk:
    def __init__(self, data: Content, *, explicit: bool, little_endian: bool) -> None:
        self.pixel_data: int | None = None
        self.pixel_tag = 0
        self._data = data
        self._end = len(data)
        self._explicit = explicit
        order = "<" if little_endian else ">"
        self._head = struct.Struct(order + "HHI").unpack
        self._short = struct.Struct(order + "H").unpack
        self._long = struct.Struct(order + "I").unpack

    def top_level(self, position: int) -> None:
        while self._end - position >= _HEAD:
            tag, length, value = self._element(position)
            if tag in PIXEL_TAGS and self.pixel_data is None:
                self.pixel_data, self.pixel_tag = position, tag
            position = self._skip(value, length, 0)
        if any(bytes(self._data[position:])):  # Zeros at the end are padding of a transport.
            raise truncated()

    def _element(self, position: int) -> tuple[int, int, int]:
        """Return tag, length and the offset of the value of the element at `position`."""
        if self._end - position < _HEAD:
            raise truncated()
        head = bytes(self._data[position : position + _HEAD])
        group, element, length = self._head(head)
        value = position + _HEAD
        if self._explicit and group != _ITEM >> 16:
            vr = head[4:6]
            if vr in LONG_VRS:
                if self._end - value < 4:  # noqa: PLR2004 - the long length
                    raise truncated()
                (length,) = self._long(self._data[value : value + 4])
                value += 4
            elif b"AA" <= vr <= b"ZZ":
                (length,) = self._short(head[6:])
        return group << 16 | element, length, value

    def _skip(self, value: int, length: int, depth: int) -> int:
        """Return where the value ends that begins at `value`."""
        if length == _UNDEFINED:
            return self.items(value, depth + 1)
        if length > self._end - value:
            raise truncated()
        return value + length

    def items(self, position: int, depth: int) -> int:
        """Return where the items end that begin at `position`: of a sequence or of pixel data."""
        if depth > NESTING:
            raise Refusal(
                "malformed",
                f"The instance nests sequences more than {NESTING} deep.",
                "Check the software that made it.",
            )
        while True:
            if self._end - position < _HEAD:
                raise truncated()
            group, element, length = self._head(self._data[position : position + _HEAD])
            tag = group << 16 | element
            position += _HEAD
            if tag == _SEQUENCE_END:
                return position
            if tag != _ITEM:
                raise _Irregular
            if length == _UNDEFINED:
                position = self._data_set(position, depth)
            else:
                position = self._skip(position, length, depth)

    def _data_set(self, position: int, depth: int) -> int:
        """Return where the item of undefined length ends that begins at `position`."""
        outer = self._explicit
        vr = bytes(self._data[position + 4 : position + 6])
        # An item may be implicit in an explicit data set, never the other way round.
        self._explicit = outer and vr.isalpha() and vr.isupper()
        while True:
            if self._end - position < _HEAD:
                raise truncated()
            tag, length, value = self._element(position)
            if tag == _ITEM_END:
                self._explicit = outer
                return value
            if tag == _SEQUENCE_END:
                raise _Irregular
            position = self._skip(value, length, depth)
