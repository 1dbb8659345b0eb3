"""Patients who are expected, and are searched for ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer.index.migrate import Tx


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """One expected patient.  `question`, `asker`: JSON.  `missing`: identities in hex, by blanks.

    `due_at`: when they are searched for next, None once all facilities were searched.  `note`: why
    they are expected; `cause` names the order; `wanted`: which priors to fetch, in JSON, '' for
    none; `fetched`: those that were asked for, in JSON.
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
    """Put a patient on the list; whoever waits there already in the same name is not added.

    Of a cause only the latest stays.
    """
    known = tx.execute(
        "SELECT 1 FROM expected WHERE question = ? AND asker = ? AND due_at IS NOT NULL"
        " AND note = ? AND cause = ? AND wanted = ?",
        (question, asker, why.note, why.cause, why.wanted),
    ).fetchone()
    if known is not None:
        return
    if why.cause:
        withdraw(tx, asker, why.cause)
    tx.execute(
        "INSERT INTO expected (question, asker, note, cause, wanted, added_at, until, due_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (question, asker, why.note, why.cause, why.wanted, now, until, now),
    )


def withdraw(tx: Tx, asker: str, cause: str) -> int:
    """Take whom somebody expects for a cause off the list; return how many there were."""
    return tx.execute("DELETE FROM expected WHERE asker = ? AND cause = ?", (asker, cause)).rowcount


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


def put_off(tx: Tx, expected: int, due_at: int) -> None:
    """Search for a patient later."""
    tx.execute("UPDATE expected SET due_at = ? WHERE expected = ?", (due_at, expected))


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
