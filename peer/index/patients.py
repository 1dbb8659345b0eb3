"""Patients as their identifiers name them; inside the node each is a small integer."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peer.dicom.header import PatientAttributes
from peer.index.migrate import Tx
from protocol.identifiers import PatientIdentifier
from protocol.matching.keys import Demographics
from protocol.matching.names import all_readings
from protocol.matching.score import share_of

NAMES: Final = 16
"""Most names that are kept of one patient, the newest first."""

OTHER_IDS: Final = 32
"""Most further identifiers that are kept of one patient."""


@dataclass(frozen=True, slots=True)
class PatientRow:
    """A patient of this facility or of one that a study was retrieved from."""

    patient: int
    issuer: str
    patient_id: str
    names: tuple[str, ...]
    """PN strings ("Family^Given=ideographic=phonetic"), the newest first."""
    birth_date: str
    sex: str
    other_ids: tuple[PatientIdentifier, ...]

    @property
    def identifiers(self) -> tuple[PatientIdentifier, ...]:
        """Every identifier, the Patient ID first."""
        own = (PatientIdentifier(self.issuer, self.patient_id),) if self.patient_id else ()
        return own + self.other_ids


def folded(text: str) -> str:
    """Return a name or pattern as names are compared: compatibility forms and case folded."""
    return unicodedata.normalize("NFKC", text).casefold()


def get(tx: Tx, patient: int) -> PatientRow | None:
    """Return the patient, or None."""
    row = tx.execute("SELECT * FROM patients WHERE patient = ?", (patient,)).fetchone()
    if row is None:
        return None
    return PatientRow(
        patient=row["patient"],
        issuer=row["issuer"],
        patient_id=row["patient_id"],
        names=tuple(json.loads(row["names"])),
        birth_date=row["birth_date"],
        sex=row["sex"],
        other_ids=tuple(PatientIdentifier(*each) for each in json.loads(row["other_ids"])),
    )


def find(tx: Tx, issuer: str, patient_id: str) -> PatientRow | None:
    """Return the patient with this Patient ID of this issuer, or whom they were merged into."""
    row = tx.execute(
        "SELECT patient, merged_into FROM patients"
        " WHERE patient_id = ? AND issuer = ? AND patient_id <> ''",
        (patient_id, issuer),
    ).fetchone()
    while row is not None and row["merged_into"] is not None:
        row = tx.execute(
            "SELECT patient, merged_into FROM patients WHERE patient = ?", (row["merged_into"],)
        ).fetchone()
    return None if row is None else get(tx, row["patient"])


def with_birth_date(tx: Tx, birth_date: str) -> list[PatientRow]:
    """Return the patients born on this day (YYYYMMDD)."""
    rows = tx.execute(
        "SELECT patient FROM patients WHERE birth_date = ? AND merged_into IS NULL", (birth_date,)
    ).fetchall()
    return [found for row in rows if (found := get(tx, row["patient"]))]


def everyone(tx: Tx) -> list[PatientRow]:
    """Return all patients, in no particular order."""
    rows = tx.execute("SELECT patient FROM patients WHERE merged_into IS NULL").fetchall()
    return [found for row in rows if (found := get(tx, row["patient"]))]


def merged_into(tx: Tx, patient: int) -> list[PatientRow]:
    """Return the patients who were merged into this one, directly or through others."""
    rows = tx.execute(
        "WITH RECURSIVE gone (patient) AS (SELECT patient FROM patients WHERE merged_into = ?"
        " UNION SELECT p.patient FROM patients p JOIN gone g ON p.merged_into = g.patient)"
        " SELECT patient FROM gone",
        (patient,),
    ).fetchall()
    return [found for row in rows if (found := get(tx, row["patient"]))]


def known_as(tx: Tx, patient: int) -> list[PatientIdentifier]:
    """Return the Patient IDs that mean this patient: their own, and of whom were merged into it."""
    rows = [row for row in (get(tx, patient), *merged_into(tx, patient)) if row is not None]
    return [PatientIdentifier(row.issuer, row.patient_id) for row in rows if row.patient_id]


def merge(tx: Tx, gone: PatientRow, into: PatientRow) -> None:
    """Let a patient's identifier mean another patient, who is described by what both say."""
    described(
        tx,
        into,
        names=tuple(dict.fromkeys((*into.names, *gone.names)))[:NAMES],
        birth_date=into.birth_date or gone.birth_date,
        sex=into.sex or gone.sex,
        other_ids=_others(into, gone.identifiers)[:OTHER_IDS],
    )
    _count_names(tx, gone.names, -1)
    tx.execute(
        "UPDATE patients SET merged_into = ? WHERE patient = ?", (into.patient, gone.patient)
    )


