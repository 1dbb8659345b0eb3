"""Journals as rows: signed batches, their entries, and how each entry id stands.

The same tables keep our own journal (in the encrypted index) and those of the partners (in a plain
database: they are ciphertext).  What `protocol.journal` verified is stored as one transaction, and
what it says is to be erased is erased in the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from peer.index.labels import add, remove
from peer.index.migrate import Tx
from protocol.entries import Entry, EntryKind, Header, SignedBatch, SignedHeader, hole
from protocol.errors import RemoteProtocolError, Replayed
from protocol.exchange import Loaded
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Advance, Head, Standing, follow, head_of, refill
from protocol.limits import ANSWER_BATCHES, BATCH_ANSWER_BYTES, HEADER_BYTES
from protocol.nodekeys import NodeKeys
from protocol.records import from_bytes

Labels: TypeAlias = Callable[[bytes], Sequence[bytes]]
"""Reads the search labels that stand open in a body."""

ENTRY_OVERHEAD_BYTES: Final = 56
"""What an entry adds to its payload on the wire, at most."""

IDS_AT_A_TIME: Final = 256
"""Entry ids of one question to the database; a live batch has no more."""

_ZERO: Final = (
    "UPDATE journal_bodies SET salt = zeroblob(length(salt)), body = zeroblob(length(body))"
)
"""Of the same length, so that SQLite writes in place and moves no row (see the migration)."""


class Held:
    """What this database holds of one origin's journal: the `Holding` of `protocol.journal`."""

    def __init__(self, tx: Tx, origin: PeerId) -> None:
        self.tx = tx
        self.origin = origin
        row = tx.execute("SELECT journal FROM journals WHERE origin = ?", (origin,)).fetchone()
        self.journal: int | None = None if row is None else row["journal"]
        self._standings: dict[bytes, Standing | None] = {}

    def begin(self) -> int:
        """Return the number under which the journal is kept; the first call gives it one."""
        if self.journal is None:
            row = self.tx.execute(
                "INSERT INTO journals (origin) VALUES (?) RETURNING journal", (self.origin,)
            ).fetchone()
            self.journal = int(row["journal"])
        return self.journal

    def head(self) -> Head | None:
        """Return where the journal ends, as held."""
        row = self.tx.execute(
            "SELECT header FROM journal_batches WHERE journal = ?"
            " ORDER BY epoch DESC, batch DESC LIMIT 1",
            (self.journal,),
        ).fetchone()
        if row is None:
            return None
        signed = bytes(row["header"])
        return head_of(signed, from_bytes(Header, signed, HEADER_BYTES))

    def read_standings(self, entry_ids: Sequence[bytes]) -> None:
        """Read how these ids stand, so that `find` need not ask for each until the next `save`."""
        self._standings = dict.fromkeys(entry_ids)
        for start in range(0, len(entry_ids), IDS_AT_A_TIME):
            some = entry_ids[start : start + IDS_AT_A_TIME]
            rows = self.tx.execute(
                "SELECT entry_id, seq, leaf FROM journal_standings"  # noqa: S608 - question marks
                f" WHERE journal = ? AND entry_id IN ({','.join('?' * len(some))})",
                (self.journal, *some),
            )
            self._standings |= {key: Standing(seq, leaf) for key, seq, leaf in rows}

    def forget_standings(self) -> None:
        """Forget what `read_standings` has read: it is about to change."""
        self._standings = {}

    def find(self, entry_id: EntryId) -> Standing | None:
        """Return how an entry id stands."""
        if entry_id in self._standings:
            return self._standings[entry_id]
        row = self.tx.execute(
            "SELECT seq, leaf FROM journal_standings WHERE journal = ? AND entry_id = ?",
            (self.journal, entry_id),
        ).fetchone()
        return None if row is None else Standing(row["seq"], row["leaf"])

    def live_below(self, seq: int) -> int:
        """Return how many live entries stand below `seq`."""
        row = self.tx.execute(
            "SELECT count(*) FROM journal_standings"
            " WHERE journal = ? AND seq < ? AND leaf IS NOT NULL",
            (self.journal, seq),
        ).fetchone()
        return int(row[0])

    def header(self, batch: int) -> SignedHeader | None:
        """Return the signed header of a batch number in the newest epoch."""
        row = self.tx.execute(
            "SELECT header, signature FROM journal_batches WHERE journal = ? AND batch = ?"
            " ORDER BY epoch DESC LIMIT 1",
            (self.journal, batch),
        ).fetchone()
        return None if row is None else SignedHeader(row["header"], row["signature"])

    def incomplete_from(self) -> int | None:
        """Return the first batch with a live entry whose body never came, None if all came."""
        row = self.tx.execute(
            "SELECT min(batch) FROM journal_missing WHERE journal = ?", (self.journal,)
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def entries(self, first_seq: int, last_seq: int) -> list[Entry]:
        """Return the entries from `first_seq` to `last_seq`, as they stand now."""
        rows = self.tx.execute(
            "SELECT e.seq, e.entry_id, e.commitment, b.salt, b.body FROM journal_entries e"
            " LEFT JOIN journal_bodies b ON b.id = e.body"
            " WHERE e.journal = ? AND e.seq BETWEEN ? AND ? ORDER BY e.seq",
            (self.journal, first_seq, last_seq),
        )
        return [_entry(*row) for row in rows]


def _entry(
    seq: int, entry_id: bytes, commitment: bytes | None, salt: bytes | None, body: bytes | None
) -> Entry:
    if commitment is None:
        return Entry(seq, entry_id, EntryKind.WITHDRAWAL, b"", b"")
    if salt is None or body is None:
        return Entry(seq, entry_id, EntryKind.HOLE, b"", commitment)
    return Entry(seq, entry_id, EntryKind.PUBLISHED, salt, body)


def load(tx: Tx, origin: PeerId, from_batch: int, max_bytes: int = BATCH_ANSWER_BYTES) -> Loaded:
    """Return batches of a journal from `from_batch` on, as many as `max_bytes` on the wire hold.

    There is at least one in the answer if there is one at all.
    """
    held = Held(tx, origin)
    rows = tx.execute(
        "SELECT batch, first_seq, last_seq, header, signature FROM journal_batches"
        " WHERE journal = ? AND batch >= ? ORDER BY batch, epoch LIMIT ?",
        (held.journal, from_batch, ANSWER_BATCHES + 1),
    ).fetchall()
    batches: list[SignedBatch] = []
    through, size = from_batch - 1, 0
    for row in rows[:ANSWER_BATCHES]:
        entries = held.entries(row["first_seq"], row["last_seq"])
        size += HEADER_BYTES + sum(ENTRY_OVERHEAD_BYTES + len(each.payload) for each in entries)
        if batches and size > max_bytes:
            break
        batches.append(SignedBatch(row["header"], row["signature"], tuple(entries)))
        through = row["batch"]
    return Loaded(origin, tuple(batches), through, more=len(batches) < len(rows))


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
    _drop_below_floor(held, header.floor)


def _insert(held: Held, entries: Sequence[Entry]) -> None:
    last = held.tx.execute("SELECT max(id) FROM journal_bodies").fetchone()[0] or 0
    with_body = [entry for entry in entries if entry.kind == EntryKind.PUBLISHED]
    ids = {entry.seq: number for number, entry in enumerate(with_body, last + 1)}
    held.tx.executemany(
        "INSERT INTO journal_bodies VALUES (?, ?, ?)",
        ((ids[entry.seq], entry.salt, entry.payload) for entry in with_body),
    )
    held.tx.executemany(
        "INSERT INTO journal_entries VALUES (?, ?, ?, ?, ?)",
        (
            (
                held.journal,
                entry.seq,
                entry.entry_id,
                None if entry.kind == EntryKind.WITHDRAWAL else hole(entry).payload,
                ids.get(entry.seq),
            )
            for entry in entries
        ),
    )


def _erase(held: Held, seq: int, labels: Labels | None) -> None:
    position = (held.journal, seq)
    for entry in held.entries(seq, seq):
        if labels is not None and entry.kind == EntryKind.PUBLISHED:
            remove(held.tx, [(label, *position) for label in read_labels(labels, entry)])
    held.tx.execute(
        f"{_ZERO} WHERE id ="  # noqa: S608 - a constant
        " (SELECT body FROM journal_entries WHERE journal = ? AND seq = ?)",
        position,
    )
    held.tx.execute(
        "UPDATE journal_entries SET body = NULL WHERE journal = ? AND seq = ?", position
    )
    held.tx.execute("DELETE FROM journal_missing WHERE journal = ? AND seq = ?", position)


def read_labels(labels: Labels, entry: Entry) -> Sequence[bytes]:
    """Return the labels of a published entry; a body that cannot be read is found by none.

    The journal carries bodies without looking into them, so a bad one must not stop it.
    """
    try:
        return labels(entry.payload)
    except RemoteProtocolError:
        return ()


def _drop_below_floor(held: Held, floor: int) -> None:
    if floor <= 1:
        return
    held.tx.execute(
        "DELETE FROM journal_entries WHERE journal = ? AND seq <"
        " (SELECT coalesce(min(first_seq), ?) FROM journal_batches"
        "  WHERE journal = ? AND last_seq >= ? AND last_seq >= first_seq)",
        (held.journal, floor, held.journal, floor),
    )
    held.tx.execute(
        "DELETE FROM journal_standings WHERE journal = ? AND seq < ? AND leaf IS NULL",
        (held.journal, floor),
    )


# -- following a partner ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a run of batches.  `error` ended it; what came before it is stored."""

    head: Head | None
    through: int
    incomplete_from: int | None
    withdrawn: tuple[EntryId, ...]
    erased: bool
    error: RemoteProtocolError | None


def store(
    tx: Tx, origin: PeerId, keys: NodeKeys, batches: Sequence[SignedBatch], labels: Labels
) -> Run:
    """Follow `batches` in order, storing each that verifies; never raises for the origin's faults.

    Batches that are held already are used to fill holes.  If a run brings nothing new at all, the
    error is Replayed.
    """
    held = Held(tx, origin)
    withdrawn: list[EntryId] = []
    head, through, erased = held.head(), -1, False
    error: RemoteProtocolError | None = None
    useful = False
    unlabelled: dict[bytes, Entry] = {}
    for batch in batches:
        held.read_standings([entry.entry_id for entry in batch.entries])
        try:
            advance = follow(head, batch, origin, keys, held)
        except Replayed as replayed:
            error, filled = _fill(held, batch, replayed)
            unlabelled.update((entry.entry_id, entry) for entry in filled)
            useful = useful or bool(filled)
            if not isinstance(error, Replayed):
                break
            through = max(through, from_bytes(Header, batch.header, HEADER_BYTES).batch)
            continue
        except RemoteProtocolError as fault:
            error = fault
            break
        save(held, advance, labels)
        head, through, useful, error = advance.head, advance.head.batch, True, None
        erased = erased or bool(advance.erased)
        for entry_id in advance.standings:
            unlabelled.pop(entry_id, None)
        unlabelled.update((entry.entry_id, entry) for entry in advance.published)
        withdrawn.extend(advance.withdrawn)
    if useful and isinstance(error, Replayed):
        error = None
    add(tx, [(x, held.journal, e.seq) for e in unlabelled.values() for x in read_labels(labels, e)])
    return Run(
        head=head,
        through=through,
        incomplete_from=held.incomplete_from(),
        withdrawn=tuple(withdrawn),
        erased=erased,
        error=error,
    )


def _fill(
    held: Held, batch: SignedBatch, replayed: Replayed
) -> tuple[RemoteProtocolError, list[Entry]]:
    """Fill what is missing from a batch that is held; return the error and the entries filled."""
    header = held.header(from_bytes(Header, batch.header, HEADER_BYTES).batch)
    if header is None or held.incomplete_from() is None:
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
    for entry in filled:
        position = (held.journal, entry.seq)
        body = held.tx.execute(
            "INSERT INTO journal_bodies (salt, body) VALUES (?, ?) RETURNING id",
            (entry.salt, entry.payload),
        ).fetchone()["id"]
        held.tx.execute(
            "UPDATE journal_entries SET body = ? WHERE journal = ? AND seq = ?", (body, *position)
        )
        held.tx.execute("DELETE FROM journal_missing WHERE journal = ? AND seq = ?", position)
    return replayed, filled


def purge(tx: Tx, origin: PeerId) -> bool:
    """Forget all that is held of a removed partner's journal; return whether there was any.

    Proofs of a fork stay.  The caller empties the write-ahead log after its commit.
    """
    held = Held(tx, origin)
    tx.execute(
        f"{_ZERO} WHERE id IN"  # noqa: S608 - a constant
        " (SELECT body FROM journal_entries WHERE journal = ?)",
        (held.journal,),
    )
    for table in ("labels", "new_labels", "missing", "standings", "entries", "batches"):
        tx.execute(f"DELETE FROM journal_{table} WHERE journal = ?", (held.journal,))  # noqa: S608 - names from above
    tx.execute("DELETE FROM journals WHERE journal = ?", (held.journal,))
    tx.execute("DELETE FROM witnesses WHERE partner = ?", (origin,))
    tx.execute("DELETE FROM acknowledgements WHERE partner = ?", (origin,))
    return held.journal is not None
