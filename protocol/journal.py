"""The journal: what one facility, the origin, tells its partners, in signed batches.

`append` is how an origin writes and `follow` how everyone else reads; both apply the one set of
rules that docs/protocol/journal.md states.  One journal has one writer, so the highest `seq` is the
last word: no clock decides, and there is nothing to reconcile.  Bodies are opaque here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from protocol.entries import (
    NO_PREVIOUS,
    VERSION,
    Entry,
    EntryKind,
    Header,
    SignedBatch,
    SignedHeader,
    check_entries,
    check_shape,
    header_hash,
    leaf,
    read_header,
)
from protocol.errors import Gap, LocalProtocolError, Malformed, Replayed
from protocol.forks import ForkFound, ForkProof
from protocol.hashing import merkle_root, plain_hash
from protocol.identifiers import EntryId
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES, HEADER_BYTES, LEASE_MOST_S
from protocol.nodekeys import NodeKeys
from protocol.records import from_bytes, to_bytes

_DIGEST_MODULUS: Final = 1 << 256
_ENTRY_OVERHEAD: Final = 56
"""What an entry adds to its payload as it travels, at most: seq, id, kind, salt and their tags."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a journal ends, as far as it is held; None instead of a Head: nothing is held."""

    epoch: int
    batch: int
    last_seq: int
    floor: int
    header_hash: bytes
    live_count: int
    state_digest: bytes
    issued_at: int
    fresh_until: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal says of an entry id: live at `seq` with `leaf`, or withdrawn at `seq`."""

    seq: int
    leaf: bytes | None


class Holding(Protocol):
    """What a facility holds of one journal, at the head from which a batch is judged."""

    def find(self, entry_id: EntryId) -> Standing | None:
        """Return how an id stands, None if the journal never named it (or below the floor)."""

    def live_below(self, seq: int) -> int:
        """Return how many live entries stand below `seq`; asked only when the floor rises."""

    def header(self, batch: int) -> SignedHeader | None:
        """Return the signed header held for a batch number of this epoch."""


@dataclass(frozen=True, slots=True)
class Publish:
    """An entry to append.  `salt`: 16 fresh random bytes, never used for another body."""

    entry_id: EntryId
    salt: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The end of a live entry, to append."""

    entry_id: EntryId


NewEntry: TypeAlias = Publish | Withdraw


@dataclass(frozen=True, slots=True)
class Advance:
    """One batch, verified or newly signed, and all that it changes: store it as one transaction.

    `standings` replaces what is held of the ids in it; the bodies and salts of the seqs in `erased`
    must go in the same transaction, their commitments stay.  `published` are the entries of this
    batch that are live after it, `withdrawn` the ids that it ended, and `holes` its live entries
    whose body the sender did not have: until a later batch ends them the journal is incomplete.
    """

    batch: SignedBatch
    header: Header
    head: Head
    standings: Mapping[EntryId, Standing]
    erased: frozenset[int]
    published: tuple[Entry, ...]
    withdrawn: tuple[EntryId, ...]
    holes: tuple[Entry, ...]


# -- state --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _State:
    """The live entries, as count and digest, while the entries of one batch are applied."""

    holding: Holding
    floor: int
    live_count: int = 0
    digest: int = 0
    standings: dict[EntryId, Standing] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)

    @classmethod
    def at(cls, head: Head | None, holding: Holding) -> _State:
        if head is None:
            return cls(holding, floor=1)
        digest = int.from_bytes(head.state_digest, "big")
        return cls(holding, head.floor, head.live_count, digest)

    def apply(self, entry: Entry, value: bytes) -> None:
        """Apply one entry with its leaf, in the order of seq; raise Malformed if it may not be."""
        known = self._find(EntryId(entry.entry_id))
        if known is not None and known.leaf is None:
            msg = "an entry id that was withdrawn is used again"
            raise Malformed(msg)
        if known is not None and known.leaf is not None:
            self.live_count -= 1
            self.digest -= _weight(known.leaf, known.seq)
            self.erased.add(known.seq)
        if entry.kind == EntryKind.WITHDRAWAL:
            if known is None:
                msg = "a withdrawal names an entry that is not live"
                raise Malformed(msg)
            self.standings[EntryId(entry.entry_id)] = Standing(entry.seq, None)
            return
        self.live_count += 1
        self.digest += _weight(value, entry.seq)
        self.standings[EntryId(entry.entry_id)] = Standing(entry.seq, value)

    def _find(self, entry_id: EntryId) -> Standing | None:
        known = self.standings.get(entry_id) or self.holding.find(entry_id)
        # What was withdrawn below the floor is forgotten by everyone, so nobody may judge by it.
        forgotten = known is not None and known.leaf is None and known.seq < self.floor
        return None if forgotten else known

    def live_below(self, seq: int) -> int:
        """Return how many entries below `seq` are live after all that was applied."""
        still = sum(
            1 for each in self.standings.values() if each.leaf is not None and each.seq < seq
        )
        # Every old position that fell was live in the holding, or was written by this batch.
        fallen = sum(
            1
            for entry_id in self.standings
            if (old := self.holding.find(entry_id)) and old.leaf is not None and old.seq < seq
        )
        return self.holding.live_below(seq) - fallen + still

    @property
    def digest_bytes(self) -> bytes:
        return (self.digest % _DIGEST_MODULUS).to_bytes(32, "big")