def unmerge(tx: Tx, gone: PatientRow, into: PatientRow, before: PatientRow) -> None:
    """Let a merged patient be one of their own again; the other loses what came from them alone.

    `before`: how the other was described until the merge.
    """
    tx.execute("UPDATE patients SET merged_into = NULL WHERE patient = ?", (gone.patient,))
    _count_names(tx, gone.names, 1)
    taken = set(gone.names) - set(before.names)
    theirs = set(gone.identifiers) - set(before.identifiers)
    described(
        tx,
        into,
        names=tuple(each for each in into.names if each not in taken),
        birth_date=before.birth_date if into.birth_date == gone.birth_date else into.birth_date,
        sex=before.sex if into.sex == gone.sex else into.sex,
        other_ids=tuple(each for each in into.other_ids if each not in theirs),
    )


def _others(row: PatientRow, more: Sequence[PatientIdentifier]) -> tuple[PatientIdentifier, ...]:
    own = PatientIdentifier(row.issuer, row.patient_id)
    return tuple(each for each in dict.fromkeys((*row.other_ids, *more)) if each != own)


def put(tx: Tx, attributes: PatientAttributes, issuer: str) -> tuple[int, bool]:
    """Record what an instance says of its patient; return the patient, and whether it agrees.

    `issuer` stands for an Issuer of Patient ID that the instance does not name.  Without a Patient
    ID there is nothing to recognise anyone by, and a new patient is made.  A birth date that
    contradicts the one on record is not taken over, and is the disagreement meant.
    """
    issuer = attributes.issuer or issuer
    known = find(tx, issuer, attributes.patient_id)
    if known is None:
        return _insert(tx, attributes, issuer), True
    agrees = not (
        known.birth_date and attributes.birth_date and known.birth_date != attributes.birth_date
    )
    if agrees:
        _update(tx, known, attributes)
    return known.patient, agrees


def delete_unused(tx: Tx, patient: int) -> None:
    """Forget a patient of whom no study is left, with the changes that gave them any.

    One whose studies went to somebody else stays for as long as that can be undone.
    """
    group = {patient, *(each.patient for each in merged_into(tx, patient))}
    given = {into for each in group for into in _given_to(tx, each)}
    if not given <= group:
        return
    row = tx.execute(
        "DELETE FROM patients WHERE patient = ?1"
        " AND NOT EXISTS (SELECT 1 FROM studies WHERE patient = ?1) RETURNING names",
        (patient,),
    ).fetchone()
    if row is None:
        return
    _count_names(tx, json.loads(row["names"]), -1)
    for each in group:
        # The next patient may be given the number: undoing must not reach a stranger.
        former = tx.execute(
            "DELETE FROM patient_changes WHERE undone_at IS NULL AND to_patient = ?"
            " RETURNING from_patient",
            (each,),
        ).fetchall()
        for number in {gone["from_patient"] for gone in former} - group:
            delete_unused(tx, number)


def _given_to(tx: Tx, patient: int) -> set[int]:
    """Return to whom studies of a patient went, by changes that stand."""
    rows = tx.execute(
        "SELECT to_patient FROM patient_changes WHERE from_patient = ? AND undone_at IS NULL",
        (patient,),
    ).fetchall()
    return {row["to_patient"] for row in rows}


def counted(tx: Tx) -> int:
    """Return how many patients there are."""
    row = tx.execute("SELECT patients FROM name_counts WHERE name = ''").fetchone()
    return 0 if row is None else int(row["patients"])


def name_shares(tx: Tx, person: Demographics) -> dict[str, float]:
    """Return of each name of a person by which share of the patients here it is borne."""
    names = sorted({name for each in all_readings(person.names) for name in each.borne})
    marks = ", ".join("?" * len(names))
    rows = (
        tx.execute(
            f"SELECT name, patients FROM name_counts WHERE name IN ('', {marks})",  # noqa: S608 - question marks
            names,
        ).fetchall()
        if names
        else []
    )
    counts = {row["name"]: int(row["patients"]) for row in rows}
    total = counts.pop("", 0)
    return {name: share_of(number, total) for name, number in counts.items()}


