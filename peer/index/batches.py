"""Journals as rows: signed batches, their entries, and how each entry id stands.

The same tables keep our own journal (in the encrypted index) and those of the partners (in a plain
database: they are ciphertext).  What `protocol.journal` verified is stored as one transaction, and
what it says is to be erased is erased in the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from peer.index import bodies, forks, orphans
from peer.index.held import Held
from peer.index.labels import add, remove
from peer.index.migrate import Tx
from protocol.entries import Entry, EntryKind, Header, SignedBatch, SignedHeader, hole, read_header
from protocol.epochs import SignedEpoch
from protocol.errors import RemoteProtocolError, Replayed
from protocol.events import Loaded
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Advance, Head, follow, is_joining, refill
from protocol.limits import ANSWER_BATCHES, BATCH_ANSWER_BYTES, EPOCHS, HEADER_BYTES
from protocol.messages import OriginHead
from protocol.nodekeys import NodeKeys
from protocol.records import from_bytes

Labels: TypeAlias = Callable[[bytes], Sequence[bytes]]
"""Reads the search labels that stand open in a body."""

ENTRY_OVERHEAD_BYTES: Final = 56
"""What an entry adds to its payload on the wire, at most."""


def load(
    tx: Tx,
    origin: PeerId,
    from_batch: int,
    max_bytes: int = BATCH_ANSWER_BYTES,
    *,
    epoch: int = 0,
    to_origin: bool = False,
) -> Loaded:
    """Return batches of a journal from `from_batch` on, as many as `max_bytes` on the wire hold.

    There is at least one in the answer if there is one at all.  What lies below the floor comes
    without its entries, and then the newest header comes too, to show that it may.  `epoch`: the
    one that the asker holds; the records of those after it come along.  `to_origin`: what has come
    without its entries goes on so before the floor has, for an origin must see what it has signed.
    """
    held = Held(tx, origin)
    rows = tx.execute(
        "SELECT batch, first_seq, last_seq, header, signature FROM journal_batches"
        " WHERE journal = ? AND batch >= ? ORDER BY batch, epoch LIMIT ?",
        (held.journal, from_batch, ANSWER_BATCHES + 1),
    ).fetchall()
    batches: list[SignedBatch] = []
    through, size = from_batch - 1, 0
    newest: SignedHeader | None = None
    for row in rows[:ANSWER_BATCHES]:
        entries = held.entries(row["first_seq"], row["last_seq"])
        if not entries and row["first_seq"] <= row["last_seq"]:
            if row["last_seq"] >= held.floor and not to_origin:
                break  # Not fetched yet here either: nothing shows that it may be lacking.
            newest = newest or held.newest_header()
        size += HEADER_BYTES + sum(ENTRY_OVERHEAD_BYTES + len(each.payload) for each in entries)
        if batches and size > max_bytes:
            break
        batches.append(SignedBatch(row["header"], row["signature"], tuple(entries)))
        through = row["batch"]
    epochs = epochs_after(tx, origin, epoch)
    return Loaded(origin, tuple(batches), through, len(batches) < len(rows), newest, epochs)


def epochs_after(tx: Tx, origin: PeerId, epoch: int) -> tuple[SignedEpoch, ...]:
    """Return the root-signed records of the epochs that came after `epoch`, oldest first."""
    rows = tx.execute(
        "SELECT record, signature FROM journal_epochs WHERE origin = ? AND epoch > ?"
        " ORDER BY epoch LIMIT ?",
        (origin, epoch, EPOCHS),
    )
    return tuple(SignedEpoch(row["record"], row["signature"]) for row in rows)


# -- storing ------------------------------------------------------------------------------------


def save(held: Held, advance: Advance, labels: Labels | None = None) -> None:
    """Store one verified or newly signed batch with all that it changes.

    Bodies and salts of entries that are no longer live go in the same transaction; the caller
    empties the write-ahead log after its commit.  With `labels` those of what is erased go too;
    those of what is new come at the end of a run.
    """
    tx, journal, header = held.tx, held.begin(), advance.header
    held.forget_standings()
    for seq in sorted(advance.erased):
        if seq < header.first_seq:
            _erase(held, seq, labels)
    tx.execute(
        "INSERT INTO journal_batches VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            journal,
            header.epoch,
            header.batch,
            header.first_seq,
            header.last_seq,
            advance.batch.header,
            advance.batch.signature,
        ),
    )
    _insert(held, [hole(e) if e.seq in advance.erased else e for e in advance.batch.entries])
    tx.executemany(
        "INSERT INTO journal_standings VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET seq = excluded.seq, leaf = excluded.leaf",
        ((journal, key, stands.seq, stands.leaf) for key, stands in advance.standings.items()),
    )
    tx.executemany(
        "INSERT INTO journal_missing VALUES (?, ?, ?, ?)",
        ((journal, e.seq, header.epoch, header.batch) for e in advance.holes),
    )
    if labels is not None and header.epoch:
        record = held.epoch(header.epoch)
        if record is not None and record.first_batch == header.batch:
            forks.list_again(held, header.epoch)
    if advance.bare:
        held.note_bare(header.last_seq)
    # While joining, what is below a floor still counts as live here, and is erased in the end.
    if header.floor > held.floor and not is_joining(advance.head, held.bare_through()):
        _raise_floor(held, header.floor, advance)


def _insert(held: Held, entries: Sequence[Entry]) -> None:
    rows = bodies.add(held.tx, [each for each in entries if each.kind == EntryKind.PUBLISHED])
    held.tx.executemany(
        "INSERT INTO journal_entries VALUES (?, ?, ?, ?, ?)",
        (
            (
                held.journal,
                entry.seq,
                entry.entry_id,
                None if entry.kind == EntryKind.WITHDRAWAL else hole(entry).payload,
                rows.get(entry.seq),
            )
            for entry in entries
        ),
    )


def _erase(held: Held, seq: int, labels: Labels | None) -> None:
    position = (held.journal, seq)
    for entry in held.entries(seq, seq):
        if labels is not None and entry.kind == EntryKind.PUBLISHED:
            remove(held.tx, [(label, *position) for label in read_labels(labels, entry)])
    bodies.erase(held.tx, *position)
    held.tx.execute("DELETE FROM journal_missing WHERE journal = ? AND seq = ?", position)


def erase_from(held: Held, seq: int, *, labelled: bool) -> None:
    """Erase all entries from `seq` on, as if they had never come; how ids stand is not touched."""
    bodies.erase_from(held.tx, held.journal, seq)
    tables = ("entries", "missing", *(("labels", "new_labels") if labelled else ()))
    for table in tables:
        held.tx.execute(
            f"DELETE FROM journal_{table} WHERE journal = ? AND seq >= ?",  # noqa: S608 - names from above
            (held.journal, seq),
        )


def read_labels(labels: Labels, entry: Entry) -> Sequence[bytes]:
    """Return the labels of a published entry; a body that cannot be read is found by none.

    The journal carries bodies without looking into them, so a bad one must not stop it.
    """
    try:
        return labels(entry.payload)
    except RemoteProtocolError:
        return ()


def _raise_floor(held: Held, floor: int, advance: Advance) -> None:
    """Drop what lies below: withdrawals, entries of batches that end there, rows of their bodies.

    Nothing of it is live.  The headers stay, as evidence.
    """
    ended = [
        (held.journal, entry_id)
        for entry_id, stands in advance.standings.items()
        if stands.leaf is None and stands.seq < floor
    ]
    passed = held.tx.execute(
        "SELECT journal, entry_id FROM journal_entries"
        " WHERE journal = ? AND seq >= ? AND seq < ? AND commitment IS NULL",
        (held.journal, held.floor, floor),
    ).fetchall()
    held.tx.executemany(
        "DELETE FROM journal_standings WHERE journal = ? AND entry_id = ? AND leaf IS NULL",
        [*ended, *(tuple(row) for row in passed)],
    )
    held.tx.execute(
        "DELETE FROM journal_entries WHERE journal = ? AND seq <"
        " (SELECT coalesce(min(first_seq), ?) FROM journal_batches"
        "  WHERE journal = ? AND last_seq >= ? AND last_seq >= first_seq)",
        (held.journal, floor, held.journal, floor),
    )
    held.tx.execute("UPDATE journals SET floor = ? WHERE journal = ?", (floor, held.journal))
    if held.floor // bodies.RUN != floor // bodies.RUN:
        bodies.give_back(held.tx)
    held.floor = floor


# -- following a partner ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a run of batches.  `error` ended it; what came before it is stored."""

    head: Head | None
    through: int
    incomplete_from: int | None
    joining: bool
    withdrawn: tuple[EntryId, ...]
    erased: bool
    error: RemoteProtocolError | None
    early: OriginHead | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing up to the head is lacking that may be live."""
        return self.incomplete_from is None and not self.joining


def store(
    tx: Tx,
    origin: PeerId,
    keys: NodeKeys,
    batches: Sequence[SignedBatch],
    labels: Labels | None,
    newest: SignedHeader | None = None,
) -> Run:
    """Follow `batches` in order, storing each that verifies; never raises for the origin's faults.

    Without `labels` nothing is made to be found by them: our own journal is not searched.
    `newest` came with the batches to show that what lies below its floor may lack its entries.
    Batches that are held already are used to fill holes.  If a run brings nothing new at all, the
    error is Replayed.
    """
    held = Held(tx, origin)
    withdrawn: list[EntryId] = []
    head, through, erased = held.head(), -1, False
    error: RemoteProtocolError | None = None
    useful = False
    unlabelled: dict[bytes, Entry] = {}
    try:
        floor = 0 if newest is None else _shown(held, head, keys, newest).floor
    except RemoteProtocolError as fault:
        error, floor, batches = fault, 0, ()
    early = orphans.places(held)
    for batch in batches:
        held.read_standings([entry.entry_id for entry in batch.entries])
        try:
            advance = follow(head, batch, origin, keys, held, floor)
        except Replayed as replayed:
            error, filled = _fill(held, batch, replayed)
            unlabelled.update((entry.entry_id, entry) for entry in filled)
            useful = useful or bool(filled)
            if not isinstance(error, Replayed):
                break
            through = max(through, from_bytes(Header, batch.header, HEADER_BYTES).batch)
            continue
        except RemoteProtocolError as fault:
            error = orphans.keep(held, batch.signed_header, fault)
            break
        save(held, advance, labels)
        head, through, useful, error = advance.head, advance.head.batch, True, None
        erased = erased or bool(advance.erased)
        for entry_id in advance.standings:
            unlabelled.pop(entry_id, None)
        unlabelled.update((entry.entry_id, entry) for entry in advance.published)
        withdrawn.extend(advance.withdrawn)
        if early and (error := orphans.compare(held, early, batch.signed_header)):
            break
    if useful and isinstance(error, Replayed):
        error = None
    if labels is not None:
        found = ((x, e.seq) for e in unlabelled.values() for x in read_labels(labels, e))
        add(tx, [(label, held.journal, seq) for label, seq in found])
    return Run(
        head=head,
        through=through,
        incomplete_from=held.incomplete_from(),
        joining=is_joining(head, held.bare_through()),
        withdrawn=tuple(withdrawn),
        erased=erased,
        error=error,
        early=orphans.newest(held),
    )


def _shown(held: Held, head: Head | None, keys: NodeKeys, newest: SignedHeader) -> Header:
    """Verify the header that came with an answer, and keep it.

    What comes bare for its sake would lack its entries for ever, should its origin lose it and
    nobody be able to tell of it.
    """
    header = read_header(newest, held.origin, keys)
    if head is None or (head.epoch, head.batch) < (header.epoch, header.batch):
        orphans.hold(held, newest)
    return header


def _fill(
    held: Held, batch: SignedBatch, replayed: Replayed
) -> tuple[RemoteProtocolError, list[Entry]]:
    """Fill what is missing from a batch that is held; return the error and the entries filled."""
    header = held.header(from_bytes(Header, batch.header, HEADER_BYTES).batch)
    if header is None or not batch.entries or held.incomplete_from() is None:
        return replayed, []
    try:
        entries = refill(header, batch)
    except RemoteProtocolError as fault:
        return fault, []
    missing = {
        int(row["seq"])
        for row in held.tx.execute(
            "SELECT seq FROM journal_missing WHERE journal = ?", (held.journal,)
        )
    }
    filled = [e for e in entries if e.seq in missing and e.kind == EntryKind.PUBLISHED]
    rows = bodies.add(held.tx, filled)
    for entry in filled:
        position = (held.journal, entry.seq)
        held.tx.execute(
            "UPDATE journal_entries SET body = ? WHERE journal = ? AND seq = ?",
            (rows[entry.seq], *position),
        )
        held.tx.execute("DELETE FROM journal_missing WHERE journal = ? AND seq = ?", position)
    return replayed, filled


def purge(tx: Tx, origin: PeerId) -> bool:
    """Forget all that is held of a removed partner's journal; return whether there was any.

    Proofs of a fork stay.  The caller empties the write-ahead log after its commit.
    """
    held = Held(tx, origin)
    bodies.erase_all(tx, held.journal)
    for table in ("labels", "new_labels", "missing", "standings", "entries", "batches"):
        tx.execute(f"DELETE FROM journal_{table} WHERE journal = ?", (held.journal,))  # noqa: S608 - names from above
    tx.execute("DELETE FROM journals WHERE journal = ?", (held.journal,))
    tx.execute("DELETE FROM witnesses WHERE partner = ?", (origin,))
    tx.execute("DELETE FROM acknowledgements WHERE partner = ?", (origin,))
    bodies.give_back(tx)
    return held.journal is not None
