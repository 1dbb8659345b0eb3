"""The journal: what one facility, the origin, tells its partners, in signed batches."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from protocol.limits import BATCH_ENTRIES, ENTRY_BODY_BYTES, HEADER_BYTES
from protocol.records import Hash, Id16, Instant, Key, Natural, Range, Signature, Size

HEADER_DOMAIN: Final = "header"
VERSION: Final = 1


class EntryKind(IntEnum):
    """What stands at a position of the journal."""

    PUBLISHED = 0
    WITHDRAWAL = 1
    HOLE = 2
    """Published once, then withdrawn: only the commitment is left."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an origin signs of a batch."""

    version: Annotated[int, Range(VERSION, VERSION)]
    origin: Key
    epoch: Natural
    batch: Natural
    first_seq: Natural
    last_seq: Natural
    floor: Natural
    previous: Hash
    entries_root: Hash
    live_count: Natural
    state_digest: Hash
    issued_at: Instant
    fresh_until: Instant


@dataclass(frozen=True, slots=True)
class Entry:
    """One position of the journal."""

    seq: Natural
    entry_id: Id16
    kind: Annotated[int, Range(0, 2)]
    salt: Annotated[bytes, Size(0, 16)]
    payload: Annotated[bytes, Size(0, ENTRY_BODY_BYTES)]


@dataclass(frozen=True, slots=True)
class SignedBatch:
    """A header exactly as signed, and the entries that it vouches for."""

    header: Annotated[bytes, Size(1, HEADER_BYTES)]
    signature: Signature
    entries: Annotated[tuple[Entry, ...], Size(0, BATCH_ENTRIES)]
