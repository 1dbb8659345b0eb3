"""Studies, series and instances as they are listed and searched."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peer.index.migrate import Tx
from peer.index.patients import folded


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study with the counts over its instances."""

    study_instance_uid: str
    patient: int
    study_date: str
    study_time: str
    timezone: str
    study_id: str
    description: str
    accession_number: str
    accession_issuer: str
    referring_physician: str
    institution: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    series: int
    instances: int
    stored_bytes: int
    """Bytes of all its instances, as files."""
    origin: bytes | None
    """PeerId of the facility it was retrieved from; None for a study of our own."""
    received_at: int
    changed_at: int
    settled_at: int | None
    held_back: bool
    held_reason: str
    manifest_version: int
    """0 until the first manifest is signed."""
    manifest_root: bytes | None


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A series with the count of its instances."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    series_number: int | None
    description: str
    body_part: str
    laterality: str
    protocol_name: str
    step_date: str
    step_time: str
    station_name: str
    manufacturer: str
    instances: int


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """An instance; lengths in bytes."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    number_of_frames: int
    rows: int
    columns: int
    bits_allocated: int
    notes: str
    length: int
    header_length: int
    content_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyQuery:
    """What to look for; an empty field matches everything.

    `name` and `accession_number`, `description` may hold the wildcards * and ? (PS3.4 section
    C.2.2.2.4).  Dates are YYYYMMDD and both ends are included.
    """

    study_instance_uids: Sequence[str] = ()
    patient: int | None = None
    patient_id: str = ""
    issuer: str | None = None
    name: str = ""
    birth_date: str = ""
    date_from: str = ""
    date_to: str = ""
    modalities: Sequence[str] = ()
    accession_number: str = ""
    description: str = ""
    origin: bytes | None = None
    limit: int | None = None
    offset: int = 0


_STUDY: Final = """
SELECT s.*, m.root AS manifest_root,
    (SELECT count(*) FROM series e WHERE e.study_instance_uid = s.study_instance_uid) AS series,
    (SELECT group_concat(DISTINCT e.modality) FROM series e
        WHERE e.study_instance_uid = s.study_instance_uid AND e.modality <> '') AS modalities,
    (SELECT group_concat(DISTINCT e.body_part) FROM series e
        WHERE e.study_instance_uid = s.study_instance_uid AND e.body_part <> '') AS body_parts,
    (SELECT coalesce(sum(e.instances), 0) FROM series e
        WHERE e.study_instance_uid = s.study_instance_uid) AS instances,
    (SELECT coalesce(sum(e.stored_bytes), 0) FROM series e
        WHERE e.study_instance_uid = s.study_instance_uid) AS stored_bytes
FROM studies s
JOIN patients p ON p.patient = s.patient
LEFT JOIN manifests m
    ON m.study_instance_uid = s.study_instance_uid AND m.version = s.manifest_version
"""

_NO_LIMIT: Final = -1

_WILDCARD: Final = re.compile(r"[*?]")

_HIGHEST: Final = "\U0010ffff"
"""Sorts behind every character, so that it ends the range of a prefix."""

_INSTANCES: Final = """
SELECT i.*, e.study_instance_uid, e.series_instance_uid
FROM instances i JOIN series e ON e.series = i.series
"""


def get(tx: Tx, study_instance_uid: str) -> StudyRow | None:
    """Return the study, or None."""
    row = tx.execute(_STUDY + " WHERE s.study_instance_uid = ?", (study_instance_uid,)).fetchone()
    return None if row is None else _study(row)


def search(tx: Tx, query: StudyQuery) -> list[StudyRow]:
    """Return the studies that match, the newest first."""
    return [_study(row) for row in tx.execute(*statement(query)).fetchall()]


def statement(query: StudyQuery) -> tuple[str, tuple[object, ...]]:
    """Return the SQL of a search and its parameters."""
    conditions = _conditions(query)
    text = (
        f"{_STUDY}{conditions.where()}"
        " ORDER BY s.study_date DESC, s.study_time DESC, s.study_instance_uid LIMIT ? OFFSET ?"
    )
    limit = _NO_LIMIT if query.limit is None else max(0, query.limit)
    return text, (*conditions.values, limit, max(0, query.offset))


def list_studies(tx: Tx, most: int | None = None) -> list[StudyRow]:
    """Return all studies or the newest `most`, the newest first."""
    return search(tx, StudyQuery(limit=most))


def of_patient(tx: Tx, patient: int) -> list[StudyRow]:
    """Return the patient's studies, the newest first."""
    return search(tx, StudyQuery(patient=patient))


def list_series(tx: Tx, study_instance_uid: str) -> list[SeriesRow]:
    """Return the series of a study by Series Number."""
    rows = tx.execute(
        "SELECT * FROM series WHERE study_instance_uid = ?"
        " ORDER BY series_number IS NULL, series_number, series_instance_uid",
        (study_instance_uid,),
    ).fetchall()
    return [
        SeriesRow(**{name: row[name] for name in SeriesRow.__dataclass_fields__}) for row in rows
    ]


def list_instances(
    tx: Tx, study_instance_uid: str, series_instance_uid: str | None = None
) -> list[InstanceRow]:
    """Return the instances of a study, or of one of its series, by series and Instance Number."""
    rows = tx.execute(
        _INSTANCES + " WHERE e.study_instance_uid = ?1"
        " AND (?2 IS NULL OR e.series_instance_uid = ?2)"
        " ORDER BY e.series_number IS NULL, e.series_number, e.series_instance_uid,"
        " i.instance_number IS NULL, i.instance_number, i.sop_instance_uid",
        (study_instance_uid, series_instance_uid),
    ).fetchall()
    return [_instance(row) for row in rows]


