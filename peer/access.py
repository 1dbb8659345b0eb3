"""The one gate: consent, scope, role and purpose -> a Permit, or a Refusal with its reason.

Bytes leave only with a Permit, and only this module can make one; the audit record that goes with
it is durable before the Permit exists, hence before the first byte.  A decision is made anew for
every grant, for every range and for every look at a study here.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from peer import audit
from peer.actors import Actor, Role, someone_at
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Audit as Settings
from peer.errors import NotFound
from peer.index import Database, Tx, consents, journal, publications
from peer.index.access import GatedStudy, gated_study
from peer.index.studies import StudyRow
from peer.partners import Partner
from protocol import consent
from protocol.agreement import Terms
from protocol.consent import Decision, PurposeOfUse, Request, Scope, StudyFacts
from protocol.consent.directive import serves
from protocol.errors import LocalProtocolError, Refusal
from protocol.identifiers import PeerId

PERMIT_ID_BYTES: Final = 16

VIEWS: Final = 4096
"""Most looks that are remembered, so as not to be recorded twice within `audit.view_s`."""

CONFIRMED: Final = 1024
"""Most transfers whose last "yes" is remembered for the second in which it was given."""

EVERY_PARTNER: Final = b""
"""The audience of a publication to all partners (`index.publications`)."""

UNKNOWN_PATIENT: Final = 0
"""In the permit for a study that is still arriving: patients count from 1."""

_MADE_HERE: Final = object()

_REMEDIES: Final[dict[str, str]] = {
    "no-directive": "Ask the patient for consent and record it at the facility that holds the "
    "study.",
    "held-back": "Ask the facility that holds the study.",
    "revoked": "Ask the patient; a new directive must be recorded at the facility that holds the "
    "study.",
    "not-yet-effective": "Ask again when it has begun.",
    "expired": "Ask the patient for a new consent.",
    "scope": "Ask the patient for a wider consent.",
    "recipient": "Ask the patient for a consent that names your facility.",
    "purpose": "Ask with the purpose that the patient agreed to.",
}


_LookKey: TypeAlias = tuple[Actor, str, str, PeerId | None]
"""Who, at which study, what for, and from where it is still arriving."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to read one study.

    `recipient`: the partner it goes to, None for a person or program here.  `directive_id`: the
    patient's directive it rests on, '' for a look at what this facility itself holds.
    """

    permit_id: bytes
    study_instance_uid: str
    patient: int
    actor: Actor
    recipient: PeerId | None
    directive_id: str
    at: int
    _proof: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self._proof is not _MADE_HERE:
            raise LocalProtocolError("only the gate makes permits")

    def check(self, study_instance_uid: str) -> None:
        """Return if this permit is for that study; raise Refusal if it is for another."""
        if self.study_instance_uid != study_instance_uid:
            raise Refusal(
                "not-permitted",
                "This permit is for another study.",
                "Ask for leave to read the study that it belongs to.",
            )


class Access:
    """Decides who may read what, and puts it on record."""

    def __init__(self, db: Database, clock: Clock, settings: Settings) -> None:
        self._db = db
        self._clock = clock
        self._view_s = settings.view_s
        self._looks: dict[_LookKey, int] = {}
        self._confirmed: dict[tuple[PeerId, str, str, str], tuple[Partner, int, int]] = {}

    # -- partners ---------------------------------------------------------------------------
    async def permit_partner(
        self, partner: Partner, retrieve_handle: bytes, *, purpose: str, role: str, person: str
    ) -> Permit:
        """Return leave for `partner` to fetch the study behind a handle from its digest.

        It is on record once it is handed out (`record_grant`).  Raises Refusal, which is on record.
        `person` is the partner's pseudonym.
        """
        actor = someone_at(partner.peer_id, person, role, purpose)

        def work(tx: Tx) -> Permit | Refusal:
            now = self._clock.now()
            uid = publications.behind(tx, retrieve_handle)
            study = gated_study(tx, uid) if uid else None
            if journal.halted(tx) is not None:
                refusal = _recovering()
                _record(tx, "grant-refused", actor, study, now, partner.peer_id, refusal)
                return refusal
            answer = self._decide(tx, study, partner, purpose, role, now)
            if study is None or isinstance(answer, Refusal):
                refusal = answer if isinstance(answer, Refusal) else _not_published()
                _record(tx, "grant-refused", actor, study, now, partner.peer_id, refusal)
                return refusal
            return _make_permit(study, actor, partner.peer_id, answer.directive_id or "", now)

        return _given(await self._db.write(work))

    def record_grant(self, tx: Tx, permit: Permit) -> None:
        """Put on record that a partner gets a permit: in the transaction in which it does.

        So an accounting of disclosures names each, and none that came to nothing after all.
        """
        event = AuditEvent(
            action="grant",
            outcome="success",
            actor=permit.actor,
            patient=str(permit.patient),
            study_instance_uid=permit.study_instance_uid,
            partner=permit.recipient,
            detail={"grant": permit.permit_id.hex(), "directive": permit.directive_id},
        )
        audit.append(tx, event, self._clock.now())

    async def confirm(
        self, partner: Partner, study_instance_uid: str, *, purpose: str, role: str
    ) -> None:
        """Return if a study under way to `partner` may still go there; raise Refusal "revoked".

        For every range of a grant.  A "yes" is not recorded again: the grant is on record.  It
        depends on the partner, on what is on record and on the second of the clock alone, so it
        holds until one of them is another.
        """
        asked = (partner.peer_id, study_instance_uid, purpose, role)
        known = self._confirmed.get(asked)
        moment = (self._clock.now(), self._db.changes)
        if known is not None and known[0] is partner and known[1:] == moment:
            return
        refusal = await self._db.read(
            lambda tx: self.objection(tx, study_instance_uid, partner, purpose=purpose, role=role)
        )
        if refusal is not None:
            self._confirmed.pop(asked, None)
            raise Refusal("revoked", refusal.reason, refusal.remedy)
        while len(self._confirmed) >= CONFIRMED:
            self._confirmed.pop(next(iter(self._confirmed)))
        self._confirmed[asked] = (partner, *moment)

    def objection(
        self,
        tx: Tx,
        study_instance_uid: str,
        partner: Partner,
        *,
        purpose: str,
        role: str = Role.CLINICIAN,
    ) -> Refusal | None:
        """Return why a study must not go to `partner` now, or None; nothing is recorded.

        Also for those who speak of a study without sending it, such as notices, and for whoever
        lets a permit out of the house some time after it was made.
        """
        study = gated_study(tx, study_instance_uid)
        answer = self._decide(tx, study, partner, purpose, role, self._clock.now())
        return answer if isinstance(answer, Refusal) else None

    def _decide(
        self, tx: Tx, study: GatedStudy | None, partner: Partner, purpose: str, role: str, now: int
    ) -> Decision | Refusal:
        if role != Role.CLINICIAN:
            return _wrong_role()
        if purpose not in set(PurposeOfUse):
            return _unknown_purpose()
        if study is None:
            return _not_published()
        terms = partner.our_terms
        served = not terms.purposes or serves(frozenset(terms.purposes), purpose)
        if not (served and offered(terms, study.facts)):
            return Refusal(
                "agreement",
                "The peering agreement of the two facilities does not cover this.",
                "Ask the operators to agree on wider terms.",
            )
        request = Request(partner.peer_id.hex(), purpose, now)
        decision = consent.decide(consents.for_patient(tx, study.patient), study.facts, request)
        if not decision.permitted:
            return Refusal(decision.code, decision.reason, _REMEDIES[decision.code])
        audiences = publications.audiences_of(tx, study.facts.study_instance_uid)
        if EVERY_PARTNER not in audiences and bytes(partner.peer_id) not in audiences:
            return _not_published()
        return decision

    # -- people and programs here -----------------------------------------------------------
    async def permit_local(
        self,
        study_instance_uid: str,
        actor: Actor,
        what: str,
        arriving_from: PeerId | None = None,
    ) -> Permit:
        """Return leave for `actor` to read a study that this facility holds.

        `what` is done with it, a word for the record ("view", "export").  Consent governs what
        goes to partners; here the role and the purpose decide.  `arriving_from`: the origin of a
        study that is still arriving; whose it is comes on record with all of it.  Raises NotFound,
        or Refusal.
        """
        now = self._clock.now()
        look = (actor, study_instance_uid, what, arriving_from)
        # A viewer makes a request for each image, and each record is a durable write.
        last = self._looks.get(look)
        known = last is not None and now - last < self._view_s

        def work(tx: Tx) -> Permit | Refusal:
            study = gated_study(tx, study_instance_uid)
            if study is None and arriving_from is not None:
                study = GatedStudy(UNKNOWN_PATIENT, StudyFacts(study_instance_uid))
            if study is None:
                raise NotFound("This study is not held here. Search for it at the partners.")
            refusal = _may_look(actor)
            if refusal is not None or not known:
                detail: dict[str, str | int] = {"what": what}
                _record(tx, "view", actor, study, now, arriving_from, refusal, detail=detail)
            if refusal is not None:
                return refusal
            return _make_permit(study, actor, None, "", now)

        permit = _given(await (self._db.read(work) if known else self._db.write(work)))
        if not known:
            self._remember(look, now)
        return permit

    def _remember(self, look: _LookKey, now: int) -> None:
        self._looks.pop(look, None)
        while len(self._looks) >= VIEWS:
            self._looks.pop(next(iter(self._looks)))
        self._looks[look] = now


def shares_with_alone(tx: Tx, partner: Partner, now: int) -> bool:
    """Return whether consent lets `partner` find anything now that is published to it alone.

    For each evaluation: whom it is for stays unknown.  What consent no longer covers is withdrawn
    at once, so that the first study nearly always decides.
    """
    request = Request(partner.peer_id.hex(), None, now)
    for uid in publications.studies_for(tx, bytes(partner.peer_id)):
        study = gated_study(tx, uid)
        if study is None:
            continue
        directives = consents.for_patient(tx, study.patient)
        if consent.decide(directives, study.facts, request).permitted:
            return True
    return False


def facts(study: StudyRow) -> StudyFacts:
    """Return what a decision about consent may depend on of a study."""
    return StudyFacts(
        study_instance_uid=study.study_instance_uid,
        study_date=study.study_date,
        modalities=frozenset(study.modalities),
        body_parts=frozenset(study.body_parts),
        held_back=study.held_back,
    )


def is_bounded(terms: Terms) -> bool:
    """Return whether there are studies that a peering agreement's terms do not cover."""
    return bool(terms.modalities or terms.studies_from or terms.studies_until)


