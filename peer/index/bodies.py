"""The rows that hold bodies and salts: appended, erased in place, and given back in long runs.

SQLite overwrites what it deletes, but where it moves a row from one page to another the old copy
stays in the unused part of the first.  So a row that may still have to be erased must never move.
Erasing overwrites it with zeros of the same length, which SQLite does in place; and rows are
deleted only out of the middle of long runs of erased ones, so that whatever moves is zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peer.index.migrate import Tx
from protocol.entries import Entry

MARGIN: Final = 512
"""Erased rows that stay at either end of a run.  SQLite evens a page out with its neighbours, at
most two on one side, and a page of 4 KiB has at most 150 rows: one has at least 27 bytes."""

RUN: Final = 8 * MARGIN
"""A run is worth deleting from here on: at most a quarter of it stays."""

_ZERO: Final = (
    "UPDATE journal_bodies SET salt = zeroblob(length(salt)), body = zeroblob(length(body))"
)


def add(tx: Tx, entries: Sequence[Entry]) -> dict[int, int]:
    """Store bodies and salts of published entries; return the row of each by its seq."""
    last = tx.execute("SELECT max(id) FROM journal_bodies").fetchone()[0] or 0
    rows = {entry.seq: number for number, entry in enumerate(entries, last + 1)}
    tx.executemany(
        "INSERT INTO journal_bodies VALUES (?, ?, ?)",
        ((rows[entry.seq], entry.salt, entry.payload) for entry in entries),
    )
    return rows


def erase(tx: Tx, journal: int | None, seq: int) -> None:
    """Erase body and salt of one entry; the caller empties the write-ahead log after its commit."""
    which = "SELECT body FROM journal_entries WHERE journal = ? AND seq = ? AND body IS NOT NULL"
    _erase(tx, which, (journal, seq))
    tx.execute(
        "UPDATE journal_entries SET body = NULL WHERE journal = ? AND seq = ?", (journal, seq)
    )


def erase_from(tx: Tx, journal: int | None, seq: int) -> None:
    """Erase every body and salt from `seq` on, of entries that are about to be deleted."""
    which = "SELECT body FROM journal_entries WHERE journal = ? AND seq >= ? AND body IS NOT NULL"
    _erase(tx, which, (journal, seq))


def erase_all(tx: Tx, journal: int | None) -> None:
    """Erase every body and salt of a journal whose entries are about to be deleted."""
    which = "SELECT body FROM journal_entries WHERE journal = ? AND body IS NOT NULL"
    _erase(tx, which, (journal,))


def _erase(tx: Tx, which: str, arguments: tuple[int | None, ...]) -> None:
    tx.execute(f"{_ZERO} WHERE id IN ({which})", arguments)
    tx.execute(f"INSERT INTO journal_erased {which}", arguments)


def give_back(tx: Tx) -> int:
    """Delete erased rows where many lie side by side; return how many went."""
    runs = tx.execute(
        "SELECT min(body), max(body) FROM"
        " (SELECT body, body - row_number() OVER (ORDER BY body) AS run FROM journal_erased)"
        " GROUP BY run HAVING count(*) >= ?",
        (RUN,),
    ).fetchall()
    gone = 0
    for first, last in runs:
        # What is left of a run that was deleted from before is margin enough.
        start = first + (MARGIN if _follows_a_live_row(tx, first) else 0)
        bounds = (start, last - MARGIN)
        gone += tx.execute("DELETE FROM journal_bodies WHERE id BETWEEN ? AND ?", bounds).rowcount
        tx.execute("DELETE FROM journal_erased WHERE body BETWEEN ? AND ?", bounds)
    return gone


def _follows_a_live_row(tx: Tx, body: int) -> bool:
    before = tx.execute("SELECT max(id) FROM journal_bodies WHERE id < ?", (body,)).fetchone()[0]
    erased = tx.execute("SELECT 1 FROM journal_erased WHERE body = ?", (before,)).fetchone()
    return before is not None and erased is None
