"""Alerts: what people of this facility should look at, until one of them says that they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peer.index.migrate import Tx

OPEN_FOR_EACH: Final = 100
"""Alerts of one kind about one partner that are told apart.  A partner chooses the pseudonyms it
sends, and must not fill this database with them: what comes beyond is counted in one more."""

OTHERS: Final = "others"
"""The person of that last alert."""


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert.  `person`: a name here or a partner's pseudonym.  Instants: Unix seconds."""

    alert: int
    kind: str
    partner: bytes | None
    person: str
    reason: str
    first_at: int
    last_at: int
    times: int
    acknowledged_at: int | None
    acknowledged_by: str


def put(tx: Tx, kind: str, partner: bytes | None, person: str, reason: str, now: int) -> None:
    """Raise an alert, or count it to an open one that says the same."""
    known = _open(tx, kind, partner, person, reason)
    if known is None and _count_open(tx, kind, partner) >= OPEN_FOR_EACH:
        person, reason = OTHERS, ""
        known = _open(tx, kind, partner, person, reason)
    if known is None:
        tx.execute(
            "INSERT INTO alerts (kind, partner, person, reason, first_at, last_at, times)"
            " VALUES (?, ?, ?, ?, ?, ?, 1)",
            (kind, partner, person, reason, now, now),
        )
    else:
        tx.execute("UPDATE alerts SET last_at = ?, times = times + 1 WHERE alert = ?", (now, known))


def _open(tx: Tx, kind: str, partner: bytes | None, person: str, reason: str) -> int | None:
    row = tx.execute(
        "SELECT alert FROM alerts WHERE kind = ? AND partner IS ? AND person = ? AND reason = ?"
        " AND acknowledged_at IS NULL",
        (kind, partner, person, reason),
    ).fetchone()
    return None if row is None else int(row["alert"])


def _count_open(tx: Tx, kind: str, partner: bytes | None) -> int:
    row = tx.execute(
        "SELECT count(*) FROM alerts WHERE kind = ? AND partner IS ? AND acknowledged_at IS NULL",
        (kind, partner),
    ).fetchone()
    return int(row[0])


def get(tx: Tx, alert: int) -> AlertRow | None:
    """Return one alert."""
    row = tx.execute("SELECT * FROM alerts WHERE alert = ?", (alert,)).fetchone()
    return None if row is None else AlertRow(**dict(row))


def latest(tx: Tx, limit: int, *, open_only: bool) -> Sequence[AlertRow]:
    """Return the latest `limit` alerts, those that are open first."""
    rows = tx.execute(
        "SELECT * FROM alerts WHERE acknowledged_at IS NULL OR NOT ?"
        " ORDER BY acknowledged_at IS NOT NULL, last_at DESC, alert DESC LIMIT ?",
        (open_only, limit),
    )
    return [AlertRow(**dict(row)) for row in rows]


def count_open(tx: Tx) -> int:
    """Return how many alerts nobody has acknowledged."""
    row = tx.execute("SELECT count(*) FROM alerts WHERE acknowledged_at IS NULL").fetchone()
    return int(row[0])


def acknowledge(tx: Tx, alert: int, by: str, now: int) -> None:
    """Note that someone has looked at an alert; who was first stays on record."""
    tx.execute(
        "UPDATE alerts SET acknowledged_at = ?, acknowledged_by = ?"
        " WHERE alert = ? AND acknowledged_at IS NULL",
        (now, by, alert),
    )
