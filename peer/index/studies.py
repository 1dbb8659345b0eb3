"""Studies, series and instances as they are listed and searched."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peer.index.conditions import Conditions, StudyQuery, conditions_of
from peer.index.migrate import Tx


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

_NEWEST_FIRST: Final = (
    " ORDER BY s.study_date DESC, s.study_time DESC, s.study_instance_uid LIMIT ? OFFSET ?"
)

_NO_LIMIT: Final = -1

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
    conditions = conditions_of(query)
    text = f"{_STUDY}{conditions.where()}{_NEWEST_FIRST}"
    return text, (*conditions.values, *_page(query))


def _page(query: StudyQuery) -> tuple[int, int]:
    limit = _NO_LIMIT if query.limit is None else max(0, query.limit)
    return limit, max(0, query.offset)


def matching(tx: Tx, query: StudyQuery) -> list[str]:
    """Return the Study Instance UIDs of the studies that match, the newest first."""
    conditions = conditions_of(query)
    rows = tx.execute(
        "SELECT s.study_instance_uid FROM studies s JOIN patients p ON p.patient = s.patient"  # noqa: S608 - clauses
        f"{conditions.where()}{_NEWEST_FIRST}",
        (*conditions.values, *_page(query)),
    )
    return [row["study_instance_uid"] for row in rows]


def patients_matching(tx: Tx, query: StudyQuery) -> list[int]:
    """Return the patients of the studies that match, by their number."""
    conditions = conditions_of(query)
    rows = tx.execute(
        "SELECT DISTINCT p.patient FROM studies s JOIN patients p ON p.patient = s.patient"  # noqa: S608 - clauses
        f"{conditions.where()} ORDER BY p.patient LIMIT ? OFFSET ?",
        (*conditions.values, *_page(query)),
    )
    return [row["patient"] for row in rows]


def containing(tx: Tx, keyword: str, uids: Sequence[str]) -> tuple[str, ...]:
    """Return the studies that hold any of these series or instances, as `keyword` says."""
    among = Conditions()
    if keyword == "SeriesInstanceUID":
        among.among("e.series_instance_uid", uids)
    else:
        among.among("i.sop_instance_uid", uids)
    joined = "" if keyword == "SeriesInstanceUID" else " JOIN instances i ON i.series = e.series"
    rows = tx.execute(
        f"SELECT DISTINCT e.study_instance_uid FROM series e{joined}{among.where()}",  # noqa: S608 - clauses
        tuple(among.values),
    )
    return tuple(row["study_instance_uid"] for row in rows)


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
    tx: Tx,
    study_instance_uid: str,
    series_instance_uid: str | None = None,
    sop_instance_uid: str | None = None,
) -> list[InstanceRow]:
    """Return the instances of a study, of one of its series, or a single one.

    By series and Instance Number.
    """
    if sop_instance_uid is not None:
        # Asked for by its own index: a viewer asks for each of a study's instances by itself.
        row = tx.execute(
            _INSTANCES + " WHERE i.sop_instance_uid = ?1 AND e.study_instance_uid = ?2"
            " AND (?3 IS NULL OR e.series_instance_uid = ?3)",
            (sop_instance_uid, study_instance_uid, series_instance_uid),
        ).fetchone()
        return [] if row is None else [_instance(row)]
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
