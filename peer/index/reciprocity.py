"""What was given to each partner and received from it, as far as it is on record here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peer.index.migrate import Tx
from peer.index.transfers import State

DAY_S: Final = 86_400

ANSWERED: Final = ""
"""In the place of a code: the partner answered."""


@dataclass(frozen=True, slots=True)
class Period:
    """From the first instant of a day (UTC) on, before that of another.  Unix seconds."""

    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """How often the audit trail has one action with one outcome; `code` is '' without a refusal."""

    action: str
    outcome: str
    code: str
    times: int


def recorded(tx: Tx, partner: bytes, period: Period) -> Sequence[Recorded]:
    """Return how often what was done for a partner, or refused to it."""
    rows = tx.execute(
        "SELECT json_extract(record, '$.action') AS action,"
        " json_extract(record, '$.outcome') AS outcome,"
        " coalesce(json_extract(record, '$.detail.code'), '') AS code, count(*) AS times"
        " FROM audit WHERE partner = ? AND at >= ? AND at < ? GROUP BY 1, 2, 3",
        (partner.hex(), period.since, period.until),
    )
    return [Recorded(**dict(row)) for row in rows]


def note_asked(tx: Tx, partner: bytes, code: str, now: int) -> None:
    """Count how a partner answered a search of ours."""
    tx.execute(
        "INSERT INTO asked VALUES (?, ?, ?, 1)"
        " ON CONFLICT (partner, day, code) DO UPDATE SET times = times + 1",
        (partner, now // DAY_S, code),
    )


def asked(tx: Tx, partner: bytes, period: Period) -> dict[str, int]:
    """Return how often a partner answered our searches in which way, by code."""
    rows = tx.execute(
        "SELECT code, sum(times) AS times FROM asked"
        " WHERE partner = ? AND day >= ? AND day < ? GROUP BY code",
        (partner, period.since // DAY_S, period.until // DAY_S),
    )
    return {str(row["code"]): int(row["times"]) for row in rows}


def receipts(tx: Tx, partner: bytes, period: Period) -> list[tuple[bytes, int]]:
    """Return a partner's receipts (the statement's payload) and how much each grant was for."""
    rows = tx.execute(
        "SELECT receipt_payload, bytes FROM grants"
        " WHERE partner = ? AND receipt_at >= ? AND receipt_at < ?",
        (partner, period.since, period.until),
    )
    return [(bytes(row["receipt_payload"]), int(row["bytes"])) for row in rows]


def fetched(tx: Tx, origin: bytes, period: Period) -> tuple[int, int]:
    """Return how many studies were fetched whole from an origin, and their bytes."""
    row = tx.execute(
        "SELECT count(DISTINCT study_instance_uid) AS studies, coalesce(sum(bytes), 0) AS size"
        " FROM retrievals WHERE origin = ? AND state = ? AND changed_at >= ? AND changed_at < ?",
        (origin, State.COMPLETE, period.since, period.until),
    ).fetchone()
    return int(row["studies"]), int(row["size"])


def refused_retrievals(tx: Tx, origin: bytes, period: Period) -> dict[str, int]:
    """Return how often an origin refused us a study, by code."""
    rows = tx.execute(
        "SELECT code, count(*) AS times FROM retrievals"
        " WHERE origin = ? AND state IN (?, ?) AND changed_at >= ? AND changed_at < ?"
        " GROUP BY code",
        (origin, State.REFUSED, State.REVOKED, period.since, period.until),
    )
    return {str(row["code"]): int(row["times"]) for row in rows}


def offered(tx: Tx, partner: bytes) -> int:
    """Return how many studies of ours a partner may find now, if it can name their patients."""
    row = tx.execute(
        "SELECT count(DISTINCT s.study_instance_uid) FROM published_studies s"
        " JOIN published_patients p USING (published) WHERE p.audience IN (x'', ?)",
        (partner,),
    ).fetchone()
    return int(row[0])
