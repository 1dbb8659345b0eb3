"""Root-signed records that begin epochs of a journal, and rewinding to where one begins.

The same tables stand in both databases: the index has our own epochs, the other the partners'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from peer.index import forks, orphans
from peer.index.batches import Run, epochs_after, erase_from, store
from peer.index.held import Held
from peer.index.migrate import Tx
from protocol.entries import (
    NO_PREVIOUS,
    Entry,
    EntryKind,
    SignedBatch,
    SignedHeader,
    header_hash,
    leaf,
    read_header,
)
from protocol.epochs import VERSION, EpochRecord, SignedEpoch, continues, verify_epoch
from protocol.errors import Forked, Gap
from protocol.forks import ForkFound
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Head, epoch_of
from protocol.messages import OriginHead
from protocol.nodekeys import NodeKeys

NONE: Final = -1
"""The batch before batch 0."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What became of a journal when epochs of it were learned of; `newest`: the last on record.

    `dropped`: ids of entries that were live, and that what is void now had published or replaced.
    """

    head: Head | None
    incomplete_from: int | None
    joining: bool
    early: OriginHead | None
    newest: int
    rewound: bool
    dropped: tuple[EntryId, ...]


def newest(tx: Tx, origin: PeerId) -> int:
    """Return the number of the newest epoch of a journal on record; 0 if there is none."""
    query = "SELECT max(epoch) FROM journal_epochs WHERE origin = ?"
    return int(tx.execute(query, (origin,)).fetchone()[0] or 0)


def begin(
    tx: Tx, origin: PeerId, records: Sequence[SignedEpoch], *, labelled: bool = True
) -> Begun:
    """Keep records of epochs, and rewind the journal to where they begin.

    Raise BadSignature or Malformed for a record that is not the origin's, Forked for a second
    one of the same epoch.  `labelled`: entries of this database are found by labels.
    """
    for signed in records:
        _keep(tx, origin, signed)
    held = Held(tx, origin)
    dropped: list[EntryId] = []
    rewound = False
    head = held.head()
    for signed in epochs_after(tx, origin, epoch_of(head)):
        record = verify_epoch(signed, origin)
        orphans.let_go(held, record.epoch, record.first_batch)
        head = held.head()
        if head is None:
            continue
        # Of our own, what never came is gone (`drop_bare`).  A partner's that is being joined may
        # lack entries for the sake of a floor that is void now, which would never be reached.
        is_anew = labelled and held.joining()
        if not is_anew and (
            head.batch < record.first_batch - 1 or continues(record, head.batch, head.header_hash)
        ):
            continue
        before = held.header(record.first_batch - 1)
        is_common = before is not None and header_hash(before.header) == record.previous
        target = record.first_batch - 1 if is_common and not is_anew else NONE
        dropped += rewind(held, target, labelled=labelled)
        rewound = True
    return Begun(
        head=held.head(),
        incomplete_from=held.incomplete_from(),
        joining=held.joining(),
        early=orphans.newest(held),
        newest=newest(tx, origin),
        rewound=rewound,
        dropped=tuple(dict.fromkeys(dropped)),
    )


def drop_forked(tx: Tx, origin: PeerId, run: Run) -> Run:
    """Return what becomes of a run that found a fork in an epoch that has ended.

    The root key has said which history goes on; it is read anew from its beginning.
    """
    held = Held(tx, origin)
    ended = newest(tx, origin) > epoch_of(run.head)
    if not (isinstance(run.error, ForkFound) and ended):
        return run
    dropped = rewind(held, NONE, labelled=True)
    gap = Gap("another history of an epoch that has ended; the journal is read anew")
    return replace(
        run,
        head=None,
        through=NONE,
        incomplete_from=None,
        joining=False,
        withdrawn=(*run.withdrawn, *dropped),
        erased=True,
        error=gap,
    )


def drop_void(tx: Tx, me: PeerId, run: Run) -> Run:
    """Return what becomes of a run that gave us back what an epoch on record has made void.

    A partner that has not heard of the epoch still holds it.  We must not go on behind it.
    """
    begun = begin(tx, me, (), labelled=False)
    if not begun.rewound:
        return run
    return replace(
        run,
        head=begun.head,
        incomplete_from=begun.incomplete_from,
        joining=begun.joining,
        withdrawn=(*run.withdrawn, *begun.dropped),
        erased=True,
        early=begun.early,
    )


def rewind(held: Held, batch: int, *, labelled: bool) -> list[EntryId]:
    """Go back to where a journal stood after `batch` (NONE: to nothing); the headers stay.

    What the void batches had ended counts as live again; its bodies are gone and are asked for.
    Return the ids of entries that stood otherwise.
    """
    tx, journal = held.tx, held.journal
    head = held.head_at(batch)
    if head is not None:
        bare = held.first_bare(head.floor)
        if head.floor < held.floor or (bare is not None and bare <= batch):
            # What lies below a floor that was raised since, or never came because of it, is needed
            # again: everything is read anew.
            return rewind(held, NONE, labelled=labelled)
    last_seq = 0 if head is None else head.last_seq
    tx.execute(
        "INSERT OR IGNORE INTO journal_superseded SELECT ?1, epoch, batch, header, signature"
        " FROM journal_batches WHERE journal = ?2 AND batch > ?3",
        (held.origin, journal, batch),
    )
    tx.execute("DELETE FROM journal_batches WHERE journal = ? AND batch > ?", (journal, batch))
    erase_from(held, last_seq + 1, labelled=labelled)
    held.end_at(head)
    if labelled:
        forks.list_again(held, epoch_of(head))
    rows = tx.execute(
        "DELETE FROM journal_standings WHERE journal = ? AND seq > ? RETURNING entry_id",
        (journal, last_seq),
    ).fetchall()
    changed = {EntryId(row["entry_id"]) for row in rows}
    _stand_again(held, changed)
    held.forget_standings()
    return sorted(changed)


# -- our own journal ----------------------------------------------------------------------------


def drop_bare(held: Held) -> None:
    """Go back to where our journal lacks no entries: what came bare below a floor never reached."""
    if held.joining() and (bare := held.first_bare(held.floor)) is not None:
        rewind(held, bare - 1, labelled=False)


def following(tx: Tx, me: PeerId, known: Sequence[int]) -> EpochRecord:
    """Return the record, yet undated, by which our journal could go on where it ends here.

    `known`: epochs of which others have told.
    """
    held = Held(tx, me)
    bare = held.first_bare(held.floor) if held.joining() else None
    head = held.head() if bare is None else held.head_at(bare - 1)
    return EpochRecord(
        version=VERSION,
        origin=me,
        epoch=max(newest(tx, me), epoch_of(held.head()), *known) + 1,
        first_batch=0 if head is None else head.batch + 1,
        previous=NO_PREVIOUS if head is None else head.header_hash,
        issued_at=0,
    )


def adopt(
    tx: Tx,
    me: PeerId,
    keys: NodeKeys,
    given_back: Sequence[SignedBatch],
    newest_header: SignedHeader | None,
) -> Run | None:
    """Take a partner's history of our journal in the place of ours.

    Return None if the batches do not begin where the two histories part.  For
    `newest_header` see `batches.store`.
    """
    held = Held(tx, me)
    for place, batch in enumerate(given_back):
        header = read_header(batch.signed_header, me, keys)
        ours, before = held.header(header.batch), held.header(header.batch - 1)
        if ours is None or ours.header == batch.header:
            continue
        if header.previous != (NO_PREVIOUS if before is None else header_hash(before.header)):
            return None
        rewind(held, header.batch - 1, labelled=False)
        return store(tx, me, keys, given_back[place:], None, newest_header)
    return None


# -- inside -------------------------------------------------------------------------------------


def _keep(tx: Tx, origin: PeerId, signed: SignedEpoch) -> None:
    record = verify_epoch(signed, origin)
    tx.execute(
        "INSERT OR IGNORE INTO journal_epochs VALUES (?, ?, ?, ?)",
        (origin, record.epoch, signed.record, signed.signature),
    )
    known = tx.execute(
        "SELECT record FROM journal_epochs WHERE origin = ? AND epoch = ?", (origin, record.epoch)
    ).fetchone()
    if bytes(known["record"]) != signed.record:
        msg = "two different records begin one epoch of this journal"
        raise Forked(msg)


def _stand_again(held: Held, entry_ids: set[EntryId]) -> None:
    """Let these ids stand as the entries that are left say; their bodies may be gone."""
    rows = held.tx.execute(
        "SELECT seq, entry_id, commitment, body FROM journal_entries WHERE journal = ?"
        " AND seq >= ? ORDER BY seq",
        (held.journal, held.floor),
    )
    latest = {EntryId(row["entry_id"]): row for row in rows if row["entry_id"] in entry_ids}
    for entry_id, row in latest.items():
        commitment = row["commitment"]
        value = None
        if commitment is not None:
            value = leaf(Entry(row["seq"], entry_id, EntryKind.HOLE, b"", commitment))
        held.tx.execute(
            "INSERT INTO journal_standings VALUES (?, ?, ?, ?)",
            (held.journal, entry_id, row["seq"], value),
        )
        if value is not None and row["body"] is None:
            held.tx.execute(
                "INSERT INTO journal_missing SELECT ?1, ?2, epoch, batch FROM journal_batches"
                " WHERE journal = ?1 AND ?2 BETWEEN first_seq AND last_seq",
                (held.journal, row["seq"]),
            )
