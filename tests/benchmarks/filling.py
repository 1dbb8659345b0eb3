"""Digests of patients for whom nobody asks, put into a reader's copy of a journal while it is off.

The rows are those that a followed journal leaves there, of the sizes and shapes of
`tests.benchmarks.archive`, with random bytes in place of what is sealed.  They stand at positions
that the journal never reaches.  Labels come in order, which is how a merge leaves them.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass

from peer.index.labels import PREFIX_BYTES
from tests.benchmarks.archive import (
    LONG_SHARE,
    LONG_STUDY,
    PATIENT_BODY,
    SHORT_STUDY,
    STUDIES_PER_PATIENT,
)

FIRST_SEQ = 10**9
ROWS_AT_A_TIME = 100_000
SLOTS = 16
NUMBERS = (
    "WITH RECURSIVE n(i) AS (SELECT :start UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :beyond)"
)
"""Rows are made by SQLite itself: in Python ten millions of them would take most of an hour."""


@dataclass(frozen=True)
class Filled:
    """What `fill` has added: studies, patients, labels, and bytes of the file for all of them."""

    studies: int
    patients: int
    labels: int
    size: int


def fill(database, studies):
    """Add `studies` digests to each of the journals in `database`, in equal parts."""
    before = database.stat().st_size
    with closing(sqlite3.connect(database, isolation_level=None)) as tx:
        for setting in ("journal_mode = WAL", "synchronous = OFF", "cache_size = -262144"):
            tx.execute(f"PRAGMA {setting}")
        journals = [each for (each,) in tx.execute("SELECT journal FROM journals")]
        patients = round(studies / STUDIES_PER_PATIENT / len(journals))
        share = round(studies / len(journals))
        for journal in journals:
            _entries(tx, journal, share, patients)
        labels = len(journals) * (share + patients * SLOTS)
        _labels(tx, journals, share + patients, labels)
        tx.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Filled(
        share * len(journals), patients * len(journals), labels, database.stat().st_size - before
    )


def _entries(tx, journal, studies, patients):
    first = tx.execute("SELECT coalesce(max(id), 0) + 1 FROM journal_bodies").fetchone()[0]
    count = studies + patients
    # Patients and their studies stand as they were published: one patient after the other.
    length = (
        f"CASE WHEN (i + 1) * {patients} / {count} > i * {patients} / {count} THEN {PATIENT_BODY}"
        f" WHEN abs(random() % 1000) < {round(LONG_SHARE * 1000)} THEN {LONG_STUDY}"
        f" ELSE {SHORT_STUDY} END"
    )
    entry_id = "CAST(printf('%016d', i) AS BLOB)"
    rows = {
        "journal_bodies": f"{first} + i, randomblob(16), randomblob({length})",
        "journal_entries": f"{journal}, {FIRST_SEQ} + i, {entry_id}, randomblob(32), {first} + i",
        "journal_standings": f"{journal}, {entry_id}, {FIRST_SEQ} + i, randomblob(32)",
    }
    for table, row in rows.items():
        for start in range(0, count, ROWS_AT_A_TIME):
            tx.execute(
                f"{NUMBERS} INSERT INTO {table} SELECT {row} FROM n",  # noqa: S608 - from above
                {"start": start, "beyond": min(start + ROWS_AT_A_TIME, count)},
            )


def _labels(tx, journals, entries, count):
    for start in range(0, count, ROWS_AT_A_TIME):
        some = range(start, min(start + ROWS_AT_A_TIME, count))
        chances = struct.unpack(f"<{2 * len(some)}I", os.urandom(8 * len(some)))
        tx.execute("BEGIN")
        tx.executemany(
            "INSERT OR IGNORE INTO journal_labels VALUES (?, ?, ?)",
            (
                (
                    _ordered(number, count, chances[2 * at]),
                    journals[number % len(journals)],
                    FIRST_SEQ + chances[2 * at + 1] % entries,
                )
                for at, number in enumerate(some)
            ),
        )
        tx.execute("COMMIT")


def _ordered(number, count, chance):
    """Return the `number`th of `count` uniform prefixes, in their order.  `chance`: 32 bits."""
    step = 2 ** (8 * PREFIX_BYTES) // count
    return (number * step + chance % step).to_bytes(PREFIX_BYTES, "big")
