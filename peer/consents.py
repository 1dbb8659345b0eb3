"""Consent directives: recorded, listed, revoked; each change with all that follows from it.

A revocation is one transaction: the directive, the withdrawals that it causes in our journal, and
the audit record.  What writes the journal is passed in, because it belongs to a higher room.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import Conflict, NotFound
from peer.index import consents, deferrals
from peer.index.consents import Recorded
from peer.index.database import Database, Tx
from protocol.consent import (
    ALL_PARTNERS,
    Directive,
    PurposeOfUse,
    Recipients,
    Scope,
    problems,
    sentence,
)
from protocol.errors import Refusal
from protocol.identifiers import PatientIdentifier

__all__ = ["Consents", "NewDirective", "Recorded", "for_patient", "to_json"]

DIRECTIVE_ID_BYTES: Final = 16

Apply: TypeAlias = Callable[[Tx, int], int | None]
"""Makes our journal say what a patient's directives now permit; returns the last seq it wrote."""

Listener: TypeAlias = Callable[[tuple[int, ...]], Awaitable[None]]
"""Called with the patients concerned, after the transaction."""

for_patient = consents.for_patient


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDirective:
    """What a consent says; instants are Unix seconds UTC, None: from now on, and without end."""

    patient: tuple[PatientIdentifier, ...]
    grantor: str
    scope: Scope = field(default_factory=Scope)
    recipients: Recipients = ALL_PARTNERS
    purposes: frozenset[str] = frozenset({PurposeOfUse.TREAT})
    effective_from: int | None = None
    expires_at: int | None = None
    evidence_hash: str = ""
    shorter_period_requested: bool = False


class Consents:
    """The directives of this facility's patients."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._apply: Apply | None = None
        self._listeners: list[Listener] = []

    def apply_with(self, apply: Apply) -> None:
        """Let `apply` change our journal in the transaction of every grant and revocation."""
        self._apply = apply

    def on_change(self, listener: Listener) -> None:
        """Call `listener` after every grant and revocation."""
        self._listeners.append(listener)

    async def grant(self, new: NewDirective, actor: Actor) -> Directive:
        """Record a directive and publish what it permits; raise Refusal if it means nothing."""
        now = self._clock.now()
        directive = Directive(
            directive_id=secrets.token_hex(DIRECTIVE_ID_BYTES),
            patient=tuple(dict.fromkeys(each for each in new.patient if each.value)),
            grantor=new.grantor,
            scope=new.scope,
            recipients=new.recipients,
            purposes=new.purposes,
            effective_from=now if new.effective_from is None else new.effective_from,
            expires_at=new.expires_at,
            evidence_hash=new.evidence_hash,
            recorded_at=now,
            shorter_period_requested=new.shorter_period_requested,
        )
        if wrong := problems(directive):
            code = "invalid-directive"
            raise Refusal(code, "This consent cannot be recorded as it is.", " ".join(wrong))

        def work(tx: Tx) -> tuple[int, ...]:
            consents.add(tx, directive)
            for identifier in directive.patient:
                # Whoever says something new of a patient has looked.
                deferrals.release(tx, identifier)
            concerned = consents.patients_of(tx, directive.patient)
            self._apply_to(tx, concerned)
            self._audit(tx, "consent-grant", directive, concerned, actor)
            return concerned

        await self._tell(await self._db.write(work))
        return directive

    async def revoke(self, directive_id: str, reason: str, actor: Actor) -> Recorded:
        """End a directive now: withdrawn in our journal when this returns.

        Raises NotFound, or Conflict if it was revoked before.
        """
        now = self._clock.now()

        def work(tx: Tx) -> tuple[Recorded, tuple[int, ...]]:
            known = _found(consents.get(tx, directive_id))
            if not consents.revoke(tx, directive_id, now, reason):
                raise Conflict("This directive was revoked before; there is nothing left to end.")
            concerned = consents.patients_of(tx, known.directive.patient)
            seq = self._apply_to(tx, concerned)
            if seq is not None:
                consents.note_withdrawal(tx, directive_id, seq)
            self._audit(tx, "consent-revoke", known.directive, concerned, actor)
            return _found(consents.get(tx, directive_id)), concerned

        recorded, concerned = await self._db.write(work)
        await self._tell(concerned)
        return recorded

    async def get(self, directive_id: str) -> Recorded:
        """Return a directive; raise NotFound."""
        return _found(await self._db.read(lambda tx: consents.get(tx, directive_id)))

    async def list(self, patient: PatientIdentifier | None = None) -> list[Recorded]:
        """Return all directives or those recorded under one identifier, the newest first."""
        if patient is None:
            return await self._db.read(consents.everything)
        return await self._db.read(lambda tx: consents.under(tx, patient))

    def _apply_to(self, tx: Tx, concerned: tuple[int, ...]) -> int | None:
        if self._apply is None:
            return None
        written = [self._apply(tx, patient) for patient in concerned]
        return max((seq for seq in written if seq is not None), default=None)

    def _audit(
        self, tx: Tx, action: str, directive: Directive, concerned: tuple[int, ...], actor: Actor
    ) -> None:
        event = AuditEvent(
            action=action,
            outcome="success",
            actor=actor,
            patient=str(concerned[0]) if concerned else "",
            detail={"directive_id": directive.directive_id, "says": sentence(directive)},
        )
        audit.append(tx, event, self._clock.now())

    async def _tell(self, concerned: tuple[int, ...]) -> None:
        for listener in self._listeners:
            await listener(concerned)


def to_json(recorded: Recorded) -> dict[str, object]:
    """Return a directive as the API shows it; who applied its withdrawals is added there."""
    directive = recorded.directive
    scope, recipients = directive.scope, directive.recipients
    first = next(iter(directive.patient), PatientIdentifier("", ""))
    return {
        "directive_id": directive.directive_id,
        "patient": {"issuer": first.issuer, "patient_id": first.value},
        "status": directive.status,
        "recipients": "all" if recipients.all_partners else sorted(recipients.named),
        "excluded": sorted(recipients.excluded),
        "scope": {
            "kind": scope.kind,
            "study_instance_uids": sorted(scope.study_instance_uids),
            "modalities": sorted(scope.modalities),
            "body_parts": sorted(scope.body_parts),
            "study_date_from": scope.study_date_from,
            "study_date_to": scope.study_date_to,
        },
        "purposes": sorted(directive.purposes),
        "grantor": directive.grantor,
        "evidence_hash": directive.evidence_hash,
        "effective_from": directive.effective_from,
        "expires_at": directive.expires_at,
        "recorded_at": directive.recorded_at,
        "revoked_at": recorded.revoked_at,
        "revoked_because": recorded.revoked_because,
        "sentence": sentence(directive),
    }


def _found(recorded: Recorded | None) -> Recorded:
    if recorded is None:
        raise NotFound("There is no such directive; list the patient's to see their numbers.")
    return recorded
