"""What partners have asked about records of ours at which their question only hinted."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from peer.index.migrate import Tx
from protocol.identifiers import PeerId
from protocol.identify import Person
from protocol.limits import STATEMENT_BYTES
from protocol.records import from_bytes, to_bytes


@dataclass(frozen=True, slots=True)
class IdentityQuestion:
    """A partner's question about one of our patients; `person` (32 B) is its hash.

    `description` is kept only while someone here must look.  `same`: what they said, None before.
    """

    question: int
    partner: PeerId
    person: bytes
    patient: int
    asked_at: int
    clinician: str
    purpose: str
    description: Person | None
    same: bool | None


def find(tx: Tx, partner: PeerId, person: bytes, patient: int) -> IdentityQuestion | None:
    """Return the question if it was asked before."""
    row = tx.execute(
        "SELECT * FROM identity_questions WHERE partner = ? AND person = ? AND patient = ?",
        (partner, person, patient),
    ).fetchone()
    return None if row is None else _row(row)


def asked_since(tx: Tx, partner: PeerId, instant: int) -> int:
    """Return how many different questions a partner has asked since an instant."""
    row = tx.execute(
        "SELECT count(*) AS number FROM identity_questions WHERE partner = ? AND asked_at >= ?",
        (partner, instant),
    ).fetchone()
    return int(row["number"])


def put(tx: Tx, asked: IdentityQuestion) -> None:
    """Note a question; what someone has said about it before is kept.  `question` is not read."""
    description = None if asked.description is None else to_bytes(asked.description)
    tx.execute(
        "INSERT INTO identity_questions"
        " (partner, person, patient, asked_at, clinician, purpose, description)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (partner, person, patient) DO UPDATE SET asked_at = excluded.asked_at,"
        " clinician = excluded.clinician, purpose = excluded.purpose,"
        " description = iif(same IS NULL, excluded.description, NULL)",
        (
            asked.partner,
            asked.person,
            asked.patient,
            asked.asked_at,
            asked.clinician,
            asked.purpose,
            description,
        ),
    )


def waiting(tx: Tx) -> list[IdentityQuestion]:
    """Return the questions at which someone here must look, the oldest first."""
    rows = tx.execute(
        "SELECT * FROM identity_questions WHERE description IS NOT NULL ORDER BY asked_at, question"
    ).fetchall()
    return [_row(row) for row in rows]


def decide(tx: Tx, question: int, *, same: bool, by: str, now: int) -> IdentityQuestion | None:
    """Note what someone here says, and forget whom it was about; None: there is none waiting."""
    row = tx.execute(
        "UPDATE identity_questions SET same = ?, decided_by = ?, decided_at = ?, description = NULL"
        " WHERE question = ? AND description IS NOT NULL RETURNING *",
        (int(same), by, now, question),
    ).fetchone()
    return None if row is None else _row(row)


def _row(row: sqlite3.Row) -> IdentityQuestion:
    described = row["description"]
    return IdentityQuestion(
        question=row["question"],
        partner=PeerId(row["partner"]),
        person=row["person"],
        patient=row["patient"],
        asked_at=row["asked_at"],
        clinician=row["clinician"],
        purpose=row["purpose"],
        description=None if described is None else from_bytes(Person, described, STATEMENT_BYTES),
        same=None if row["same"] is None else bool(row["same"]),
    )
