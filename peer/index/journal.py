"""Our own journal, in the encrypted index.  Only `publish` appends to it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

from peer.index import epochs, meta
from peer.index.batches import save
from peer.index.held import Held
from peer.index.migrate import Tx
from protocol.compaction import is_due
from protocol.entries import HEADER_DOMAIN, Header, header_hash
from protocol.errors import Refusal
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Head, NewEntry, Publish, append, epoch_of, portions
from protocol.limits import HEADER_BYTES
from protocol.messages import OriginHead
from protocol.records import from_bytes
from protocol.signing import sign

_HALTED: Final = "journal.halted"
_FENCED: Final = "journal.fenced"


class Halt(StrEnum):
    """Why nothing may be appended, across restarts, until the journal is recovered."""

    BEHIND = "behind"
    """The journal lacks, or may lack, what it had signed."""
    FORKED = "forked"
    """A partner holds another history under our signature."""
    REGAINED = "regained"
    """The journal is whole again; what stands about it in the index is not."""


MOVED_AT_A_TIME: Final = 256
"""Live entries of one step of compaction: one batch of the usual size."""


class JournalKeys(Protocol):
    """What it takes to write a journal."""

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""

    @property
    def node_seed(self) -> bytes:
        """Ed25519 seed of the node key."""


def append_entries(
    tx: Tx, keys: JournalKeys, entries: Sequence[NewEntry], now: int, lease_s: int
) -> Head:
    """Sign and store the next batch (more than one only if one is too small); return the new head.

    No entries renew the lease.  Bodies that are no longer live are erased in this transaction: call
    `Database.checkpoint_truncate` after its commit if any entry is a withdrawal.  Raise Refusal
    while the journal is halted.
    """
    _must_not_be_halted(tx)
    held = Held(tx, keys.peer_id)
    first, *rest = portions(entries) or [()]
    newest = _append(held, held.head(), keys, first, now, lease_s)
    for portion in rest:
        newest = _append(held, newest, keys, portion, now, lease_s)
    return newest


def compact(tx: Tx, keys: JournalKeys, now: int, lease_s: int, least: int) -> Head | None:
    """Move the oldest live entries to the tail and raise the floor, if that is due; or None.

    `least`: so many positions must be dead.  A live entry is published again as it is, under its id
    and with its salt, so that nothing else that refers to it changes.  Each call is complete in
    itself: there is nothing to resume.
    """
    held = Held(tx, keys.peer_id)
    newest = held.head()
    _must_not_be_halted(tx)
    if newest is None or not is_due(newest, least) or held.incomplete_from() is not None:
        return None
    oldest = held.oldest_live(MOVED_AT_A_TIME + 1)
    again = [Publish(EntryId(each.entry_id), each.salt, each.payload) for each in oldest]
    moved = next(iter(portions(again[:MOVED_AT_A_TIME])), ())
    floor = oldest[len(moved)].seq if len(moved) < len(oldest) else newest.last_seq + 1
    return _append(held, newest, keys, moved, now, lease_s, floor)


def _must_not_be_halted(tx: Tx) -> None:
    if halted(tx) is not None:
        code = "journal-halted"
        reason = (
            "This facility's own journal is older than what it has signed before: it was restored "
            "from a backup or copied, and signing on would tell two histories."
        )
        remedy = "It goes on by itself once every partner has answered; see: openpriors status"
        raise Refusal(code, reason, remedy)


def _append(
    held: Held,
    newest: Head | None,
    keys: JournalKeys,
    entries: Sequence[NewEntry],
    now: int,
    lease_s: int,
    floor: int | None = None,
) -> Head:
    advance = append(
        newest,
        keys.peer_id,
        entries,
        held,
        now=now,
        lease_s=lease_s,
        sign=lambda header: sign(keys.node_seed, HEADER_DOMAIN, header),
        floor=floor,
        epoch=epochs.newest(held.tx, keys.peer_id),
    )
    save(held, advance)
    return advance.head


def head(tx: Tx, me: PeerId) -> Head | None:
    """Return where our journal ends; None before its batch 0."""
    return Held(tx, me).head()


def applied(tx: Tx, me: PeerId, claim: OriginHead | None) -> int | None:
    """Return the seq up to which `claim` shows our journal to be applied; None: it shows nothing.

    A claim counts by the header that it names, which must be ours, and not by what else it says:
    who claims more than there is would have acknowledged every withdrawal to come.
    """
    header = _claimed(tx, me, claim)
    return None if header is None else header.last_seq


def live_at(tx: Tx, me: PeerId, claim: OriginHead | None) -> int | None:
    """Return how many of our entries were live at the head that `claim` names; None as above."""
    header = _claimed(tx, me, claim)
    return None if header is None else header.live_count


def _claimed(tx: Tx, me: PeerId, claim: OriginHead | None) -> Header | None:
    header = None if claim is None else _named(tx, me, claim)
    # Whoever is joining names its head without acknowledging anything.
    return header if header and claim and claim.last_seq >= header.last_seq else None


def _named(tx: Tx, me: PeerId, claim: OriginHead) -> Header | None:
    held = Held(tx, me).header(claim.batch)
    if held is None or header_hash(held.header) != claim.header_hash:
        return None
    return from_bytes(Header, held.header, HEADER_BYTES)


def holds(tx: Tx, me: PeerId, claim: OriginHead) -> bool:
    """Return whether our journal has the header that `claim` names, or has made it void."""
    return claim.epoch < epochs.newest(tx, me) or _named(tx, me, claim) is not None


def begins_epoch(tx: Tx, me: PeerId) -> bool:
    """Return whether the next batch is the first of an epoch."""
    return epochs.newest(tx, me) > epoch_of(head(tx, me))


def halt(tx: Tx, why: Halt) -> None:
    """Append nothing more until `resume`; a fork is not covered up by what is found later."""
    if halted(tx) is not Halt.FORKED:
        meta.put(tx, _HALTED, why.encode())


def halted(tx: Tx) -> Halt | None:
    """Return why nothing may be appended; None: append."""
    value = meta.get(tx, _HALTED)
    return None if value is None else Halt(value.decode())


def end_fork(tx: Tx) -> None:
    """A new epoch makes void what another history said; what is published is to be compared."""
    meta.put(tx, _HALTED, Halt.REGAINED.encode())


def resume(tx: Tx) -> None:
    """Let the journal be appended to again."""
    meta.delete(tx, _HALTED)


def is_fenced(tx: Tx) -> bool:
    """Return whether a fence was ever set up for this journal (`peer.index.fence`)."""
    return meta.get(tx, _FENCED) is not None


def note_fence(tx: Tx) -> None:
    """Remember that there is a fence, so that a missing one is noticed."""
    meta.put(tx, _FENCED, b"1")
