"""An instance as a file (PS3.10 section 7): its parts, and whether it is all there."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import dcmread, read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from peer.config import Ingest
from peer.dicom.content import Content, Inflated, Source, malformed, truncated
from peer.dicom.layout import Layout, survey
from protocol.errors import Refusal
from protocol.identifiers import is_uid

PREAMBLE_BYTES: Final = 128
PREFIX: Final = b"DICM"
FILE_META_GROUP: Final = 0x0002

INFLATED_BYTES: Final = Ingest().max_inflated_bytes
"""Longest data set that a deflated instance may unfold to: a few kilobytes can claim gigabytes.
The transfer syntax is meant for reports, which are far below."""

IMPLEMENTATION_CLASS_UID: Final = "2.25.179217351236218243011478361862135146293"
"""Ours, in file meta information that we write (PS3.7 section D.3.3.2.1)."""

UNREADABLE: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom raises, somewhere, for bytes that are not what they claim to be."""


@dataclass(frozen=True, slots=True)
class Instance:
    """The parts of an instance; offsets are into the bytes it was opened from."""

    transfer_syntax_uid: str
    data_set_offset: int
    """Where the file meta information ends and the data set begins."""
    header_length: int
    """How many bytes from the start hold everything before the pixel data."""
    pixel_tag: int
    """Tag of the pixel data element, 0 if there is none."""
    regular: bool
    """False if a sequence is built against the rules, so that the end was not found."""
    data_set: Dataset
    """Everything before the pixel data."""


def open_instance(
    data: Content, inflated_bytes: int = INFLATED_BYTES, tags: Sequence[int] | None = None
) -> Instance:
    """Return the parts of a complete instance; of its data set only `tags`, if they are given.

    `inflated_bytes`: longest data set that a deflated one may unfold to; 0 for one that is held,
    and was measured when it came.  Raises Refusal: "not-dicom", "missing-transfer-syntax",
    "truncated", "malformed", "oversized".
    """
    transfer_syntax, offset = read_file_meta(data)
    if transfer_syntax == DeflatedExplicitVRLittleEndian:
        body = Inflated(data, offset, inflated_bytes)
        layout, data_set = _read_data_set(body, 0, transfer_syntax, tags)
        header_length = len(data)
    else:
        layout, data_set = _read_data_set(data, offset, transfer_syntax, tags)
        header_length = len(data) if layout.pixel_data is None else layout.pixel_data
    return Instance(
        transfer_syntax, offset, header_length, layout.pixel_tag, layout.regular, data_set
    )


def _read_data_set(
    data: Content, offset: int, transfer_syntax: str, tags: Sequence[int] | None
) -> tuple[Layout, Dataset]:
    little_endian = transfer_syntax != ExplicitVRBigEndian
    explicit = transfer_syntax != ImplicitVRLittleEndian
    layout = survey(data, offset, explicit=explicit, little_endian=little_endian)
    end = len(data) if layout.pixel_data is None else layout.pixel_data
    stream = BytesIO(data[offset:end]) if tags is None else Source(data, offset, end)
    wanted = None if tags is None else list(tags)
    try:
        data_set = read_dataset(stream, not layout.explicit, little_endian, specific_tags=wanted)
    except UNREADABLE as error:
        raise malformed() from error
    return layout, data_set


def read_file_meta(data: Content) -> tuple[str, int]:
    """Return the transfer syntax, and where the file meta information ends.

    The beginning of an instance suffices.  Raises Refusal as `open_instance` does.
    """
    start = PREAMBLE_BYTES + len(PREFIX)
    if bytes(data[PREAMBLE_BYTES:start]) != PREFIX:
        raise Refusal(
            "not-dicom",
            "This is not a DICOM file: the preamble and the letters DICM are missing.",
            "Send instances in the DICOM file format (PS3.10).",
        )
    stream = Source(data, 0, len(data))
    stream.seek(start)
    try:
        meta = read_dataset(stream, False, True, stop_when=_behind_file_meta)
        transfer_syntax = str(meta.get("TransferSyntaxUID", "")).strip("\0 ")
    except UNREADABLE as error:
        raise malformed() from error
    if not is_uid(transfer_syntax):
        if len(data) == stream.tell() and not meta:
            raise truncated()
        raise Refusal(
            "missing-transfer-syntax",
            "The file does not say in which transfer syntax it is encoded.",
            "Write it again with complete file meta information (PS3.10 section 7.1).",
        )
    return transfer_syntax, stream.tell()


def _behind_file_meta(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >> 16 != FILE_META_GROUP


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return what stands in a file before the data set (PS3.10 section 7.1).

    It names nothing but the instance, so that the same instance becomes the same bytes whoever sent
    it.
    """
    elements = b"".join(
        (
            _element(0x0001, b"OB", b"\0\1"),
            _element(0x0002, b"UI", sop_class_uid.encode("ascii")),
            _element(0x0003, b"UI", sop_instance_uid.encode("ascii")),
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii")),
            _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii")),
        )
    )
    length = _element(0x0000, b"UL", struct.pack("<I", len(elements)))
    return b"".join((bytes(PREAMBLE_BYTES), PREFIX, length, elements))


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    """Return one element of group 0002, explicit VR little endian (PS3.5 section 7.1.2)."""
    value += b"\0" * (len(value) % 2)
    tag = struct.pack("<HH", 2, number) + vr
    if vr == b"OB":
        return tag + struct.pack("<HI", 0, len(value)) + value
    return tag + struct.pack("<H", len(value)) + value


def is_encapsulated(transfer_syntax_uid: str) -> bool:
    """Return whether pixel data is a sequence of fragments (PS3.5 section A.4).

    A private transfer syntax tells only in its pixel data element; native is assumed.
    """
    uid = UID(transfer_syntax_uid)
    return uid.is_transfer_syntax and not uid.is_private and uid.is_encapsulated


def data_set_in(data: bytes, transfer_syntax_uid: str) -> bytes:
    """Return the data set of an instance, written in another uncompressed transfer syntax.

    Both are little endian; no value changes.  Raises Refusal "malformed".
    """
    try:
        read = dcmread(BytesIO(data), force=True)
        target = DicomBytesIO()
        target.is_little_endian = True
        target.is_implicit_VR = transfer_syntax_uid == ImplicitVRLittleEndian
        write_dataset(target, read)
    except UNREADABLE as error:
        raise malformed() from error
    return target.getvalue()
