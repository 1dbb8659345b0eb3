"""Our own journal, in the encrypted index.  Only `publish` appends to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from peer.index import meta
from peer.index.batches import save
from peer.index.held import Held
from peer.index.migrate import Tx
from protocol.compaction import is_due
from protocol.entries import HEADER_DOMAIN, Header, SignedHeader, header_hash
from protocol.errors import Refusal
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Head, NewEntry, Publish, append, portions
from protocol.limits import HEADER_BYTES
from protocol.messages import OriginHead
from protocol.records import from_bytes, to_bytes
from protocol.signing import sign

_HALTED: Final = "journal.halted"

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
    if newest is None or not is_due(newest, least) or held.incomplete_from() is not None:
        return None
    _must_not_be_halted(tx)
    oldest = held.oldest_live(MOVED_AT_A_TIME + 1)
    again = [Publish(EntryId(each.entry_id), each.salt, each.payload) for each in oldest]
    moved = next(iter(portions(again[:MOVED_AT_A_TIME])), ())
    floor = oldest[len(moved)].seq if len(moved) < len(oldest) else newest.last_seq + 1
    return _append(held, newest, keys, moved, now, lease_s, floor)


def _must_not_be_halted(tx: Tx) -> None:
    if meta.get(tx, _HALTED) is not None:
        code = "journal-halted"
        reason = (
            "A partner holds a part of this facility's own journal that this database lacks: it was"
            " restored from a backup or copied, and signing on would tell two histories."
        )
        raise Refusal(code, reason, "Recover the journal from the partners before publishing.")


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
    held = None if claim is None else Held(tx, me).header(claim.batch)
    if claim is None or held is None or header_hash(held.header) != claim.header_hash:
        return None
    return from_bytes(Header, held.header, HEADER_BYTES)


def halt(tx: Tx, me: PeerId, signed: SignedHeader, batch: int) -> bool:
    """Sign nothing more, because `signed` is ours and not held here; return whether that is so.

    The exchange judged by a head that may be older than this transaction.
    """
    held = Held(tx, me).header(batch)
    if held is not None and held.header == signed.header:
        return False
    meta.put(tx, _HALTED, to_bytes(signed))
    return True


def halted(tx: Tx) -> bool:
    """Return whether our journal is halted."""
    return meta.get(tx, _HALTED) is not None
