"""Patients who are expected, and are searched for ahead."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from peer.index.migrate import Tx


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """One expected patient.  `question`, `asker`: JSON.  `missing`: identities in hex, by blanks.

    `due_at`: when they are searched for next, None once all facilities were searched.  `note`: why
    they are expected; `cause`: what the order is named by, one a line; `wanted`: which priors to
    fetch, in JSON, '' for none; `fetched`: those that were asked for, in JSON.
    """

    expected: int
    question: str
    asker: str
    added_at: int
    until: int
    due_at: int | None
    tried_at: int | None
    missing: str
    studies: int
    sentence: str
    note: str
    cause: str
    wanted: str
    fetched: str


@dataclass(frozen=True, slots=True)
class Why:
    """Why a patient is expected, and which priors are wanted; nothing for a person's own list."""

    note: str = ""
    cause: str = ""
    wanted: str = ""


def add(tx: Tx, question: str, asker: str, why: Why, now: int, until: int) -> None:
    """Put a patient on the list; whoever waits there already in the same name is not added."""
    if waiting(tx, question, asker, why) is not None:
        return
    tx.execute(
        "INSERT INTO expected (question, asker, note, cause, wanted, added_at, until, due_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (question, asker, why.note, why.cause, why.wanted, now, until, now),
    )


def waiting(tx: Tx, question: str, asker: str, why: Why) -> int | None:
    """Return the number of a patient who waits for just this, None if there is none."""
    row = tx.execute(
        "SELECT expected FROM expected WHERE question = ? AND asker = ? AND due_at IS NOT NULL"
        " AND note = ? AND cause = ? AND wanted = ?",
        (question, asker, why.note, why.cause, why.wanted),
    ).fetchone()
    return None if row is None else int(row["expected"])


def withdraw(tx: Tx, name: str, kind: str, causes: Collection[str], kept: Collection[int]) -> int:
    """Take whom somebody of a name and kind expects for any cause off the list, but for `kept`.

    Returns how many there were.
    """
    rows = tx.execute(
        "SELECT expected, cause FROM expected WHERE cause <> ''"
        " AND json_extract(asker, '$.name') = ? AND json_extract(asker, '$.kind') = ?",
        (name, kind),
    ).fetchall()
    gone = [
        (row["expected"],)
        for row in rows
        if row["expected"] not in kept and not set(row["cause"].split("\n")).isdisjoint(causes)
    ]
    tx.executemany("DELETE FROM expected WHERE expected = ?", gone)
    return len(gone)


def stands(tx: Tx, row: ExpectedRow) -> bool:
    """Return whether a patient is still on the list, under a number that may be another's now."""
    found = tx.execute(
        "SELECT 1 FROM expected WHERE expected = ? AND question = ? AND asker = ? AND cause = ?"
        " AND wanted = ?",
        (row.expected, row.question, row.asker, row.cause, row.wanted),
    ).fetchone()
    return found is not None


def due(tx: Tx, now: int) -> Sequence[ExpectedRow]:
    """Return who is to be searched for now, the longest due first."""
    rows = tx.execute(
        "SELECT * FROM expected WHERE due_at <= ? AND until > ? ORDER BY due_at, expected",
        (now, now),
    ).fetchall()
    return [ExpectedRow(**dict(row)) for row in rows]


def tried(
    tx: Tx, expected: int, *, due_at: int | None, now: int, missing: str, studies: int, said: str
) -> None:
    """Note what came of a search."""
    tx.execute(
        "UPDATE expected SET due_at = ?, tried_at = ?, missing = ?, studies = max(studies, ?),"
        " sentence = ? WHERE expected = ?",
        (due_at, now, missing, studies, said, expected),
    )


def fetched(tx: Tx, expected: int, uids: str) -> None:
    """Note which priors were asked for, in JSON."""
    tx.execute("UPDATE expected SET fetched = ? WHERE expected = ?", (uids, expected))


def newest(tx: Tx, limit: int) -> Sequence[ExpectedRow]:
    """Return the patients on the list, the latest first."""
    rows = tx.execute("SELECT * FROM expected ORDER BY expected DESC LIMIT ?", (limit,)).fetchall()
    return [ExpectedRow(**dict(row)) for row in rows]


def count_waiting(tx: Tx) -> int:
    """Return how many are still to be searched for."""
    row = tx.execute("SELECT count(*) AS number FROM expected WHERE due_at IS NOT NULL").fetchone()
    return int(row["number"])


def drop(tx: Tx, expected: int) -> bool:
    """Take a patient off the list; return whether there was one."""
    return tx.execute("DELETE FROM expected WHERE expected = ?", (expected,)).rowcount > 0


def forget(tx: Tx, now: int) -> None:
    """Forget the patients whose time is over."""
    tx.execute("DELETE FROM expected WHERE until <= ?", (now,))
