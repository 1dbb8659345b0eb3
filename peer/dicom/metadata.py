"""The header of an instance as DICOM JSON (PS3.18 annex F), its bulk data by reference.

Only the bytes before the pixel data are needed (`Header.header_length` of them).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final, TypeAlias

from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from peer.dicom.content import malformed
from peer.dicom.layout import NESTING
from peer.dicom.part10 import UNREADABLE, is_encapsulated, open_instance
from peer.errors import NotFound

Json: TypeAlias = dict[str, Any]

INLINE_BYTES: Final = 1024
"""Longest binary value that stands in the answer itself."""

_BULK_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_PIXEL_GROUP: Final = 0x7FE0
_GROUP_LENGTH: Final = 0


def metadata(header: bytes, transfer_syntax_uid: str, pixel_tag: int, bulk_data_uri: str) -> Json:
    """Return the DICOM JSON of an instance from its first `header_length` bytes.

    `bulk_data_uri` is the address under which `bulk_data` is served; a path is appended to it.
    `pixel_tag` is the tag of the pixel data, 0 without.  Attributes that cannot be read are left
    out.  Raises Refusal "malformed" for bytes that are no header.
    """
    data_set = open_header(header)
    described = _data_set(data_set, bulk_data_uri, 0)
    described["00083002"] = {"vr": "UI", "Value": [transfer_syntax_uid]}
    if pixel_tag:
        vr = "OB" if is_encapsulated(transfer_syntax_uid) else "OW"
        uri = f"{bulk_data_uri}/{pixel_tag:08X}"
        described[f"{pixel_tag:08X}"] = {"vr": vr, "BulkDataURI": uri}
    return described


def open_header(header: bytes) -> Dataset:
    """Return the data set in the first bytes of an instance; raise Refusal "malformed"."""
    try:
        return dcmread(BytesIO(header), stop_before_pixels=True)
    except UNREADABLE as error:
        raise malformed() from error


def bulk_data(data: bytes, path: str) -> bytes:
    """Return the value of an element of a complete instance, little endian.

    `path` is tags and item numbers ("54000100/0/54001010").  Raises NotFound if it leads nowhere.
    """
    open_instance(data, 0)
    try:
        value: Any = dcmread(BytesIO(data))
        big_endian = value.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
        vr = ""
        for part in path.split("/"):
            if isinstance(value, Dataset):
                element = value[int(part, 16)]
                value, vr = element.value, element.VR
            else:
                value = value[int(part)]
    except UNREADABLE as error:
        raise _no_such_value() from error
    if not isinstance(value, (bytes, bytearray)):
        raise _no_such_value()
    width = _WORD_BYTES.get(vr, 1) if big_endian else 1
    return _swapped(bytes(value), width)


_WORD_BYTES: Final = {"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}


def _swapped(value: bytes, width: int) -> bytes:
    if width == 1:
        return value
    whole = len(value) // width * width
    swapped = bytearray(value)
    for position in range(width):
        swapped[position:whole:width] = value[width - 1 - position : whole : width]
    return bytes(swapped)


def _no_such_value() -> NotFound:
    return NotFound("The instance has no binary value under this path.")


def _data_set(data_set: Dataset, uri: str, depth: int) -> Json:
    if depth > NESTING:
        raise malformed()
    described: Json = {}
    for tag in sorted(data_set.keys()):
        if tag.element == _GROUP_LENGTH or tag.group == _PIXEL_GROUP:
            continue
        try:
            described[f"{tag:08X}"] = _element(data_set[tag], f"{uri}/{tag:08X}", depth)
        except UNREADABLE:
            continue
    return described


def _element(element: DataElement, uri: str, depth: int) -> Json:
    if element.VR == "SQ":
        items = [
            _data_set(item, f"{uri}/{number}", depth + 1)
            for number, item in enumerate(element.value)
        ]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    value = element.value
    if element.VR in _BULK_VRS and isinstance(value, bytes) and len(value) > INLINE_BYTES:
        return {"vr": element.VR, "BulkDataURI": uri}
    return element.to_json_dict(None, INLINE_BYTES)
