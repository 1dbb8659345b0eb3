"""The statuses that we answer, and are answered (PS3.7 annex C, PS3.4 annexes B and C)."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

SUCCESS: Final = 0x0000
DUPLICATE: Final = 0x0111
WRONG_CLASS: Final = 0x0122
"""SOP class not supported: of the message, not of the context."""
NOT_AUTHORISED: Final = 0x0124
OUT_OF_RESOURCES: Final = 0xA700
CANNOT_COUNT: Final = 0xA701
CANNOT_SEND: Final = 0xA702
UNKNOWN_DESTINATION: Final = 0xA801
DATA_SET_MISMATCH: Final = 0xA900
SOME_FAILED: Final = 0xB000
CANNOT_UNDERSTAND: Final = 0xC000
CANCELLED: Final = 0xFE00
PENDING: Final = 0xFF00
PENDING_UNHEEDED: Final = 0xFF01
"""A match is supplied, and an optional key was not supported."""

ERROR_COMMENT_CHARACTERS: Final = 64
"""PS3.7 section C.4.3, VR LO."""

QUERIES: Final = {
    "bad-query": DATA_SET_MISMATCH,
    "malformed": DATA_SET_MISMATCH,
    "truncated": DATA_SET_MISMATCH,
    "busy": OUT_OF_RESOURCES,
    "not-permitted": NOT_AUTHORISED,
    "role": NOT_AUTHORISED,
    "purpose": NOT_AUTHORISED,
    "not-fetched": CANNOT_SEND,
}
"""Status of C-FIND, C-GET and C-MOVE for a refusal; what is not named here cannot be processed."""


def answer(status: int, comment: str = "") -> Dataset:
    """Return a status with its Error Comment."""
    said = Dataset()
    said.Status = status
    if comment:
        said.ErrorComment = comment[:ERROR_COMMENT_CHARACTERS]
    return said
