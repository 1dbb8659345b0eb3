"""What the gate asks of a study for every range, without counting its instances."""

from __future__ import annotations

from dataclasses import dataclass

from peer.index.migrate import Tx
from protocol.consent import StudyFacts


@dataclass(frozen=True, slots=True)
class GatedStudy:
    """A study as decisions see it."""

    patient: int
    facts: StudyFacts


def gated_study(tx: Tx, study_instance_uid: str) -> GatedStudy | None:
    """Return what decisions about a study may depend on, or None if it is not held here."""
    row = tx.execute(
        "SELECT patient, study_date, held_back FROM studies WHERE study_instance_uid = ?",
        (study_instance_uid,),
    ).fetchone()
    if row is None:
        return None
    series = tx.execute(
        "SELECT modality, body_part FROM series WHERE study_instance_uid = ?",
        (study_instance_uid,),
    ).fetchall()
    return GatedStudy(
        row["patient"],
        StudyFacts(
            study_instance_uid=study_instance_uid,
            study_date=row["study_date"],
            modalities=frozenset(each["modality"] for each in series if each["modality"]),
            body_parts=frozenset(each["body_part"] for each in series if each["body_part"]),
            held_back=bool(row["held_back"]),
        ),
    )
