"""The evidence of a fork, as it can be handed to anybody and be verified without this node."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from peer.index.forks import ForkRow
from protocol.entries import Header, SignedHeader
from protocol.keyrecord import KeyRecord, SignedKeyRecord
from protocol.limits import HEADER_BYTES, KEY_RECORD_BYTES
from protocol.records import from_bytes

ABOUT: Final = (
    "Two headers of one facility's journal that no honest facility signs both. Check that "
    "key_record is signed by the root key that is `origin`, that both headers are signed by the "
    "node key that it names for their batch, and that they contradict each other: "
    "docs/protocol/journal.md, Forks."
)


def evidence(row: ForkRow, record: SignedKeyRecord) -> dict[str, object]:
    """Return the proof with all that it takes to verify it; bytes in hexadecimal."""
    return {
        "about": ABOUT,
        "origin": row.origin,
        "name": from_bytes(KeyRecord, record.record, KEY_RECORD_BYTES).facility_name,
        "epoch": row.epoch,
        "batch": row.batch,
        "found_at": row.found_at,
        "told_by": row.told_by,
        "first": _header(row.proof.first),
        "second": _header(row.proof.second),
        "key_record": {
            "record": record.record.hex(),
            "signature": record.signature.hex(),
        },
    }


def _header(signed: SignedHeader) -> dict[str, object]:
    fields = asdict(from_bytes(Header, signed.header, HEADER_BYTES))
    return {
        "header": signed.header.hex(),
        "signature": signed.signature.hex(),
        "says": {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in fields.items()
        },
    }
