"""Command sets of C-STORE as bytes: implicit VR little endian, group 0000 (PS3.7 section 9.3.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

C_STORE_RQ: Final = 0x0001
C_STORE_RSP: Final = 0x8001
NO_DATA_SET: Final = 0x0101

_AFFECTED_SOP_CLASS: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_MESSAGE_ID_ANSWERED: Final = 0x0120
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_ERROR_COMMENT: Final = 0x0902
_AFFECTED_SOP_INSTANCE: Final = 0x1000

_HEAD: Final = struct.Struct("<HHI")
_SHORT: Final = struct.Struct("<H")


@dataclass(frozen=True, slots=True)
class Command:
    """What decides about a message; of a C-STORE request also what is stored."""

    field: int
    has_data_set: bool
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str


def read_command(data: bytes | bytearray | memoryview) -> Command | None:
    """Return the command set in `data`, None if it is none."""
    found: dict[int, bytes] = {}
    position = 0
    try:
        while position < len(data):
            group, element, length = _HEAD.unpack_from(data, position)
            position += _HEAD.size
            if group or length > len(data) - position:
                return None
            found[element] = bytes(data[position : position + length])
            position += length
        return Command(
            _SHORT.unpack(found[_COMMAND_FIELD])[0],
            _SHORT.unpack(found[_DATA_SET_TYPE])[0] != NO_DATA_SET,
            _SHORT.unpack(found.get(_MESSAGE_ID, b"\0\0"))[0],
            found.get(_AFFECTED_SOP_CLASS, b"").decode("ascii").strip("\0 "),
            found.get(_AFFECTED_SOP_INSTANCE, b"").decode("ascii").strip("\0 "),
        )
    except (KeyError, struct.error, UnicodeError):
        return None


def store_answer(request: Command, status: int, comment: str) -> bytes:
    """Return the command set of a C-STORE response (PS3.7 table 9.3-2)."""
    elements = [
        _element(_AFFECTED_SOP_CLASS, request.sop_class_uid.encode(), b"\0"),
        _element(_COMMAND_FIELD, _SHORT.pack(C_STORE_RSP)),
        _element(_MESSAGE_ID_ANSWERED, _SHORT.pack(request.message_id)),
        _element(_DATA_SET_TYPE, _SHORT.pack(NO_DATA_SET)),
        _element(_STATUS, _SHORT.pack(status)),
    ]
    if comment:
        elements.append(_element(_ERROR_COMMENT, comment.encode("ascii", "replace"), b" "))
    elements.append(_element(_AFFECTED_SOP_INSTANCE, request.sop_instance_uid.encode(), b"\0"))
    body = b"".join(elements)
    return _element(0x0000, struct.pack("<I", len(body))) + body


def _element(number: int, value: bytes, padding: bytes = b"") -> bytes:
    value += padding * (len(value) % 2)
    return _HEAD.pack(0, number, len(value)) + value
