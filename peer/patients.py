"""Patients of this facility that turn out to be one person, or two: merged, split, and undone.

Nothing is altered in the images: which patient a study is of is a matter of the index.  Whatever is
published of the patients concerned is replaced under new patient keys in the same transaction, so
that no key which opened one of them opens what is published of them from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.dicom.header import PatientAttributes
from peer.errors import Conflict, NotFound
from peer.index import Database, Tx, patient_changes, patients, studies
from peer.index.patient_changes import ChangeRow, Kind
from peer.index.patients import PatientRow
from protocol.identifiers import PatientIdentifier

LISTED: Final = 1000
"""Most changes of one answer: the merges of a year at a large hospital."""

Renew: TypeAlias = Callable[[Tx, Sequence[int]], None]
"""Publishes patients anew, in a transaction."""

Apply: TypeAlias = Callable[[Tx, int], object]
"""Publishes a patient as wanted now, in a transaction."""

Listener: TypeAlias = Callable[[], Awaitable[None]]
"""Called after the transaction."""


@dataclass(frozen=True, slots=True)
class PatientChange:
    """A merge or a split, as a person sees it."""

    row: ChangeRow
    gone: PatientIdentifier
    into: PatientIdentifier

    @property
    def sentence(self) -> str:
        """What was done."""
        count = len(self.row.moved)
        studies_moved = f"{count} stud{'y' if count == 1 else 'ies'}"
        if self.row.kind == "merge":
            said = f"{_said(self.gone)} was merged into {_said(self.into)}, with {studies_moved}."
        else:
            said = f"{studies_moved} of {_said(self.gone)} went to {_said(self.into)}."
        return said if self.row.undone_at is None else f"{said} Undone."

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "change": self.row.change,
            "kind": self.row.kind,
            "from": {"issuer": self.gone.issuer, "patient_id": self.gone.value},
            "to": {"issuer": self.into.issuer, "patient_id": self.into.value},
            "study_instance_uids": list(self.row.moved),
            "sentence": self.sentence,
            "reason": self.row.reason,
            "at": self.row.made_at,
            "by": self.row.made_by,
            "undone_at": self.row.undone_at,
        }


class Patients:
    """Merges and splits patients."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._renew: Renew | None = None
        self._apply: Apply | None = None
        self._listeners: list[Listener] = []

    def renew_with(self, renew: Renew) -> None:
        """Let `renew` publish the patients concerned anew, in the transaction of each change."""
        self._renew = renew

    def apply_with(self, apply: Apply) -> None:
        """Let `apply` publish a patient as described now, in the transaction of the change."""
        self._apply = apply

    def on_change(self, listener: Listener) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    async def merge(
        self, gone: PatientIdentifier, into: PatientIdentifier, actor: Actor, reason: str
    ) -> PatientChange:
        """Let two Patient IDs mean one patient, who has the studies of both from then on.

        Raises NotFound, or Conflict if they mean one patient already.
        """
        number = await self._db.write(lambda tx: self.merge_in(tx, gone, into, actor, reason))
        return await self._done(number)

    def merge_in(
        self, tx: Tx, gone: PatientIdentifier, into: PatientIdentifier, actor: Actor, reason: str
    ) -> int:
        """Merge as `merge` does, in the caller's transaction; return the number of the change."""
        old, new = _found(tx, gone), _found(tx, into)
        if old.patient == new.patient:
            raise Conflict("Both identifiers mean one patient already.")
        uids = [each.study_instance_uid for each in studies.of_patient(tx, old.patient)]
        moved = patient_changes.move(tx, uids, old.patient, new.patient)
        number = self._put(tx, "merge", old, new, moved, actor, reason)
        patients.merge(tx, old, new)
        self._publish(tx, old.patient, new.patient)
        return number

    def describe_in(self, tx: Tx, known: PatientRow, said: PatientAttributes, actor: Actor) -> bool:
        """Describe a patient as a system of this facility does; return whether that was new.

        What it says goes before what images say, its birth date and sex too.  Former names are
        kept: older images have them.
        """
        changed = patients.describe_anew(tx, known, said)
        if changed:
            event = AuditEvent(
                "patient-update",
                "success",
                actor,
                patient=str(known.patient),
                detail={"changed": " ".join(changed)},
            )
            audit.append(tx, event, self._clock.now())
            if self._apply is not None:
                self._apply(tx, known.patient)
        return bool(changed)

    async def split(
        self,
        uids: Sequence[str],
        into: PatientAttributes,
        actor: Actor,
        reason: str,
    ) -> PatientChange:
        """Give studies of one patient to another, who is made if `into` is not on record.

        Without a Patient ID in `into` a new patient is made in any case.  Raises NotFound, or
        Conflict if the studies are of several patients, or of that one already.
        """

        def work(tx: Tx) -> int:
            found = [studies.get(tx, uid) for uid in dict.fromkeys(uids)]
            owners = {each.patient for each in found if each is not None}
            if not owners or None in found:
                raise NotFound("One of these studies is not held here.")
            if len(owners) > 1:
                raise Conflict("These studies are of several patients. Split them one by one.")
            old = patients.get(tx, owners.pop())
            new = patients.find(tx, into.issuer, into.patient_id)
            if new is None:
                new = patients.get(tx, patients.add(tx, into, into.issuer))
            if old is None or new is None or old.patient == new.patient:
                raise Conflict("These studies are of that patient already.")
            moved = patient_changes.move(tx, uids, old.patient, new.patient)
            number = self._put(tx, "split", old, new, moved, actor, reason)
            self._publish(tx, old.patient, new.patient)
            return number

        return await self._done(await self._db.write(work))

    async def undo(self, change: int, actor: Actor) -> PatientChange:
        """Give the studies back; what has come in since stays where it is.

        Raises NotFound, or Conflict if it was undone or a later change must be undone before.
        """

        def work(tx: Tx) -> int:
            row = patient_changes.get(tx, change)
            if row is None:
                raise NotFound("There is no such change. List them to find its number.")
            if row.undone_at is not None:
                raise Conflict("This change was undone before.")
            if patient_changes.followed(tx, row):
                raise Conflict("A later change concerns these patients. Undo that one first.")
            old, new = patients.get(tx, row.from_patient), patients.get(tx, row.to_patient)
            if old is None or new is None:
                raise Conflict("No study of these patients is left. There is nothing to undo.")
            patient_changes.move(tx, row.moved, new.patient, old.patient)
            if row.kind == "merge":
                patients.unmerge(tx, old, new, row.before)
            patient_changes.undone(tx, change, self._clock.now())
            self._audit(tx, actor, row, "undone")
            self._publish(tx, old.patient, new.patient)
            if row.kind == "split":
                patients.delete_unused(tx, new.patient)
            return change

        return await self._done(await self._db.write(work))

    async def list(self) -> list[PatientChange]:
        """Return the changes, the newest first."""
        return await self._db.read(
            lambda tx: [_shown(tx, row) for row in patient_changes.latest(tx, LISTED)]
        )

    def _put(
        self,
        tx: Tx,
        kind: Kind,
        old: PatientRow,
        new: PatientRow,
        moved: Sequence[str],
        actor: Actor,
        reason: str,
    ) -> int:
        now = self._clock.now()
        number = patient_changes.add(
            tx, kind, old, new, moved, now=now, by=actor.name, reason=reason
        )
        row = patient_changes.get(tx, number)
        if row is not None:
            self._audit(tx, actor, row, "made")
        return number

    def _audit(self, tx: Tx, actor: Actor, row: ChangeRow, what: str) -> None:
        """Put a change on record of both patients."""
        for patient in (row.from_patient, row.to_patient):
            event = AuditEvent(
                action="patient-change",
                outcome="success",
                actor=actor,
                patient=str(patient),
                detail={
                    "change": row.change,
                    "kind": row.kind,
                    "what": what,
                    "studies": len(row.moved),
                    "reason": row.reason,
                },
            )
            audit.append(tx, event, self._clock.now())

    def _publish(self, tx: Tx, *concerned: int) -> None:
        if self._renew is not None:
            self._renew(tx, concerned)

    async def changed(self) -> None:
        """Tell who listens that patients were changed, after the transaction of it."""
        for listener in self._listeners:
            await listener()

    async def _done(self, number: int) -> PatientChange:
        await self.changed()
        row = await self._db.read(lambda tx: patient_changes.get(tx, number))
        if row is None:
            raise NotFound("There is no such change. List them to find its number.")
        return await self._db.read(lambda tx: _shown(tx, row))


def _found(tx: Tx, identifier: PatientIdentifier) -> PatientRow:
    row = patients.find(tx, identifier.issuer, identifier.value)
    if row is None:
        raise NotFound("There is no patient with one of these identifiers. Check the issuer too.")
    return row


def _shown(tx: Tx, row: ChangeRow) -> PatientChange:
    known = (patients.get(tx, row.from_patient), row.before)
    gone, into = (
        PatientIdentifier("", "")
        if each is None
        else PatientIdentifier(each.issuer, each.patient_id)
        for each in known
    )
    return PatientChange(row, gone, into)


def _said(patient: PatientIdentifier) -> str:
    if not patient.value:
        return "a patient without an identifier"
    return f"{patient.value} ({patient.issuer})" if patient.issuer else patient.value