def _weight(value: bytes, seq: int) -> int:
    return int.from_bytes(plain_hash(value + seq.to_bytes(8, "big")), "big")


def _advance(
    batch: SignedBatch, header: Header, entries: Sequence[Entry], state: _State
) -> Advance:
    live = [
        entry
        for entry in entries
        if (stands := state.standings[EntryId(entry.entry_id)]).leaf is not None
        and stands.seq == entry.seq
    ]
    return Advance(
        batch=batch,
        header=header,
        head=head_of(batch.header, header),
        standings=state.standings,
        erased=frozenset(state.erased),
        published=tuple(entry for entry in live if entry.kind == EntryKind.PUBLISHED),
        withdrawn=tuple(each for each, stands in state.standings.items() if stands.leaf is None),
        holes=tuple(entry for entry in live if entry.kind == EntryKind.HOLE),
    )


def head_of(signed: bytes, header: Header) -> Head:
    """Return the head that a header makes; `signed` are the bytes it was read from."""
    return Head(
        epoch=header.epoch,
        batch=header.batch,
        last_seq=header.last_seq,
        floor=header.floor,
        header_hash=header_hash(signed),
        live_count=header.live_count,
        state_digest=header.state_digest,
        issued_at=header.issued_at,
        fresh_until=header.fresh_until,
    )


# -- writing ------------------------------------------------------------------------------------


def portions(entries: Sequence[NewEntry]) -> list[tuple[NewEntry, ...]]:
    """Return `entries` cut, in order, into runs of which each fits into one batch."""
    runs: list[tuple[NewEntry, ...]] = []
    run: list[NewEntry] = []
    size = HEADER_BYTES
    for entry in entries:
        grows = _ENTRY_OVERHEAD + (len(entry.body) if isinstance(entry, Publish) else 0)
        if run and (len(run) == BATCH_ENTRIES or size + grows > BATCH_BYTES):
            runs.append(tuple(run))
            run, size = [], HEADER_BYTES
        run.append(entry)
        size += grows
    if run:
        runs.append(tuple(run))
    return runs


def append(
    head: Head | None,
    origin: bytes,
    entries: Sequence[NewEntry],
    holding: Holding,
    *,
    now: int,
    lease_s: int,
    sign: Callable[[bytes], bytes],
) -> Advance:
    """Return the next batch of our own journal, signed; no entries renew the lease.

    `sign` returns the 64-byte signature of a header's bytes in the domain "header".  The batch must
    be durable before any byte of it leaves: a position is never signed twice.
    """
    if len(portions(entries)) > 1:
        msg = "these entries do not fit into one batch; cut them with portions()"
        raise LocalProtocolError(msg)
    if not 0 < lease_s <= LEASE_MOST_S:
        msg = f"a lease is between 1 and {LEASE_MOST_S} seconds"
        raise LocalProtocolError(msg)
    first_seq = 1 if head is None else head.last_seq + 1
    positioned = tuple(_entry(seq, new) for seq, new in enumerate(entries, first_seq))
    leaves = [leaf(entry) for entry in positioned]
    state = _State.at(head, holding)
    try:
        for entry, value in zip(positioned, leaves, strict=True):
            check_shape(entry)
            state.apply(entry, value)
    except Malformed as error:
        raise LocalProtocolError(str(error)) from error
    header = Header(
        version=VERSION,
        origin=origin,
        epoch=0 if head is None else head.epoch,
        batch=0 if head is None else head.batch + 1,
        first_seq=first_seq,
        last_seq=first_seq + len(positioned) - 1,
        floor=state.floor,
        previous=NO_PREVIOUS if head is None else head.header_hash,
        entries_root=merkle_root(leaves),
        live_count=state.live_count,
        state_digest=state.digest_bytes,
        issued_at=now,
        fresh_until=now + lease_s,
    )
    signed = to_bytes(header)
    batch = SignedBatch(signed, sign(signed), positioned)
    return _advance(batch, header, positioned, state)