def add(tx: Tx, attributes: PatientAttributes, issuer: str) -> int:
    """Make a patient, and return their number; a Patient ID that is on record is a Conflict."""
    return _insert(tx, attributes, issuer)


def _insert(tx: Tx, attributes: PatientAttributes, issuer: str) -> int:
    cursor = tx.execute(
        "INSERT INTO patients (issuer, patient_id, names, birth_date, sex, other_ids)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            issuer,
            attributes.patient_id,
            _json_names(attributes.names[:NAMES]),
            attributes.birth_date,
            attributes.sex,
            _json_ids(attributes.other_ids[:OTHER_IDS]),
        ),
    )
    patient = int(cursor.lastrowid or 0)
    _index_names(tx, patient, attributes.names)
    _count_names(tx, attributes.names, 1)
    return patient


def _update(tx: Tx, known: PatientRow, attributes: PatientAttributes) -> None:
    names = tuple(dict.fromkeys((*attributes.names, *known.names)))[:NAMES]
    other_ids = tuple(dict.fromkeys((*known.other_ids, *attributes.other_ids)))[:OTHER_IDS]
    birth_date = known.birth_date or attributes.birth_date
    sex = known.sex or attributes.sex
    described(tx, known, names=names, birth_date=birth_date, sex=sex, other_ids=other_ids)


def describe_anew(tx: Tx, known: PatientRow, said: PatientAttributes) -> tuple[str, ...]:
    """Describe a patient as who knows best does; return what of it was new, by its column."""
    before = (known.names, known.birth_date, known.sex, known.other_ids)
    names = tuple(dict.fromkeys((*said.names, *known.names)))[:NAMES]
    birth_date, sex = said.birth_date or known.birth_date, said.sex or known.sex
    other_ids = _others(known, said.other_ids)[:OTHER_IDS]
    described(tx, known, names=names, birth_date=birth_date, sex=sex, other_ids=other_ids)
    after = (names, birth_date, sex, other_ids)
    columns = ("names", "birth_date", "sex", "other_ids")
    return tuple(
        column for column, old, new in zip(columns, before, after, strict=True) if old != new
    )


def described(
    tx: Tx,
    known: PatientRow,
    *,
    names: tuple[str, ...],
    birth_date: str,
    sex: str,
    other_ids: tuple[PatientIdentifier, ...],
) -> None:
    """Describe a patient in another way than until now."""
    if (names, other_ids, birth_date, sex) == (
        known.names,
        known.other_ids,
        known.birth_date,
        known.sex,
    ):
        return
    tx.execute(
        "UPDATE patients SET names = ?, birth_date = ?, sex = ?, other_ids = ? WHERE patient = ?",
        (_json_names(names), birth_date, sex, _json_ids(other_ids), known.patient),
    )
    _count_names(tx, known.names, -1)
    _count_names(tx, names, 1)
    tx.execute("DELETE FROM patient_names WHERE patient = ?", (known.patient,))
    _index_names(tx, known.patient, names)


def _index_names(tx: Tx, patient: int, names: tuple[str, ...]) -> None:
    groups = {folded(group) for name in names[:NAMES] for group in name.split("=")}
    tx.executemany(
        "INSERT INTO patient_names (name, patient) VALUES (?, ?)",
        [(group, patient) for group in sorted(groups) if group],
    )


def _count_names(tx: Tx, names: Sequence[str], change: int) -> None:
    """Count a patient in or out, by the first reading of the newest name alone."""
    borne = {name for each in all_readings(tuple(names[:1]))[:1] for name in each.borne}
    tx.executemany(
        "INSERT INTO name_counts VALUES (?1, ?2)"
        " ON CONFLICT (name) DO UPDATE SET patients = patients + ?2",
        [(name, change) for name in ("", *sorted(borne))],
    )


def _json_names(names: tuple[str, ...]) -> str:
    return json.dumps(names, ensure_ascii=False)


def _json_ids(identifiers: tuple[PatientIdentifier, ...]) -> str:
    return json.dumps([(each.issuer, each.value) for each in identifiers], ensure_ascii=False)
