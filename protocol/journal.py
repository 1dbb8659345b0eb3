"""The journal: what one facility, the origin, tells its partners, in signed batches.

`append` is how an origin writes and `follow` how everyone else reads; both apply the one set of
rules that docs/protocol/journal.md states.  One journal has one writer, so the highest `seq` is the
last word: no clock decides, and there is nothing to reconcile.  Bodies are opaque here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

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
from protocol.epochs import check_first
from protocol.errors import Gap, LocalProtocolError, Malformed, Replayed
from protocol.forks import ForkFound, ForkProof
from protocol.hashing import merkle_root
from protocol.identifiers import EntryId
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES, HEADER_BYTES, LEASE_MOST_S
from protocol.live import Holding, Standing, State
from protocol.nodekeys import NodeKeys
from protocol.records import from_bytes, to_bytes

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


def epoch_of(head: Head | None) -> int:
    """Return the epoch in which a journal stands that ends at `head`."""
    return 0 if head is None else head.epoch


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
    `bare`: the batch came without its entries, because a floor lies above them.
    """

    batch: SignedBatch
    header: Header
    head: Head
    standings: Mapping[EntryId, Standing]
    erased: frozenset[int]
    published: tuple[Entry, ...]
    withdrawn: tuple[EntryId, ...]
    holes: tuple[Entry, ...]
    bare: bool = False


def _advance(
    batch: SignedBatch,
    header: Header,
    entries: Sequence[Entry],
    state: State,
    *,
    bare: bool = False,
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
        bare=bare,
    )


def _state_at(head: Head | None, holding: Holding, *, joining: bool = False) -> State:
    if head is None:
        return State(holding, floor=1, live_count=0, digest=0, joining=joining)
    digest = int.from_bytes(head.state_digest, "big")
    return State(holding, head.floor, head.live_count, digest, joining)


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


def append(  # noqa: PLR0913 - all that a header states
    head: Head | None,
    origin: bytes,
    entries: Sequence[NewEntry],
    holding: Holding,
    *,
    now: int,
    lease_s: int,
    sign: Callable[[bytes], bytes],
    floor: int | None = None,
    epoch: int | None = None,
) -> Advance:
    """Return the next batch of our own journal, signed; no entries renew the lease.

    `floor` raises the floor to a seq below which nothing is live after this batch.  `epoch`: of a
    root-signed record that names this batch as its first; None: as before.  `sign` returns the
    64-byte signature of a header's bytes in the domain "header".  The batch must be durable before
    any byte of it leaves: a position is never signed twice.
    """
    if len(portions(entries)) > 1:
        msg = "these entries do not fit into one batch; cut them with portions()"
        raise LocalProtocolError(msg)
    if not 0 < lease_s <= LEASE_MOST_S:
        msg = f"a lease is between 1 and {LEASE_MOST_S} seconds"
        raise LocalProtocolError(msg)
    first_seq = 1 if head is None else head.last_seq + 1
    next_epoch = epoch_of(head) if epoch is None else epoch
    positioned = tuple(_entry(seq, new) for seq, new in enumerate(entries, first_seq))
    leaves = [leaf(entry) for entry in positioned]
    state = _state_at(head, holding)
    try:
        for entry, value in zip(positioned, leaves, strict=True):
            check_shape(entry)
            state.apply(entry, value)
    except Malformed as error:
        raise LocalProtocolError(str(error)) from error
    last_seq = first_seq + len(positioned) - 1
    floor = state.floor if floor is None else floor
    if not state.floor <= floor <= last_seq + 1 or (
        floor > state.floor and state.live_below(floor)
    ):
        msg = "the floor cannot fall, nor rise above a live entry or the end of the journal"
        raise LocalProtocolError(msg)
    header = Header(
        version=VERSION,
        origin=origin,
        epoch=next_epoch,
        batch=0 if head is None else head.batch + 1,
        first_seq=first_seq,
        last_seq=last_seq,
        floor=floor,
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
    head: Head | None,
    batch: SignedBatch,
    origin: bytes,
    keys: NodeKeys,
    holding: Holding,
    floor: int = 0,
) -> Advance:
    """Return what the next batch of `origin`'s journal changes, after everything was verified.

    `floor` is that of any header of this journal whose signature was verified: a batch that ends
    below it may come bare, without its entries.

    Raise BadSignature; Replayed if the batch is held; ForkFound if another one is held in its
    place or before it; Gap if batches before it are missing; WrongContent if an entry was altered;
    Malformed if the origin itself broke a rule.  No clock is asked: a wrong one costs freshness
    (`frontier.is_fresh`), never data.
    """
    header = read_header(batch.signed_header, origin, keys)
    _check_position(head, header, batch.signed_header, holding)
    bare = not batch.entries and header.first_seq <= header.last_seq < floor
    leaves = [] if bare else check_entries(header, batch.entries)
    bare_through = header.last_seq if bare else holding.bare_through()
    state = _state_at(head, holding, joining=bare or is_joining(head, bare_through))
    for entry, value in zip(batch.entries, leaves, strict=True):
        state.apply(entry, value)
    if not state.floor <= header.floor <= header.last_seq + 1:
        msg = "the floor falls, or lies beyond the end of the journal"
        raise Malformed(msg)
    if state.joining:
        if header.floor > bare_through:
            state.settle(header.floor)
    elif header.floor > state.floor and state.live_below(header.floor):
        msg = "the floor rises above a live entry"
        raise Malformed(msg)
    if not state.joining and (header.live_count, header.state_digest) != (
        state.live_count,
        state.digest_bytes,
    ):
        msg = "the signed live count or state digest does not follow from the entries"
        raise Malformed(msg)
    return _advance(batch, header, batch.entries, state, bare=bare)


def is_joining(head: Head | None, bare_through: int) -> bool:
    """Return whether entries are lacking that may have been live at `head`.

    They came in batches without entries up to the seq `bare_through`, because a later floor lies
    above them.  Until a head with such a floor is held, nothing of the journal may be listed, and
    nothing of it counts as applied.
    """
    return head is not None and head.floor <= bare_through


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
    previous, last_seq = (NO_PREVIOUS, 0) if head is None else (head.header_hash, head.last_seq)
    if header.epoch < epoch:
        msg = "a batch of an epoch that has ended"
        raise Replayed(msg)
    if header.epoch > epoch:
        check_first(holding.epoch(header.epoch), header, after, previous)
    if header.batch > after + 1:
        msg = "batches before this one are missing"
        raise Gap(msg)
    if header.batch <= after:
        raise _held_already(header, signed, holding.header(header.batch))
    if header.previous != previous:
        held = holding.header(after)
        if held is None:
            msg = "batch 0 names a batch before it"
            raise Malformed(msg)
        raise ForkFound(ForkProof(held, signed))
    if header.first_seq != last_seq + 1:
        msg = "the seqs of a batch do not continue those of the batch before it"
        raise Malformed(msg)


def _held_already(header: Header, signed: SignedHeader, held: SignedHeader | None) -> Exception:
    """Return what is wrong with a header whose place is taken by `held`."""
    if held is None or held.header == signed.header:
        return Replayed("a batch that is held already")
    if from_bytes(Header, held.header, HEADER_BYTES).epoch != header.epoch:
        return Malformed("a batch before the first one of which the record of its epoch speaks")
    return ForkFound(ForkProof(held, signed))
