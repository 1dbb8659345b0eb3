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


@dataclass(frozen=True, slots=True)
class Offered:
    """How many studies of ours a partner may find, if it can name their patients.

    `everyone` may find those; `alone`: it and nobody else; `others`: other partners and not it.
    """

    everyone: int
    alone: int
    others: int


def offered(tx: Tx, partner: bytes) -> Offered:
    """Return how many studies are published, by who may find them."""
    rows = tx.execute(
        "SELECT CASE p.audience WHEN x'' THEN 'everyone' WHEN ? THEN 'alone' ELSE 'others' END"
        " AS whom, count(DISTINCT s.study_instance_uid) AS studies FROM published_studies s"
        " JOIN published_patients p USING (published)"
        " WHERE s.study_instance_uid IS NOT NULL GROUP BY whom",
        (partner,),
    )
    found = {str(row["whom"]): int(row["studies"]) for row in rows}
    others = tx.execute(
        "SELECT count(DISTINCT s.study_instance_uid) FROM published_studies s"
        " JOIN published_patients p USING (published)"
        " WHERE p.audience NOT IN (x'', ?1) AND NOT EXISTS (SELECT 1 FROM published_studies t"
        "  JOIN published_patients q USING (published)"
        "  WHERE t.study_instance_uid = s.study_instance_uid AND q.audience IN (x'', ?1))",
        (partner,),
    ).fetchone()
    return Offered(found.get("everyone", 0), found.get("alone", 0), int(others[0]))
