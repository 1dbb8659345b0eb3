"""Checked value types for the names of things: facilities, entries, DICOM UIDs, AE titles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NewType

from protocol.errors import Malformed

PEER_ID_BYTES: Final = 32
ENTRY_ID_BYTES: Final = 16
UID_CHARACTERS: Final = 64
"""PS3.5 section 9.1."""
AE_TITLE_CHARACTERS: Final = 16
"""PS3.5 section 6.2, VR AE."""

PeerId = NewType("PeerId", bytes)
"""A facility: its 32-byte Ed25519 root public key, which is its own fingerprint."""

EntryId = NewType("EntryId", bytes)
"""An entry of a journal: 16 random bytes, never derived from a UID."""

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class PatientIdentifier:
    """A Patient ID with the authority that issued it (Issuer of Patient ID; '' if unknown)."""

    issuer: str
    value: str


def peer_id(data: object) -> PeerId:
    """Return `data` as a PeerId, or raise Malformed."""
    if not isinstance(data, bytes) or len(data) != PEER_ID_BYTES:
        msg = f"a facility's identity is {PEER_ID_BYTES} bytes"
        raise Malformed(msg)
    return PeerId(data)


def entry_id(data: object) -> EntryId:
    """Return `data` as an EntryId, or raise Malformed."""
    if not isinstance(data, bytes) or len(data) != ENTRY_ID_BYTES:
        msg = f"an entry id is {ENTRY_ID_BYTES} bytes"
        raise Malformed(msg)
    return EntryId(data)


def is_uid(text: str) -> bool:
    """Return whether `text` is a DICOM UID as found in the wild.

    PS3.5 section 9.1 forbids leading zeros in a component; real archives hold such UIDs and they
    must pass unaltered, so only the characters, the dots and the length are judged.
    """
    return len(text) <= UID_CHARACTERS and _UID.fullmatch(text) is not None


def is_ae_title(text: str) -> bool:
    r"""Return whether `text` is an AE title: 1-16 characters, no backslash, no control."""
    stripped = text.strip(" ")
    return (
        len(stripped) > 0
        and len(text) <= AE_TITLE_CHARACTERS
        and all(" " <= character <= "~" and character != "\\" for character in text)
    )
