"""Consent directives on record."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from peer.index import patients
from peer.index.migrate import Tx
from protocol.consent import Directive, Recipients, Scope
from protocol.identifiers import PatientIdentifier

_SETS: Final = ("study_instance_uids", "modalities", "body_parts")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A directive and what became of it.

    withdrawn_seq: the position of our journal where the last withdrawal that its revocation caused
    stands; None if it caused none.  A partner that has applied that position has applied them all.
    """

    directive: Directive
    revoked_at: int | None = None
    revoked_because: str = ""
    withdrawn_seq: int | None = None


def add(tx: Tx, directive: Directive) -> None:
    """Record a new directive."""
    tx.execute(
        "INSERT INTO directives (directive_id, content, effective_from, expires_at, recorded_at)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            directive.directive_id,
            _content(directive),
            directive.effective_from,
            directive.expires_at,
            directive.recorded_at,
        ),
    )
    tx.executemany(
        "INSERT INTO directive_patients VALUES (?, ?, ?)",
        [(each.value, each.issuer, directive.directive_id) for each in directive.patient],
    )


def revoke(tx: Tx, directive_id: str, now: int, reason: str) -> bool:
    """Mark a directive as revoked; return whether it was in force on record before."""
    cursor = tx.execute(
        "UPDATE directives SET revoked_at = ?, revoked_because = ?"
        " WHERE directive_id = ? AND revoked_at IS NULL",
        (now, reason, directive_id),
    )
    return cursor.rowcount > 0


def note_withdrawal(tx: Tx, directive_id: str, seq: int) -> None:
    """Record where in our journal the withdrawals of a revocation end."""
    tx.execute(
        "UPDATE directives SET withdrawn_seq = ? WHERE directive_id = ?", (seq, directive_id)
    )


def note_withdrawals_since(tx: Tx, patient: int, since: int, seq: int) -> None:
    """Record where the withdrawals of a patient's revocations from `since` on ended, late."""
    for identifier in patients.known_as(tx, patient):
        tx.execute(
            "UPDATE directives SET withdrawn_seq = ?"
            " WHERE withdrawn_seq IS NULL AND revoked_at >= ? AND directive_id IN"
            " (SELECT directive_id FROM directive_patients WHERE issuer = ? AND patient_id = ?)",
            (seq, since, identifier.issuer, identifier.value),
        )


def get(tx: Tx, directive_id: str) -> Recorded | None:
    """Return a directive, or None."""
    row = tx.execute("SELECT * FROM directives WHERE directive_id = ?", (directive_id,)).fetchone()
    return None if row is None else _recorded(tx, row)


def everything(tx: Tx) -> list[Recorded]:
    """Return all directives, the newest first."""
    rows = tx.execute("SELECT * FROM directives ORDER BY recorded_at DESC, directive_id").fetchall()
    return [_recorded(tx, row) for row in rows]


def under(tx: Tx, identifier: PatientIdentifier) -> list[Recorded]:
    """Return the directives that are recorded under an identifier, the newest first."""
    rows = tx.execute(
        "SELECT d.* FROM directives d JOIN directive_patients p USING (directive_id)"
        " WHERE p.patient_id = ? AND p.issuer = ? ORDER BY d.recorded_at DESC, d.directive_id",
        (identifier.value, identifier.issuer),
    ).fetchall()
    return [_recorded(tx, row) for row in rows]


def for_patient(tx: Tx, patient: int) -> tuple[Directive, ...]:
    """Return the directives of a patient, whatever their status.

    Only the Patient ID with its issuer counts, and those of patients who were merged into this one:
    other identifiers on record may be another person's.
    """
    found = {
        each.directive.directive_id: each.directive
        for identifier in patients.known_as(tx, patient)
        for each in under(tx, identifier)
    }
    return tuple(found.values())


def patients_of(tx: Tx, identifiers: Iterable[PatientIdentifier]) -> tuple[int, ...]:
    """Return the patients on record under any of the identifiers."""
    rows = (patients.find(tx, each.issuer, each.value) for each in identifiers)
    return tuple(dict.fromkeys(row.patient for row in rows if row is not None))


def _content(directive: Directive) -> str:
    scope, recipients = directive.scope, directive.recipients
    return json.dumps(
        {
            "grantor": directive.grantor,
            "scope": {
                "kind": scope.kind,
                **{name: sorted(getattr(scope, name)) for name in _SETS},
                "study_date_from": scope.study_date_from,
                "study_date_to": scope.study_date_to,
            },
            "recipients": {
                "all_partners": recipients.all_partners,
                "named": sorted(recipients.named),
                "excluded": sorted(recipients.excluded),
            },
            "purposes": sorted(directive.purposes),
            "evidence_hash": directive.evidence_hash,
            "shorter_period_requested": directive.shorter_period_requested,
        },
        ensure_ascii=False,
    )


def _recorded(tx: Tx, row: Any) -> Recorded:  # noqa: ANN401 - a row of `directives`
    content = json.loads(row["content"])
    scope, recipients = content["scope"], content["recipients"]
    identifiers = tx.execute(
        "SELECT issuer, patient_id FROM directive_patients WHERE directive_id = ?"
        " ORDER BY issuer, patient_id",
        (row["directive_id"],),
    ).fetchall()
    directive = Directive(
        directive_id=row["directive_id"],
        patient=tuple(
            PatientIdentifier(each["issuer"], each["patient_id"]) for each in identifiers
        ),
        grantor=content["grantor"],
        scope=Scope(**scope | {name: frozenset(scope[name]) for name in _SETS}),
        recipients=Recipients(
            all_partners=recipients["all_partners"],
            named=frozenset(recipients["named"]),
            excluded=frozenset(recipients["excluded"]),
        ),
        purposes=frozenset(content["purposes"]),
        effective_from=row["effective_from"],
        expires_at=row["expires_at"],
        status="active" if row["revoked_at"] is None else "revoked",
        evidence_hash=content["evidence_hash"],
        recorded_at=row["recorded_at"],
        shorter_period_requested=content["shorter_period_requested"],
    )
    return Recorded(directive, row["revoked_at"], row["revoked_because"], row["withdrawn_seq"])
