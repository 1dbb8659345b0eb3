"""What the nodes have acknowledged, so that it can be asked for again."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import Any

from tests.dicom_samples import instance

PIXELS = 60_000
CONSONANTS, VOWELS = "BDFGKLMNPRSTVZ", "AEIOU"


@dataclass(slots=True)
class Patient:
    """One patient of one facility, with all that was acknowledged of them.

    `studies`: the instances of each study that are durable, by SOP Instance UID.  `directives`:
    those that are on record, and whether their revocation is.
    """

    home: int
    patient_id: str
    name: str
    birth_date: str
    studies: dict[str, dict[str, bytes]] = field(default_factory=dict)
    directives: dict[str, bool] = field(default_factory=dict)

    @property
    def question(self) -> dict[str, str]:
        return {"name": self.name, "birth_date": self.birth_date, "purpose": "TREAT"}


@dataclass(slots=True)
class Ledger:
    """All patients, all retrievals that were begun, and each answer that no node may give."""

    patients: list[Patient] = field(default_factory=list)
    retrievals: list[tuple[int, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, home: int, rng: random.Random) -> Patient:
        """Return a new patient whose name is like nobody else's."""
        with self._lock:
            number = len(self.patients)
            name = "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(5))
            # Never on 1 January, which proves less: such a record may be only likely the patient's.
            birth_date = f"{1930 + number % 70}{1 + number % 12:02}{2 + number % 27:02}"
            patient = Patient(
                home, f"P{number}", f"{name}^{'ANNA' if number % 2 else 'OTTO'}", birth_date
            )
            self.patients.append(patient)
            return patient

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def of(self, home: int) -> list[Patient]:
        return [each for each in list(self.patients) if each.home == home]


def images(patient: Patient, study: str, count: int, rng: random.Random) -> dict[str, bytes]:
    """Return the instances of a new study by SOP Instance UID."""
    attributes: dict[str, Any] = {
        "PatientID": patient.patient_id,
        "PatientName": patient.name,
        "PatientBirthDate": patient.birth_date,
        "StudyDate": "20250601",
    }
    return {
        f"{study}.1.{number}": instance(
            number, study=study, pixels=rng.randbytes(PIXELS), **attributes
        )
        for number in range(1, count + 1)
    }
