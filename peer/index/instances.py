"""Where the bytes of each instance are, under which keys, and in which manifest."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from peer.dicom.header import Header, StudyAttributes
from peer.index import patients, studies
from peer.index.migrate import Tx
from protocol.hashing import HASH_BYTES
from protocol.manifest import Chunk, lay_out

PATIENT_CONFLICT: Final = "The birth date contradicts the one on record for this Patient ID."
PATIENT_MISMATCH: Final = "Its instances name different patients."
ORIGINS_MIXED: Final = "It holds instances of another facility beside our own."


@dataclass(frozen=True, slots=True)
class Placement:
    """What ingest knows of a stored instance besides its header."""

    pack_id: bytes
    length: int
    content_hash: bytes
    """BLAKE3 of the whole file."""
    data_set_hash: bytes
    """BLAKE3 of everything behind the file meta information, which varies with the sender."""
    first_chunk: int
    offset: int
    chunk_hashes: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What decides whether an instance that arrives is held already."""

    study_instance_uid: str
    transfer_syntax_uid: str
    data_set_hash: bytes


@dataclass(frozen=True, slots=True)
class Location:
    """Everything needed to read an instance from the store, keys still wrapped."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    wrapped_study_key: bytes
    pack_id: bytes
    wrapped_pack_key: bytes
    length: int
    header_length: int
    content_hash: bytes
    chunks: tuple[Chunk, ...]


def add_study(
    tx: Tx,
    header: Header,
    *,
    issuer: str,
    wrapped_key: bytes,
    origin: bytes | None,
    now: int,
) -> int:
    """Record patient and study of an instance that arrives; return the patient.

    The study stays with the patient it was first recorded for.  Where an instance disagrees, the
    study is held back from publication until someone has looked.  So is a copy from a partner that
    an instance of our own comes for: from then on the study is ours, and ours to keep.
    """
    uid = header.study.study_instance_uid
    known = tx.execute(
        "SELECT patient, origin FROM studies WHERE study_instance_uid = ?", (uid,)
    ).fetchone()
    if known is None:
        patient, agrees = patients.put(tx, header.patient, issuer)
        _insert_study(tx, header.study, patient, wrapped_key, origin, now)
        reason = "" if agrees else PATIENT_CONFLICT
    else:
        patient = int(known["patient"])
        _update_study(tx, header.study, now)
        reason = _disagreement(tx, header, issuer, patient)
        if origin is None and known["origin"] is not None:
            tx.execute("UPDATE studies SET origin = NULL WHERE study_instance_uid = ?", (uid,))
            reason = ORIGINS_MIXED
    if reason:
        studies.hold(tx, uid, held_back=True, reason=reason)
    return patient


def _disagreement(tx: Tx, header: Header, issuer: str, patient: int) -> str:
    """Return why an instance does not belong to the patient of its study, '' if it may."""
    if not header.patient.patient_id:
        return ""
    named, agrees = patients.put(tx, header.patient, issuer)
    if named != patient:
        patients.delete_unused(tx, named)
        return PATIENT_MISMATCH
    return "" if agrees else PATIENT_CONFLICT


def _insert_study(
    tx: Tx,
    study: StudyAttributes,
    patient: int,
    wrapped_key: bytes,
    origin: bytes | None,
    now: int,
) -> None:
    tx.execute(
        "INSERT INTO studies (study_instance_uid, patient, wrapped_key, study_date, study_time,"
        " timezone, study_id, description, accession_number, accession_issuer,"
        " referring_physician, institution, origin, received_at, changed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            study.study_instance_uid,
            patient,
            wrapped_key,
            study.study_date,
            study.study_time,
            study.timezone,
            study.study_id,
            study.description,
            study.accession_number,
            study.accession_issuer,
            study.referring_physician,
            study.institution,
            origin,
            now,
            now,
        ),
    )


def _update_study(tx: Tx, study: StudyAttributes, now: int) -> None:
    """A later instance fills in what earlier ones left empty, and unsettles the study."""
    tx.execute(
        "UPDATE studies SET changed_at = ?, settled_at = NULL,"
        " study_date = coalesce(nullif(study_date, ''), ?),"
        " study_time = coalesce(nullif(study_time, ''), ?),"
        " description = coalesce(nullif(description, ''), ?),"
        " accession_number = coalesce(nullif(accession_number, ''), ?)"
        " WHERE study_instance_uid = ?",
        (
            now,
            study.study_date,
            study.study_time,
            study.description,
            study.accession_number,
            study.study_instance_uid,
        ),
    )


def add_instance(tx: Tx, header: Header, placement: Placement) -> None:
    """Record an instance of a study and pack that are on record; Conflict if it is there."""
    add_instances(tx, [(header, placement)])


def add_instances(tx: Tx, added: Iterable[tuple[Header, Placement]]) -> None:
    """Record instances of studies and packs that are on record; Conflict if one is there."""
    series_of: dict[tuple[str, str], int] = {}
    counts: dict[int, list[int]] = {}
    rows = []
    for header, placement in added:
        # The same series in two studies is a mistake of somebody's, and two series here.
        key = (header.study.study_instance_uid, header.series.series_instance_uid)
        series = series_of.get(key)
        if series is None:
            series = series_of[key] = _series(tx, header)
            counts[series] = [0, 0]
        counts[series][0] += 1
        counts[series][1] += placement.length
        rows.append(_row(header, placement, series))
    tx.executemany(
        "INSERT INTO instances (sop_instance_uid, series, sop_class_uid, transfer_syntax_uid,"
        " instance_number, number_of_frames, rows, columns, bits_allocated, notes, length,"
        " header_length, content_hash, data_set_hash, pack_id, first_chunk, offset, chunk_hashes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    tx.executemany(
        "UPDATE series SET instances = instances + ?, stored_bytes = stored_bytes + ?"
        " WHERE series = ?",
        [(count, size, series) for series, (count, size) in counts.items()],
    )


def _row(header: Header, placement: Placement, series: int) -> tuple[object, ...]:
    instance = header.instance
    return (
        instance.sop_instance_uid,
        series,
        instance.sop_class_uid,
        instance.transfer_syntax_uid,
        instance.instance_number,
        instance.number_of_frames,
        instance.rows,
        instance.columns,
        instance.bits_allocated,
        " ".join(header.notes),
        placement.length,
        header.header_length,
        placement.content_hash,
        placement.data_set_hash,
        placement.pack_id,
        placement.first_chunk,
        placement.offset,
        b"".join(placement.chunk_hashes),
    )


def _series(tx: Tx, header: Header) -> int:
    series = header.series
    key = (header.study.study_instance_uid, series.series_instance_uid)
    row = tx.execute(
        "SELECT series FROM series WHERE study_instance_uid = ? AND series_instance_uid = ?", key
    ).fetchone()
    if row is not None:
        return int(row["series"])
    cursor = tx.execute(
        "INSERT INTO series (study_instance_uid, series_instance_uid, modality, series_number,"
        " description, body_part, laterality, protocol_name, step_date, step_time, station_name,"
        " manufacturer) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *key,
            series.modality,
            series.series_number,
            series.description,
            series.body_part,
            series.laterality,
            series.protocol_name,
            series.step_date,
            series.step_time,
            series.station_name,
            series.manufacturer,
        ),
    )
    return int(cursor.lastrowid or 0)


def known(tx: Tx, sop_instance_uids: Sequence[str]) -> dict[str, Known]:
    """Return what is held already of these instances."""
    rows = tx.execute(_KNOWN, (json.dumps(sop_instance_uids),)).fetchall()
    return {
        row["sop_instance_uid"]: Known(
            row["study_instance_uid"], row["transfer_syntax_uid"], row["data_set_hash"]
        )
        for row in rows
    }


_KNOWN: Final = """
SELECT i.sop_instance_uid, i.transfer_syntax_uid, i.data_set_hash, e.study_instance_uid
FROM json_each(?) asked
CROSS JOIN instances i ON i.sop_instance_uid = asked.value
JOIN series e ON e.series = i.series
"""


def known_contents(tx: Tx, content_hashes: Iterable[bytes]) -> set[bytes]:
    """Return which of these files (BLAKE3 of all their bytes) are held."""
    statement = "SELECT 1 FROM instances WHERE content_hash = ?"
    return {each for each in content_hashes if tx.execute(statement, (each,)).fetchone()}


def locate(tx: Tx, sop_instance_uid: str) -> Location | None:
    """Return where the instance is, or None."""
    row = tx.execute(_LOCATION + " WHERE i.sop_instance_uid = ?", (sop_instance_uid,)).fetchone()
    return None if row is None else _location(row)


_LOCATION: Final = """
SELECT i.*, e.study_instance_uid, e.series_instance_uid,
    s.wrapped_key AS wrapped_study_key, p.wrapped_key AS wrapped_pack_key
FROM instances i
JOIN series e ON e.series = i.series
JOIN studies s ON s.study_instance_uid = e.study_instance_uid
JOIN packs p ON p.pack_id = i.pack_id
"""


def _location(row: sqlite3.Row) -> Location:
    return Location(
        study_instance_uid=row["study_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        sop_class_uid=row["sop_class_uid"],
        transfer_syntax_uid=row["transfer_syntax_uid"],
        wrapped_study_key=row["wrapped_study_key"],
        pack_id=row["pack_id"],
        wrapped_pack_key=row["wrapped_pack_key"],
        length=row["length"],
        header_length=row["header_length"],
        content_hash=row["content_hash"],
        chunks=lay_out(
            row["first_chunk"], row["offset"], row["length"], hashes_in(row["chunk_hashes"])
        ),
    )


def hashes_in(joined: bytes) -> tuple[bytes, ...]:
    """Return the hashes that stand one behind the other in a column."""
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))