def offered(terms: Terms, study: StudyFacts) -> bool:
    """Return whether a peering agreement's terms cover a study; an unknown date is not covered.

    Asked at publication and at release, so that both say the same.
    """
    scope = Scope(
        kind="matching",
        modalities=frozenset(terms.modalities),
        study_date_from=terms.studies_from,
        study_date_to=terms.studies_until,
    )
    return not scope.has_criteria or scope.covers(study)


def _may_look(actor: Actor) -> Refusal | None:
    if Role.CLINICIAN not in actor.roles:
        return _wrong_role()
    return None if actor.purpose in set(PurposeOfUse) else _unknown_purpose()


def _make_permit(
    study: GatedStudy, actor: Actor, recipient: PeerId | None, directive_id: str, now: int
) -> Permit:
    return Permit(
        permit_id=secrets.token_bytes(PERMIT_ID_BYTES),
        study_instance_uid=study.facts.study_instance_uid,
        patient=study.patient,
        actor=actor,
        recipient=recipient,
        directive_id=directive_id,
        at=now,
        _proof=_MADE_HERE,
    )


def _record(
    tx: Tx,
    action: str,
    actor: Actor,
    study: GatedStudy | None,
    now: int,
    partner: PeerId | None = None,
    refusal: Refusal | None = None,
    *,
    detail: Mapping[str, str | int] | None = None,
) -> None:
    more = dict(detail or {})
    if refusal is not None:
        more |= {"code": refusal.code, "reason": refusal.reason}
    event = AuditEvent(
        action=action,
        outcome="success" if refusal is None else "refused",
        actor=actor,
        patient=str(study.patient) if study is not None and study.patient else "",
        study_instance_uid="" if study is None else study.facts.study_instance_uid,
        partner=partner,
        detail=more,
    )
    audit.append(tx, event, now)


def _given(answer: Permit | Refusal) -> Permit:
    """Return the permit, or raise the refusal, whose record is committed by now."""
    if isinstance(answer, Refusal):
        raise answer
    return answer


def _recovering() -> Refusal:
    return Refusal(
        "not-ready",
        "The facility was restored from a backup and is finding out what has changed since.",
        "Ask again in a few minutes; if it stays so, call the facility.",
    )


def _not_published() -> Refusal:
    return Refusal(
        "not-published",
        "This study is not, or no longer, published to your facility.",
        "Search again; if it should be there, ask the facility that holds it.",
    )


def _wrong_role() -> Refusal:
    return Refusal(
        "role",
        "Only someone in the role of a clinician may read images.",
        "Ask the operator for that role, or ask a clinician.",
    )


def _unknown_purpose() -> Refusal:
    return Refusal(
        "purpose",
        "The purpose of use is not one of HL7 PurposeOfUse.",
        "Give a purpose such as TREAT or ETREAT.",
    )
