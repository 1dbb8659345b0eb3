"""Digests of patients for whom nobody asks, put into a reader's copy of a journal while it is off.

The rows are those that a followed journal leaves there, of the sizes and shapes of
`tests.benchmarks.archive`, with random bytes in place of what is sealed.  They stand at positions
that the journal never reaches.  Labels come in order, which is how a merge leaves them.
"""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass

from tests.benchmarks.archive import (
    LONG_SHARE,
    LONG_STUDY,
    PATIENT_BODY,
    SHORT_STUDY,
    STUDIES_PER_PATIENT,
)

FIRST_SEQ = 10**12
ROWS_AT_A_TIME = 20_000
SLOTS = 16


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
    chance = random.Random(1)
    with closing(sqlite3.connect(database, isolation_level=None)) as tx:
        for setting in ("journal_mode = WAL", "synchronous = OFF", "cache_size = -65536"):
            tx.execute(f"PRAGMA {setting}")
        journals = [each for (each,) in tx.execute("SELECT journal FROM journals")]
        patients = round(studies / STUDIES_PER_PATIENT / len(journals))
        share = round(studies / len(journals))
        for journal in journals:
            _entries(tx, journal, share, patients, chance)
        labels = len(journals) * (share + patients * SLOTS)
        _labels(tx, journals, share, patients, labels, chance)
        tx.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Filled(
        share * len(journals), patients * len(journals), labels, database.stat().st_size - before
    )


def _entries(tx, journal, studies, patients, chance):
    sizes = [PATIENT_BODY] * patients
    sizes += [LONG_STUDY if chance.random() < LONG_SHARE else SHORT_STUDY for _ in range(studies)]
    # Studies and patients stand as they were published: mixed.
    order = list(range(len(sizes)))
    chance.shuffle(order)
    for start in range(0, len(order), ROWS_AT_A_TIME):
        some = order[start : start + ROWS_AT_A_TIME]
        tx.execute("BEGIN")
        first = tx.execute("SELECT coalesce(max(id), 0) + 1 FROM journal_bodies").fetchone()[0]
        tx.executemany(
            "INSERT INTO journal_bodies VALUES (?, ?, ?)",
            ((first + i, os.urandom(16), os.urandom(sizes[each])) for i, each in enumerate(some)),
        )
        ids = [_ordered(start + i, len(order), 16) for i in range(len(some))]
        seqs = [FIRST_SEQ + start + i for i in range(len(some))]
        tx.executemany(
            "INSERT INTO journal_entries VALUES (?, ?, ?, ?, ?)",
            (
                (journal, seq, entry_id, os.urandom(32), first + i)
                for i, (seq, entry_id) in enumerate(zip(seqs, ids, strict=True))
            ),
        )
        tx.executemany(
            "INSERT INTO journal_standings VALUES (?, ?, ?, ?)",
            (
                (journal, entry_id, seq, os.urandom(32))
                for seq, entry_id in zip(seqs, ids, strict=True)
            ),
        )
        tx.execute("COMMIT")


def _labels(tx, journals, studies, patients, count, chance):
    entries = studies + patients
    for start in range(0, count, ROWS_AT_A_TIME):
        tx.execute("BEGIN")
        tx.executemany(
            "INSERT INTO journal_labels VALUES (?, ?, ?)",
            (
                (
                    _ordered(number, count, 16),
                    chance.choice(journals),
                    FIRST_SEQ + chance.randrange(entries),
                )
                for number in range(start, min(start + ROWS_AT_A_TIME, count))
            ),
        )
        tx.execute("COMMIT")


def _ordered(number, count, size):
    """Return the `number`th of `count` uniform values, in their order."""
    step = 2 ** (8 * size) // count
    return (number * step + int.from_bytes(os.urandom(8), "big") % step).to_bytes(size, "big")
