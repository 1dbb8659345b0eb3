"""What a journal is made of: header, entry and batch as they travel, and their hashes.

Each rule here is final: another leaf, header or hole would be another journal.  The text of record
is docs/protocol/journal.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final

from protocol.errors import Malformed, WrongContent
from protocol.hashing import COMMITMENT, HEADER, LEAF, WITHDRAWAL, merkle_root, tagged
from protocol.limits import BATCH_ENTRIES, ENTRY_BODY_BYTES, HEADER_BYTES
from protocol.nodekeys import NodeKeys, key_at
from protocol.records import (
    Hash,
    Id16,
    Instant,
    Key,
    Natural,
    Range,
    Signature,
    Size,
    from_bytes,
)
from protocol.signing import verify

HEADER_DOMAIN: Final = "header"
VERSION: Final = 1
"""Version of the leaf, header, hole and position rules."""

SALT_BYTES: Final = 16
NO_PREVIOUS: Final = bytes(32)
"""`Header.previous` of batch 0."""

_COMMITMENT_BYTES: Final = 32


class EntryKind(IntEnum):
    """What stands at a position of the journal."""

    PUBLISHED = 0
    WITHDRAWAL = 1
    HOLE = 2
    """Published, and no longer live: body and salt are erased, the commitment is left."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an origin signs of a batch (domain "header").

    `entries_root` is the Merkle root of the leaves of `first_seq` to `last_seq`; an empty batch has
    `last_seq == first_seq - 1`.  `live_count` and `state_digest` describe all entries that are live
    after this batch.  Nothing below the seq `floor` is needed any more.
    """

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
    """One position of the journal.

    `payload` is the body (PUBLISHED, `salt` 16 B), empty (WITHDRAWAL) or the commitment (HOLE).
    """

    seq: Natural
    entry_id: Id16
    kind: Annotated[int, Range(0, 2)]
    salt: Annotated[bytes, Size(0, SALT_BYTES)]
    payload: Annotated[bytes, Size(0, ENTRY_BODY_BYTES)]


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A header exactly as signed; one for each batch is kept for ever, as evidence."""

    header: Annotated[bytes, Size(1, HEADER_BYTES)]
    signature: Signature

    @property
    def hash(self) -> bytes:
        """The hash by which the next header refers to this one, 32 B."""
        return header_hash(self.header)


@dataclass(frozen=True, slots=True)
class SignedBatch:
    """A header exactly as signed, and the entries that it vouches for."""

    header: Annotated[bytes, Size(1, HEADER_BYTES)]
    signature: Signature
    entries: Annotated[tuple[Entry, ...], Size(0, BATCH_ENTRIES)]

    @property
    def signed_header(self) -> SignedHeader:
        """The part that is evidence."""
        return SignedHeader(self.header, self.signature)


def commitment(salt: bytes, body: bytes) -> bytes:
    """Return C of a body under its 16-byte salt, 32 B: it cannot be guessed back once both go."""
    return tagged(COMMITMENT, salt, body)


def leaf(entry: Entry) -> bytes:
    """Return the leaf of an entry, 32 B; a published entry and its hole have the same."""
    position = entry.seq.to_bytes(8, "big")
    match entry.kind:
        case EntryKind.PUBLISHED:
            return tagged(LEAF, position, entry.entry_id, commitment(entry.salt, entry.payload))
        case EntryKind.HOLE:
            return tagged(LEAF, position, entry.entry_id, entry.payload)
        case _:
            return tagged(WITHDRAWAL, position, entry.entry_id)


def header_hash(header: bytes) -> bytes:
    """Return the hash by which the next header refers to this one, 32 B."""
    return tagged(HEADER, header)


def hole(entry: Entry) -> Entry:
    """Return what is left of a published entry once its body and salt are erased."""
    if entry.kind != EntryKind.PUBLISHED:
        return entry
    left = commitment(entry.salt, entry.payload)
    return Entry(entry.seq, entry.entry_id, EntryKind.HOLE, b"", left)


def read_header(signed: SignedHeader, origin: bytes, keys: NodeKeys) -> Header:
    """Return a header after its signature was verified; raise Malformed or BadSignature.

    `keys` are the node keys of `origin`; the position that the header names says which of them.
    """
    header = from_bytes(Header, signed.header, HEADER_BYTES)
    key = key_at(keys, header.epoch, header.batch)
    verify(key, HEADER_DOMAIN, signed.header, signed.signature)
    if header.origin != origin:
        msg = "a header names another origin than the one whose key signed it"
        raise Malformed(msg)
    return header


def check_entries(header: Header, entries: Sequence[Entry]) -> list[bytes]:
    """Return the leaves of `entries`, for which `header` vouches; or WrongContent, Malformed."""
    if len(entries) != header.last_seq - header.first_seq + 1:
        msg = "a batch has more or fewer entries than its header says"
        raise WrongContent(msg)
    for seq, entry in enumerate(entries, header.first_seq):
        if entry.seq != seq:
            msg = "an entry stands at another position than its header says"
            raise WrongContent(msg)
        check_shape(entry)
    leaves = [leaf(entry) for entry in entries]
    if merkle_root(leaves) != header.entries_root:
        msg = "an entry was altered after the batch was signed"
        raise WrongContent(msg)
    return leaves


def check_shape(entry: Entry) -> None:
    """Return if an entry's salt and payload are what its kind calls for; raise Malformed."""
    match entry.kind:
        case EntryKind.PUBLISHED:
            fits = len(entry.salt) == SALT_BYTES and 0 < len(entry.payload) <= ENTRY_BODY_BYTES
        case EntryKind.WITHDRAWAL:
            fits = not entry.salt and not entry.payload
        case _:
            fits = not entry.salt and len(entry.payload) == _COMMITMENT_BYTES
    if not fits:
        msg = "an entry's salt and payload do not fit its kind"
        raise Malformed(msg)
