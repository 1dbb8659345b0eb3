"""What a database holds of one origin's journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from peer.index.migrate import Tx
from protocol.entries import Entry, EntryKind, Header, SignedHeader
from protocol.epochs import EpochRecord
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Head, head_of, is_joining
from protocol.limits import EPOCH_RECORD_BYTES, HEADER_BYTES
from protocol.live import Standing
from protocol.records import from_bytes

IDS_AT_A_TIME: Final = 256
"""Entry ids of one question to the database; a live batch has no more."""


class Held:
    """What this database holds of one origin's journal: the `Holding` of `protocol.journal`."""

    def __init__(self, tx: Tx, origin: PeerId) -> None:
        self.tx = tx
        self.origin = origin
        row = tx.execute(
            "SELECT journal, floor, bare_through FROM journals WHERE origin = ?", (origin,)
        ).fetchone()
        self.journal: int | None = None if row is None else row["journal"]
        self.floor: int = 1 if row is None else row["floor"]
        self._bare_through: int = 0 if row is None else row["bare_through"]
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
        return _head(self.newest_header())

    def head_at(self, batch: int) -> Head | None:
        """Return where the journal ended with a batch; None before batch 0."""
        return _head(self.header(batch))

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
        """Return how many live entries stand below `seq`, with and without their body.

        What stands below the floor is not looked through: nothing of it is live.
        """
        row = self.tx.execute(
            "SELECT (SELECT count(*) FROM journal_entries"
            "  WHERE journal = ?1 AND seq < ?2 AND body IS NOT NULL)"
            " + (SELECT count(*) FROM journal_missing WHERE journal = ?1 AND seq < ?2)",
            (self.journal, seq),
        ).fetchone()
        return int(row[0])

    def live(self) -> Iterator[tuple[EntryId, Standing]]:
        """Yield every live id and how it stands."""
        rows = self.tx.execute(
            "SELECT entry_id, seq, leaf FROM journal_standings"
            " WHERE journal = ? AND leaf IS NOT NULL",
            (self.journal,),
        )
        return ((EntryId(key), Standing(seq, leaf)) for key, seq, leaf in rows)

    def oldest_live(self, count: int) -> list[Entry]:
        """Return the first `count` live entries that are held with their body, in order of seq."""
        rows = self.tx.execute(
            "SELECT e.seq, e.entry_id, e.commitment, b.salt, b.body FROM journal_entries e"
            " JOIN journal_bodies b ON b.id = e.body WHERE e.journal = ? ORDER BY e.seq LIMIT ?",
            (self.journal, count),
        )
        return [_entry(*row) for row in rows]

    def bare_through(self) -> int:
        """Return the last seq of the newest batch that came without its entries, 0 if none did."""
        return self._bare_through

    def joining(self) -> bool:
        """Return whether entries are lacking that may be live (`protocol.journal.is_joining`)."""
        return is_joining(self.head(), self._bare_through)

    def first_bare(self, floor: int) -> int | None:
        """Return the first batch beyond `floor` that is held without its entries, or None."""
        row = self.tx.execute(
            "SELECT min(batch) FROM journal_batches b WHERE journal = ? AND last_seq >= first_seq"
            " AND last_seq >= ? AND NOT EXISTS (SELECT 1 FROM journal_entries e"
            "  WHERE e.journal = b.journal AND e.seq BETWEEN b.first_seq AND b.last_seq)",
            (self.journal, floor),
        ).fetchone()
        return None if row[0] is None else int(row[0])

    def note_bare(self, seq: int) -> None:
        """Note that the entries up to `seq` did not come."""
        self.tx.execute(
            "UPDATE journals SET bare_through = ? WHERE journal = ?", (seq, self.journal)
        )
        self._bare_through = seq

    def end_at(self, head: Head | None) -> None:
        """Let the journal end at a head that it has had, none of whose entries is lacking."""
        self.floor = 1 if head is None else head.floor
        self._bare_through = min(self._bare_through, self.floor - 1)
        self.tx.execute(
            "UPDATE journals SET floor = ?, bare_through = ? WHERE journal = ?",
            (self.floor, self._bare_through, self.journal),
        )

    def header(self, batch: int) -> SignedHeader | None:
        """Return the signed header of a batch number in the newest epoch."""
        row = self.tx.execute(
            "SELECT header, signature FROM journal_batches WHERE journal = ? AND batch = ?"
            " ORDER BY epoch DESC LIMIT 1",
            (self.journal, batch),
        ).fetchone()
        return None if row is None else SignedHeader(row["header"], row["signature"])

    def epoch(self, number: int) -> EpochRecord | None:
        """Return the record that begins an epoch; it was verified when it came."""
        row = self.tx.execute(
            "SELECT record FROM journal_epochs WHERE origin = ? AND epoch = ?",
            (self.origin, number),
        ).fetchone()
        return None if row is None else from_bytes(EpochRecord, row["record"], EPOCH_RECORD_BYTES)

    def newest_header(self) -> SignedHeader | None:
        """Return the signed header of the head."""
        row = self.tx.execute(
            "SELECT header, signature FROM journal_batches WHERE journal = ?"
            " ORDER BY epoch DESC, batch DESC LIMIT 1",
            (self.journal,),
        ).fetchone()
        return None if row is None else SignedHeader(row["header"], row["signature"])

    def incomplete_from(self, beyond: int = -1) -> int | None:
        """Return the first batch with a live entry whose body never came, None if all came.

        `beyond`: the batches up to this one are not looked at.
        """
        row = self.tx.execute(
            "SELECT min(batch) FROM journal_missing WHERE journal = ? AND batch > ?",
            (self.journal, beyond),
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


def _head(signed: SignedHeader | None) -> Head | None:
    if signed is None:
        return None
    return head_of(signed.header, from_bytes(Header, signed.header, HEADER_BYTES))


def _entry(
    seq: int, entry_id: bytes, commitment: bytes | None, salt: bytes | None, body: bytes | None
) -> Entry:
    if commitment is None:
        return Entry(seq, entry_id, EntryKind.WITHDRAWAL, b"", b"")
    if salt is None or body is None:
        return Entry(seq, entry_id, EntryKind.HOLE, b"", commitment)
    return Entry(seq, entry_id, EntryKind.PUBLISHED, salt, body)
