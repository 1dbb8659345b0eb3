"""Headers of regular instances, read without a parser: about ten times as fast as with one.

Most instances that arrive are built in one of a few plain ways.  The scan follows the elements of
such a one and takes what the header needs as it stands.  Whatever is unusual ends it, and the
instance is parsed (`peer.dicom.header.parse_header`), which alone decides what is accepted and what
is noted: the scan refuses nothing, and what it returns equals what parsing returns.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import Final

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian as DeflatedLittleEndian
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from peer.dicom.content import Content
from peer.dicom.header import KEYWORDS, Common, Header, common_of, header_of, parse_header
from peer.dicom.layout import LONG_VRS, PIXEL_TAGS, end_of_items
from peer.dicom.part10 import FILE_META_GROUP, INFLATED_BYTES, PREAMBLE_BYTES, PREFIX, Instance
from peer.dicom.values import VALUES, Reader
from protocol.errors import Refusal
from protocol.identifiers import is_uid

_TAGS: Final = {keyword: tag_for_keyword(keyword) or 0 for keyword in KEYWORDS}
_WANTED: Final = {tag: dictionary_VR(tag) for tag in _TAGS.values()}
"""VR (PS3.6) of every attribute that the header is made from."""

_CHARACTER_SET: Final = 0x00080005
_TRANSFER_SYNTAX: Final = 0x00020010
_FIRST_GROUP: Final = 0x0008
"""A data set begins with it; below are command and file meta information."""
_DELIMITER_GROUP: Final = 0xFFFE
_UNDEFINED: Final = 0xFFFFFFFF
_VALUE_BYTES: Final = 65_536
"""Longest value that is read here; the longest of what is wanted has some hundred bytes."""
_HEAD: Final = 8
_LONG_HEAD: Final = 12

_SHORT_VRS: Final = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN")
) | frozenset((b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"))
"""VRs with a 16-bit length (PS3.5 section 7.1.2)."""

_ENCODINGS: Final = {
    term: python_encoding[term]
    for term in (
        *("ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 144", "ISO_IR 127"),
        *("ISO_IR 126", "ISO_IR 138", "ISO_IR 148", "ISO_IR 192"),
    )
}
"""Character sets in which a byte of ASCII always is that character (PS3.3 table C.12-2)."""

_ENCODED_VRS: Final = frozenset({"LO", "PN", "SH"})
"""Of the VRs wanted, those that Specific Character Set holds for (PS3.5 section 6.1.2.2)."""

_INTEGER: Final = re.compile(r"[+-]?\d{1,9}")
_ODD: Final = re.compile(r"[\x00-\x1f\x7f\ufffd]")

_explicit_head = struct.Struct("<HH2sH").unpack
_implicit_head = struct.Struct("<HHI").unpack
_long = struct.Struct("<I").unpack
_unsigned_short = struct.Struct("<H").unpack


class _Unusual(Exception):
    """Something that is for the parser to judge."""


def read_header(data: Content, inflated_bytes: int = INFLATED_BYTES) -> Header:
    """Return the header of a complete instance; `inflated_bytes` as in `open_instance`.

    Raises as `parse_header` does.
    """
    return scan_header(data) or parse_header(data, inflated_bytes)


def scan_header(data: Content) -> Header | None:
    """Return the header of a regular instance, None for one that must be parsed."""
    try:
        transfer_syntax, offset = _file_meta(data)
        if transfer_syntax in {DeflatedLittleEndian, ExplicitVRBigEndian}:
            return None
        walk = _explicit if transfer_syntax != ImplicitVRLittleEndian else _implicit
        values, pixel_data, pixel_tag = walk(data, offset)
        reader = _Scanned(values)
        instance = Instance(
            transfer_syntax,
            offset,
            len(data) if pixel_data is None else pixel_data,
            pixel_tag,
            regular=True,
            data_set=_NOTHING,
        )
        return header_of(instance, reader, _common(tuple(map(values.get, _COMMON_TAGS))))
    except (_Unusual, Refusal, struct.error, UnicodeError):
        return None


_NOTHING: Final = Dataset()

_OWN: Final = frozenset(
    _TAGS[keyword]
    for keyword in (
        *("BitsAllocated", "Columns", "InstanceNumber", "NumberOfFrames", "Rows"),
        *("SOPClassUID", "SOPInstanceUID"),
    )
)
"""What each instance says for itself."""
_COMMON_TAGS: Final = tuple(sorted(_WANTED.keys() - _OWN))

_SERIES_KEPT: Final = 64
"""Series whose attributes are kept as long as instances of them come: some kilobytes each."""


@lru_cache(_SERIES_KEPT)
def _common(raw: tuple[bytes | None, ...]) -> Common:
    """Return what values of _COMMON_TAGS say; so that for a series it is read once."""
    values = {tag: each for tag, each in zip(_COMMON_TAGS, raw, strict=True) if each is not None}
    return common_of(_Scanned(values))


def _file_meta(data: Content) -> tuple[str, int]:
    """Return transfer syntax and the end of the file meta information (PS3.10 section 7.1)."""
    position, transfer_syntax, before = PREAMBLE_BYTES + len(PREFIX), "", 0
    if bytes(data[PREAMBLE_BYTES:position]) != PREFIX:
        raise _Unusual
    while True:
        group, element, vr, length = _explicit_head(data[position : position + _HEAD])
        if group != FILE_META_GROUP:
            break
        value = position + _HEAD
        if vr in LONG_VRS:
            (length,) = _long(data[value : value + _LONG_HEAD - _HEAD])
            value += _LONG_HEAD - _HEAD
        elif vr not in _SHORT_VRS:
            raise _Unusual
        if element < before or length > len(data) - value:
            raise _Unusual
        if group << 16 | element == _TRANSFER_SYNTAX:
            transfer_syntax = bytes(data[value : value + length]).decode("ascii").strip("\0 ")
        position, before = value + length, element + 1
    if not is_uid(transfer_syntax):
        raise _Unusual
    return transfer_syntax, position


_Found = tuple[dict[int, bytes], int | None, int]
"""Values of the attributes that were met before the pixel data, its offset, and its tag."""


def _explicit(data: Content, position: int) -> _Found:
    values: dict[int, bytes] = {}
    pixel_data, pixel_tag, before, end = None, 0, _FIRST_GROUP << 16, len(data)
    while end - position >= _HEAD:
        group, element, vr, length = _explicit_head(data[position : position + _HEAD])
        tag, value = group << 16 | element, position + _HEAD
        if vr in LONG_VRS:
            (length,) = _long(data[value : value + _LONG_HEAD - _HEAD])
            value += _LONG_HEAD - _HEAD
        elif vr not in _SHORT_VRS:
            raise _Unusual
        if tag < before or group == _DELIMITER_GROUP:
            raise _Unusual
        if tag in PIXEL_TAGS and pixel_data is None:
            pixel_data, pixel_tag = position, tag
        if pixel_data is None and tag in _WANTED:
            if vr.decode("ascii") != _WANTED[tag] or length > _VALUE_BYTES:
                raise _Unusual
            values[tag] = bytes(data[value : value + length])
        position, before = _behind(data, value, length, explicit=True), tag + 1
    if any(bytes(data[position:])):
        raise _Unusual
    return values, pixel_data, pixel_tag


def _implicit(data: Content, position: int) -> _Found:
    values: dict[int, bytes] = {}
    pixel_data, pixel_tag, before, end = None, 0, _FIRST_GROUP << 16, len(data)
    vr = bytes(data[position + 4 : position + 6])
    if vr.isalpha() and vr.isupper():
        raise _Unusual  # It says implicit and is explicit.
    while end - position >= _HEAD:
        group, element, length = _implicit_head(data[position : position + _HEAD])
        tag, value = group << 16 | element, position + _HEAD
        if tag < before or group == _DELIMITER_GROUP:
            raise _Unusual
        if tag in PIXEL_TAGS and pixel_data is None:
            pixel_data, pixel_tag = position, tag
        if pixel_data is None and tag in _WANTED:
            if length > _VALUE_BYTES:
                raise _Unusual
            values[tag] = bytes(data[value : value + length])
        position, before = _behind(data, value, length, explicit=False), tag + 1
    if any(bytes(data[position:])):
        raise _Unusual
    return values, pixel_data, pixel_tag


def _behind(data: Content, value: int, length: int, *, explicit: bool) -> int:
    """Return where the value ends that begins at `value`."""
    if length == _UNDEFINED:
        end = end_of_items(data, value, explicit=explicit)
        if end is None:
            raise _Unusual
        return end
    if length > len(data) - value:
        raise _Unusual
    return value + length


class _Scanned(Reader):
    """Reads the attributes that a scan has met; raises _Unusual for what is odd."""

    def __init__(self, values: dict[int, bytes]) -> None:
        super().__init__(_NOTHING)
        self._values = values
        term = values.get(_CHARACTER_SET, b"").decode("ascii").strip(" ")
        if term and term not in _ENCODINGS:
            raise _Unusual
        self._encoding = _ENCODINGS.get(term, "ascii")

    # typing.override came with Python 3.12.
    def uid(self, keyword: str) -> str:  # type: ignore[explicit-override]
        """Return the attribute without padding, otherwise exactly as it stands."""
        return self._raw(keyword).decode("ascii").strip("\0 ")

    def integer(self, keyword: str) -> int | None:  # type: ignore[explicit-override]
        """Return the attribute as a whole number, or None."""
        raw = self._raw(keyword)
        if not raw:
            return None
        if _WANTED[_TAGS[keyword]] == "US":
            return int(_unsigned_short(raw)[0])
        text = raw.decode("ascii").strip(" \0")
        if text and not _INTEGER.fullmatch(text):
            raise _Unusual
        return int(text) if text else None

    def _texts(self, data_set: Dataset, keyword: str) -> list[str]:  # type: ignore[explicit-override]  # noqa: ARG002
        raw = self._raw(keyword)
        if not raw:
            return []
        encoding = self._encoding if _WANTED[_TAGS[keyword]] in _ENCODED_VRS else "ascii"
        text = raw.decode(encoding).rstrip("\0 ")
        if _ODD.search(text):
            raise _Unusual
        if "\\" not in text:
            return [cut] if (cut := self._clean(text)) else []
        return [cut for each in text.split("\\")[:VALUES] if (cut := self._clean(each))]

    def _items(self, keyword: str) -> list[Dataset]:  # type: ignore[explicit-override]
        if self._raw(keyword):
            raise _Unusual
        return []

    def _raw(self, keyword: str) -> bytes:
        return self._values.get(_TAGS[keyword], b"")