def count(tx: Tx) -> tuple[int, int]:
    """Return the numbers of studies and of instances."""
    row = tx.execute(
        "SELECT (SELECT count(*) FROM studies) AS studies,"
        " (SELECT count(*) FROM instances) AS instances"
    ).fetchone()
    return row["studies"], row["instances"]


def hold(tx: Tx, study_instance_uid: str, *, held_back: bool, reason: str = "") -> bool:
    """Hold a study back from publication, or release it; return whether there is such a study."""
    cursor = tx.execute(
        "UPDATE studies SET held_back = ?, held_reason = ? WHERE study_instance_uid = ?",
        (held_back, reason if held_back else "", study_instance_uid),
    )
    return cursor.rowcount > 0


def unsettled(tx: Tx, since: int | None = None) -> list[str]:
    """Return the studies that have not settled and, with `since`, had no new instance after it."""
    rows = tx.execute(
        "SELECT study_instance_uid FROM studies"
        " WHERE settled_at IS NULL AND changed_at <= coalesce(?, changed_at) ORDER BY changed_at",
        (since,),
    ).fetchall()
    return [row["study_instance_uid"] for row in rows]


def settle(tx: Tx, study_instance_uid: str, now: int) -> bool:
    """Mark a study as settled; return whether it was not before."""
    cursor = tx.execute(
        "UPDATE studies SET settled_at = ? WHERE study_instance_uid = ? AND settled_at IS NULL",
        (now, study_instance_uid),
    )
    return cursor.rowcount > 0


def unsettle(tx: Tx, study_instance_uid: str) -> None:
    """Have a study settle once more, after what follows from settling failed."""
    tx.execute(
        "UPDATE studies SET settled_at = NULL WHERE study_instance_uid = ?", (study_instance_uid,)
    )


def unsettle_unsigned(tx: Tx) -> int:
    """Have our own studies settle once more that no manifest was signed for since they grew.

    Whatever ended the last run may have come between the two.  Return their number.
    """
    cursor = tx.execute(
        "UPDATE studies SET settled_at = NULL WHERE settled_at IS NOT NULL AND origin IS NULL"
        " AND NOT EXISTS (SELECT 1 FROM manifests m"
        " WHERE m.study_instance_uid = studies.study_instance_uid"
        " AND m.version = studies.manifest_version AND m.made_at >= studies.changed_at)"
    )
    return cursor.rowcount


class _Conditions:
    """The conditions of a WHERE clause: clauses are constants of this module, values are bound."""

    def __init__(self) -> None:
        self.clauses: list[str] = []
        self.values: list[object] = []

    def add(self, clause: str, *values: object) -> None:
        self.clauses.append(clause)
        self.values.extend(values)

    def where(self) -> str:
        return " WHERE " + " AND ".join(self.clauses) if self.clauses else ""

    def among(self, column: str, values: Sequence[str]) -> None:
        self.add(f"{column} IN (SELECT value FROM json_each(?))", json.dumps(list(values)))  # noqa: S608 - a column

    def match(self, column: str, pattern: str) -> None:
        """Compare with a pattern in a way that an index on what is not '' serves."""
        prefix = _WILDCARD.split(pattern, maxsplit=1)[0]
        if prefix == pattern:
            self.add(f"{column} = ? AND {column} <> ''", pattern)
            return
        if prefix:
            self.add(f"{column} >= ? AND {column} < ?", prefix, prefix + _HIGHEST)
        self.add(f"{column} GLOB ? AND {column} <> ''", pattern.replace("[", "[[]"))


def _conditions(query: StudyQuery) -> _Conditions:
    found = _Conditions()
    if query.study_instance_uids:
        found.among("s.study_instance_uid", query.study_instance_uids)
    if query.date_from:
        found.add("s.study_date >= ?", query.date_from)
    if query.date_to:
        found.add("s.study_date <= ? AND s.study_date <> ''", query.date_to)
    if query.modalities:
        series = _Conditions()
        series.among("modality", query.modalities)
        found.add(
            f"s.study_instance_uid IN (SELECT study_instance_uid FROM series{series.where()})",  # noqa: S608 - clauses
            *series.values,
        )
    if query.accession_number:
        found.match("s.accession_number", query.accession_number)
    if query.description:
        found.match("lower(s.description)", query.description.lower())
    if query.origin is not None:
        found.add("s.origin = ?", query.origin)
    _add_patient(found, query)
    return found


def _add_patient(found: _Conditions, query: StudyQuery) -> None:
    if query.patient is not None:
        found.add("s.patient = ?", query.patient)
    if query.patient_id:
        found.match("p.patient_id", query.patient_id)
    if query.issuer is not None:
        found.add("p.issuer = ?", query.issuer)
    if query.birth_date:
        found.add("p.birth_date = ?", query.birth_date)
    if query.name:
        names = _Conditions()
        names.match("name", folded(query.name))
        found.add(
            f"s.patient IN (SELECT patient FROM patient_names{names.where()})",  # noqa: S608
            *names.values,
        )


def _study(row: sqlite3.Row) -> StudyRow:
    values = {name: row[name] for name in StudyRow.__dataclass_fields__}
    values["modalities"] = _several(row["modalities"])
    values["body_parts"] = _several(row["body_parts"])
    values["held_back"] = bool(row["held_back"])
    return StudyRow(**values)


def _several(joined: str | None) -> tuple[str, ...]:
    return tuple(sorted(joined.split(","))) if joined else ()


def _instance(row: sqlite3.Row) -> InstanceRow:
    return InstanceRow(**{name: row[name] for name in InstanceRow.__dataclass_fields__})
