"""Finding partners' entries by the labels that a search computes.

Labels are uniform, so each new one belongs on a page of its own: with some millions of them, every
transaction would write nearly every page.  New ones are therefore kept in a small table, which fits
into the cache, until there are enough of them that one merge in their order writes each page once.
Both tables hold the first bytes of labels; the whole of one is compared in the body that has it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

from peer.index.migrate import Tx
from protocol.identifiers import EntryId, PeerId

LABELS_APART: Final = 250_000
"""So many are merged at once: 5 MB in the small table, and a second or two for the merge."""

PREFIX_BYTES: Final = 5
"""Of a label in the tables: half of the bytes that a label takes there would be the rest of it."""

LABELS_AT_A_TIME: Final = 512
"""In one statement; SQLite allows 32,766 parameters, and looks up what a search asks in one."""

_SLICES: Final = (*(bytes([first]) for first in range(0, 256, 16)), b"\xff" * 17)
"""Where a merge is cut.  Until a statement ends, SQLite keeps every page that it changes as it was,
in memory; a prefix has PREFIX_BYTES, so the last bound lies beyond all of them."""

Row: TypeAlias = tuple[bytes, int | None, int]
"""Label, number of the journal, seq."""


@dataclass(frozen=True, slots=True)
class LabelledEntry:
    """A live entry of a partner's journal that carries a label asked for."""

    origin: PeerId
    seq: int
    entry_id: EntryId
    salt: bytes
    body: bytes


def find(tx: Tx, label: bytes, origin: PeerId | None = None) -> list[LabelledEntry]:
    """Return the live entries that carry `label`, of every partner or of `origin` alone.

    Of an origin that told two histories only what both have in common.
    """
    rows = _with_prefixes(tx, [label[:PREFIX_BYTES]], origin)
    return [_labelled(row) for row in rows if label in row["body"]]


def first_of_each(tx: Tx, asked: Sequence[bytes], origin: PeerId) -> Mapping[bytes, LabelledEntry]:
    """Return the live entry of `origin` that carries each of the labels: the first, if several do.

    A search looks for hundreds of labels, and finds a few: a statement for each would cost more
    than all else that is done for it here.
    """
    found: dict[bytes, LabelledEntry] = {}
    for start in range(0, len(asked), LABELS_AT_A_TIME):
        sought: dict[bytes, list[bytes]] = {}
        for label in asked[start : start + LABELS_AT_A_TIME]:
            sought.setdefault(label[:PREFIX_BYTES], []).append(label)
        for row in _with_prefixes(tx, list(sought), origin):
            for label in sought[row["prefix"]]:
                if label in row["body"]:
                    found.setdefault(label, _labelled(row))
    return found


def _with_prefixes(
    tx: Tx, prefixes: Sequence[bytes], origin: PeerId | None
) -> Iterator[sqlite3.Row]:
    places = ",".join("?" * len(prefixes))
    # CROSS JOIN: SQLite must not begin with the journal and go through all of its entries.
    return tx.execute(
        "SELECT l.prefix, j.origin, e.seq, e.entry_id, b.salt, b.body FROM"  # noqa: S608 - marks
        f" (SELECT prefix, journal, seq FROM journal_labels WHERE prefix IN ({places})"
        "  UNION ALL"
        f" SELECT prefix, journal, seq FROM journal_new_labels WHERE prefix IN ({places})) l"
        " CROSS JOIN journals j ON j.journal = l.journal"
        " CROSS JOIN journal_entries e ON e.journal = l.journal AND e.seq = l.seq"
        " CROSS JOIN journal_bodies b ON b.id = e.body"
        " WHERE (? IS NULL OR j.origin = ?)"
        " AND (j.common_seq IS NULL OR e.seq <= j.common_seq) ORDER BY e.seq",
        (*prefixes, *prefixes, origin, origin),
    )


def record(tx: Tx, origin: PeerId, entry_id: EntryId) -> LabelledEntry | None:
    """Return a live entry of a partner's journal by its id, or None."""
    row = tx.execute(
        "SELECT j.origin, e.seq, e.entry_id, b.salt, b.body FROM journals j"
        " JOIN journal_standings s ON s.journal = j.journal AND s.entry_id = ?"
        " JOIN journal_entries e ON e.journal = j.journal AND e.seq = s.seq"
        " JOIN journal_bodies b ON b.id = e.body"
        " WHERE j.origin = ? AND s.leaf IS NOT NULL",
        (entry_id, origin),
    ).fetchone()
    return None if row is None else _labelled(row)


def add(tx: Tx, rows: Sequence[Row]) -> None:
    """Let live entries be found by their labels."""
    found = sorted((label[:PREFIX_BYTES], journal, seq) for label, journal, seq in rows)
    tx.executemany("INSERT OR IGNORE INTO journal_new_labels VALUES (?, ?, ?)", found)
    apart = tx.execute("SELECT count(*) FROM journal_new_labels").fetchone()[0]
    if apart >= LABELS_APART:
        _merge(tx)


def _labelled(row: sqlite3.Row) -> LabelledEntry:
    return LabelledEntry(
        PeerId(row["origin"]), row["seq"], EntryId(row["entry_id"]), row["salt"], row["body"]
    )


def _merge(tx: Tx) -> None:
    for first, beyond in pairwise(_SLICES):
        tx.execute(
            "INSERT OR IGNORE INTO journal_labels SELECT prefix, journal, seq"
            " FROM journal_new_labels WHERE prefix >= ? AND prefix < ?"
            " ORDER BY prefix, journal, seq",
            (first, beyond),
        )
    tx.execute("DELETE FROM journal_new_labels")


def remove(tx: Tx, rows: Sequence[Row]) -> None:
    """Let entries that are no longer live be found no more."""
    for table in ("journal_labels", "journal_new_labels"):
        tx.executemany(
            f"DELETE FROM {table} WHERE prefix = ? AND journal = ? AND seq = ?",  # noqa: S608 - names from above
            [(label[:PREFIX_BYTES], journal, seq) for label, journal, seq in rows],
        )
