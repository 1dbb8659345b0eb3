"""Merges and splits of patients, and what it takes to undo them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from peer.index import patients
from peer.index.migrate import Tx
from peer.index.patients import PatientRow
from protocol.identifiers import PatientIdentifier

Kind = Literal["merge", "split"]


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One merge or split.  `before`: how whom the studies went to was described until then."""

    change: int
    kind: Kind
    from_patient: int
    to_patient: int
    before: PatientRow
    moved: tuple[str, ...]
    made_at: int
    made_by: str
    reason: str
    undone_at: int | None


def add(
    tx: Tx,
    kind: Kind,
    gone: PatientRow,
    into: PatientRow,
    moved: Sequence[str],
    *,
    now: int,
    by: str,
    reason: str,
) -> int:
    """Put a change on record and return its number."""
    cursor = tx.execute(
        "INSERT INTO patient_changes"
        " (kind, from_patient, to_patient, before, moved, made_at, made_by, reason)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (kind, gone.patient, into.patient, _written(into), json.dumps(moved), now, by, reason),
    )
    return int(cursor.lastrowid or 0)


def get(tx: Tx, change: int) -> ChangeRow | None:
    """Return a change, undone or not, or None."""
    row = tx.execute("SELECT * FROM patient_changes WHERE change = ?", (change,)).fetchone()
    return None if row is None else _row(row)


def latest(tx: Tx, limit: int) -> list[ChangeRow]:
    """Return the changes, the newest first."""
    rows = tx.execute("SELECT * FROM patient_changes ORDER BY change DESC LIMIT ?", (limit,))
    return [_row(row) for row in rows.fetchall()]


def followed(tx: Tx, change: ChangeRow) -> bool:
    """Return whether a later change that stands concerns one of the two patients."""
    row = tx.execute(
        "SELECT 1 FROM patient_changes WHERE change > ?1 AND undone_at IS NULL"
        " AND (from_patient IN (?2, ?3) OR to_patient IN (?2, ?3)) LIMIT 1",
        (change.change, change.from_patient, change.to_patient),
    ).fetchone()
    return row is not None


def undone(tx: Tx, change: int, now: int) -> None:
    """Note that a change does not stand any more."""
    tx.execute("UPDATE patient_changes SET undone_at = ? WHERE change = ?", (now, change))


def move(tx: Tx, uids: Iterable[str], gone: int, into: int) -> list[str]:
    """Give studies of one patient to another; return which there were."""
    return [
        uid
        for uid in uids
        if tx.execute(
            "UPDATE studies SET patient = ? WHERE study_instance_uid = ? AND patient = ?",
            (into, uid, gone),
        ).rowcount
    ]


def _written(row: PatientRow) -> str:
    return json.dumps(
        {
            "issuer": row.issuer,
            "patient_id": row.patient_id,
            "names": row.names,
            "birth_date": row.birth_date,
            "sex": row.sex,
            "other_ids": [(each.issuer, each.value) for each in row.other_ids],
        },
        ensure_ascii=False,
    )


def _row(row: Any) -> ChangeRow:  # noqa: ANN401 - a row of `patient_changes`
    told = json.loads(row["before"])
    before = patients.PatientRow(
        patient=row["to_patient"],
        issuer=told["issuer"],
        patient_id=told["patient_id"],
        names=tuple(told["names"]),
        birth_date=told["birth_date"],
        sex=told["sex"],
        other_ids=tuple(PatientIdentifier(*each) for each in told["other_ids"]),
    )
    return ChangeRow(
        change=row["change"],
        kind=cast("Kind", row["kind"]),
        from_patient=row["from_patient"],
        to_patient=row["to_patient"],
        before=before,
        moved=tuple(json.loads(row["moved"])),
        made_at=row["made_at"],
        made_by=row["made_by"],
        reason=row["reason"],
        undone_at=row["undone_at"],
    )
