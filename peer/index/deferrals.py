"""What could not be told because our journal could not be written, and who must be looked at first.

deferral
    A patient of whom something changed while nothing could be appended: it is made good later.
hold
    A patient of whom nothing is published until a person has looked, or said something new.
"""

from __future__ import annotations

from dataclasses import dataclass

from peer.index import consents
from peer.index.migrate import Tx
from protocol.identifiers import PatientIdentifier


def defer(tx: Tx, patient: int, now: int) -> None:
    """Note that a patient's publications must be looked at once the journal can be written."""
    tx.execute("INSERT OR IGNORE INTO deferred_publications VALUES (?, ?)", (patient, now))


def make_good(tx: Tx, patient: int, seq: int | None) -> None:
    """Note that a patient was looked at; `seq`: of the last entry that this brought, if any.

    The revocations that were waiting for it are told by these entries.
    """
    row = tx.execute(
        "DELETE FROM deferred_publications WHERE patient = ? RETURNING since", (patient,)
    ).fetchall()
    if row and seq is not None:
        consents.note_withdrawals_since(tx, patient, row[0]["since"], seq)


@dataclass(frozen=True, slots=True)
class Hold:
    """A patient of whom nothing is published, why, and since when (Unix seconds)."""

    patient: PatientIdentifier
    reason: str
    since: int


def hold(tx: Tx, held: Hold) -> None:
    """Publish nothing of a patient until `release`; what was held before stays as it is."""
    tx.execute(
        "INSERT OR IGNORE INTO patient_holds VALUES (?, ?, ?, ?)",
        (held.patient.issuer, held.patient.value, held.reason, held.since),
    )


def holds(tx: Tx) -> list[Hold]:
    """Return everyone who is held, the longest first."""
    rows = tx.execute("SELECT * FROM patient_holds ORDER BY since, issuer, patient_id").fetchall()
    return [
        Hold(PatientIdentifier(row["issuer"], row["patient_id"]), row["reason"], row["since"])
        for row in rows
    ]


def is_held(tx: Tx, patient: PatientIdentifier) -> bool:
    """Return whether nothing may be published of a patient."""
    row = tx.execute(
        "SELECT 1 FROM patient_holds WHERE issuer = ? AND patient_id = ?",
        (patient.issuer, patient.value),
    ).fetchone()
    return row is not None


def release(tx: Tx, patient: PatientIdentifier) -> bool:
    """Let a patient be published again as the directives say; return whether it was held."""
    cursor = tx.execute(
        "DELETE FROM patient_holds WHERE issuer = ? AND patient_id = ?",
        (patient.issuer, patient.value),
    )
    return cursor.rowcount > 0
