"""Studies that are known to be at a partner, and whether they were found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer.index.migrate import Tx


@dataclass(frozen=True, slots=True)
class CheckRow:
    """One check.  `number` is 0 before it is stored; the rest as in the migration."""

    number: int
    partner: bytes
    patient: str
    study_date: str
    accession_number: str
    study_instance_uid: str
    modality: str
    named_by: str
    named_at: int
    checked_at: int
    verdict: str
    found_uid: str
    code: str


def put(tx: Tx, row: CheckRow) -> int:
    """Store a check and return its number.

    A study counts once, however often and under which names it is named: it takes the place of an
    earlier check of the same study.
    """
    known = tx.execute(
        "SELECT number FROM checks WHERE partner = ?1 AND (number = ?2 OR"
        " (patient = ?3 AND study_date = ?4 AND accession_number = ?5 AND study_instance_uid = ?6"
        "  AND modality = ?7)"
        " OR (?6 <> '' AND ?6 IN (study_instance_uid, found_uid))"
        " OR (?8 <> '' AND ?8 IN (study_instance_uid, found_uid))) ORDER BY number",
        (
            row.partner,
            row.number,
            row.patient,
            row.study_date,
            row.accession_number,
            row.study_instance_uid,
            row.modality,
            row.found_uid,
        ),
    ).fetchall()
    for each in known:
        tx.execute("DELETE FROM checks WHERE number = ?", (each["number"],))
    cursor = tx.execute(
        "INSERT INTO checks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            known[0]["number"] if known else None,
            row.partner,
            row.patient,
            row.study_date,
            row.accession_number,
            row.study_instance_uid,
            row.modality,
            row.named_by,
            row.named_at,
            row.checked_at,
            row.verdict,
            row.found_uid,
            row.code,
        ),
    )
    return int(cursor.lastrowid or 0)


def get(tx: Tx, partner: bytes, number: int) -> CheckRow | None:
    """Return a check of a partner, or None."""
    row = tx.execute(
        "SELECT * FROM checks WHERE partner = ? AND number = ?", (partner, number)
    ).fetchone()
    return None if row is None else CheckRow(**dict(row))


def of_partner(tx: Tx, partner: bytes, limit: int) -> Sequence[CheckRow]:
    """Return the latest checks of a partner: first what was missed, then what does not count."""
    rows = tx.execute(
        "SELECT * FROM checks WHERE partner = ? ORDER BY verdict = 'found', verdict = 'unchecked',"
        " checked_at DESC, number DESC LIMIT ?",
        (partner, limit),
    )
    return [CheckRow(**dict(row)) for row in rows]


def verdicts(tx: Tx, partner: bytes, since: int) -> list[str]:
    """Return how the checks of a partner came out that were made since an instant."""
    rows = tx.execute(
        "SELECT verdict FROM checks WHERE partner = ? AND checked_at >= ?", (partner, since)
    )
    return [str(row["verdict"]) for row in rows]


def drop(tx: Tx, number: int) -> None:
    """Forget a check."""
    tx.execute("DELETE FROM checks WHERE number = ?", (number,))