def _entry(seq: int, new: NewEntry) -> Entry:
    match new:
        case Publish(entry_id, salt, body):
            return Entry(seq, entry_id, EntryKind.PUBLISHED, salt, body)
        case Withdraw(entry_id):
            return Entry(seq, entry_id, EntryKind.WITHDRAWAL, b"", b"")


# -- reading ------------------------------------------------------------------------------------


def follow(
    head: Head | None, batch: SignedBatch, origin: bytes, keys: NodeKeys, holding: Holding
) -> Advance:
    """Return what the next batch of `origin`'s journal changes, after everything was verified.

    Raise BadSignature; Replayed if the batch is held; ForkFound if another one is held in its
    place or before it; Gap if batches before it are missing; WrongContent if an entry was altered;
    Malformed if the origin itself broke a rule.  No clock is asked: a wrong one costs freshness
    (`frontier.is_fresh`), never data.
    """
    header = read_header(batch.signed_header, origin, keys)
    _check_position(head, header, batch.signed_header, holding)
    leaves = check_entries(header, batch.entries)
    state = _State.at(head, holding)
    for entry, value in zip(batch.entries, leaves, strict=True):
        state.apply(entry, value)
    if (header.live_count, header.state_digest) != (state.live_count, state.digest_bytes):
        msg = "the signed live count or state digest does not follow from the entries"
        raise Malformed(msg)
    if not state.floor <= header.floor <= header.last_seq + 1:
        msg = "the floor falls, or lies beyond the end of the journal"
        raise Malformed(msg)
    if header.floor > state.floor and state.live_below(header.floor):
        msg = "the floor rises above a live entry"
        raise Malformed(msg)
    return _advance(batch, header, batch.entries, state)


def refill(held: SignedHeader, batch: SignedBatch) -> tuple[Entry, ...]:
    """Return the entries of a batch that is held already, verified against the held header.

    What was erased, damaged or sent as a hole before can be filled from them; raise Replayed if the
    header is another one, WrongContent if an entry was altered.  No signature is asked again: the
    bytes of the held header were verified when they came.
    """
    if batch.header != held.header:
        msg = "another header than the one held"
        raise Replayed(msg)
    check_entries(from_bytes(Header, held.header, HEADER_BYTES), batch.entries)
    return batch.entries


def _check_position(
    head: Head | None, header: Header, signed: SignedHeader, holding: Holding
) -> None:
    """Judge epoch, batch number, link and seq of a header that is validly signed."""
    if not header.issued_at < header.fresh_until <= header.issued_at + LEASE_MOST_S:
        msg = "a lease ends before it begins or lasts longer than any may"
        raise Malformed(msg)
    epoch, after = (0, -1) if head is None else (head.epoch, head.batch)
    if header.epoch != epoch:
        msg = "a batch of another epoch needs the root-signed record that begins the epoch"
        raise Gap(msg)
    if header.batch > after + 1:
        msg = "batches before this one are missing"
        raise Gap(msg)
    if header.batch <= after:
        held = holding.header(header.batch)
        if held is not None and held.header != signed.header:
            raise ForkFound(ForkProof(held, signed))
        msg = "a batch that is held already"
        raise Replayed(msg)
    previous, last_seq = (NO_PREVIOUS, 0) if head is None else (head.header_hash, head.last_seq)
    if header.previous != previous:
        held = holding.header(after)
        if held is None:
            msg = "batch 0 names a batch before it"
            raise Malformed(msg)
        raise ForkFound(ForkProof(held, signed))
    if header.first_seq != last_seq + 1:
        msg = "the seqs of a batch do not continue those of the batch before it"
        raise Malformed(msg)
