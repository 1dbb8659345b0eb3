"""Patients' directives: recorded, listed, revoked."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import Field, model_validator

from peer.consents import NewDirective, Recorded, to_json
from peer.index import patients
from peer.web.api.bodies import (
    Body,
    DateOrNothing,
    Instant,
    Label,
    PeerIdHex,
    Purpose,
    Text,
    Uid,
    answer,
    body,
    path,
    query,
)
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services
from peer.web.services import Services
from protocol.consent import ALL_PARTNERS, Recipients, Scope
from protocol.identifiers import PatientIdentifier

LISTED: Final = 1024
"""Most studies, partners or codes in one directive."""


class Patient(Body):
    """The patient as this facility knows them."""

    issuer: Label = ""
    patient_id: Annotated[Label, Field(min_length=1)]


class ScopeBody(Body):
    """Which studies: listed ones, or those that match every criterion given, or, empty, all."""

    study_instance_uids: Annotated[tuple[Uid, ...], Field(max_length=LISTED)] = ()
    modalities: Annotated[tuple[Label, ...], Field(max_length=LISTED)] = ()
    body_parts: Annotated[tuple[Label, ...], Field(max_length=LISTED)] = ()
    study_date_from: DateOrNothing = ""
    study_date_to: DateOrNothing = ""

    @property
    def has_criteria(self) -> bool:
        """Whether studies are to be matched."""
        return bool(
            self.modalities or self.body_parts or self.study_date_from or self.study_date_to
        )

    @model_validator(mode="after")
    def _is_one_kind(self) -> ScopeBody:
        if self.study_instance_uids and self.has_criteria:
            raise ValueError("lists studies or matches them, not both")
        return self

    def to_scope(self) -> Scope:
        """Return the scope in the words of the decision."""
        if self.study_instance_uids:
            return Scope("listed", frozenset(self.study_instance_uids))
        return Scope(
            "matching" if self.has_criteria else "all",
            modalities=frozenset(self.modalities),
            study_date_from=self.study_date_from,
            study_date_to=self.study_date_to,
            body_parts=frozenset(self.body_parts),
        )


class ConsentBody(Body):
    """A directive as it is to be recorded."""

    patient: Patient
    recipients: (
        Literal["all"] | Annotated[tuple[PeerIdHex, ...], Field(min_length=1, max_length=LISTED)]
    )
    scope: ScopeBody = ScopeBody()
    purposes: Annotated[tuple[Purpose, ...], Field(min_length=1, max_length=LISTED)]
    effective_from: Instant | None = None
    expires_at: Instant | None = None
    grantor: Annotated[Label, Field(min_length=1)]
    evidence: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    shorter_period_requested: bool = False

    def to_recipients(self) -> Recipients:
        """Return the recipients in the words of the decision."""
        if self.recipients == "all":
            return ALL_PARTNERS
        return Recipients(named=frozenset(each.hex() for each in self.recipients))


class ConsentsQuery(Body):
    """One patient's directives, or everybody's."""

    issuer: Label = ""
    patient_id: Label = ""


class AcknowledgementsQuery(Body):
    """All withdrawals, or those that some partner has not confirmed."""

    state: Literal["all", "outstanding"] = "all"


class ConsentPath(Body):
    """One directive."""

    directive_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class RevokeBody(Body):
    """Why."""

    reason: Text = ""


async def grant(request: web.Request) -> web.StreamResponse:
    """Record a directive; what it permits is published at once."""
    recorded = await record_consent(request, await body(request, ConsentBody))
    return answer(await consent_json(services(request), recorded), HTTPStatus.CREATED)


async def record_consent(request: web.Request, asked: ConsentBody) -> Recorded:
    """Record a directive in the asker's name; raise Refusal if it means nothing."""
    rooms = services(request)
    issuer, value = asked.patient.issuer, asked.patient.patient_id
    if not issuer and not await rooms.db.read(lambda tx: patients.find(tx, issuer, value)):
        # So are patients known whose images name no issuer.
        issuer = rooms.settings.ingest.default_issuer
    directive = await rooms.consents.grant(
        NewDirective(
            patient=(PatientIdentifier(issuer, value),),
            grantor=asked.grantor,
            scope=asked.scope.to_scope(),
            recipients=asked.to_recipients(),
            purposes=frozenset(asked.purposes),
            effective_from=asked.effective_from,
            expires_at=asked.expires_at,
            evidence_hash=asked.evidence,
            shorter_period_requested=asked.shorter_period_requested,
        ),
        actor(request),
    )
    return await rooms.consents.get(directive.directive_id)


async def list_consents(request: web.Request) -> web.StreamResponse:
    """Return the directives of one patient or of all, the newest first."""
    asked = query(request, ConsentsQuery)
    rooms = services(request)
    patient = PatientIdentifier(asked.issuer, asked.patient_id) if asked.patient_id else None
    found = await rooms.consents.list(patient)
    return answer({"consents": [await consent_json(rooms, each) for each in found]})


async def show(request: web.Request) -> web.StreamResponse:
    """Return a directive and, once revoked, which partners have dropped what it permitted."""
    asked = path(request, ConsentPath)
    rooms = services(request)
    return answer(await consent_json(rooms, await rooms.consents.get(asked.directive_id)))


async def revoke(request: web.Request) -> web.StreamResponse:
    """Revoke a directive: withdrawn from every partner, refused from this moment on."""
    asked = path(request, ConsentPath)
    wanted = await body(request, RevokeBody)
    rooms = services(request)
    recorded = await rooms.consents.revoke(asked.directive_id, wanted.reason, actor(request))
    return answer(await consent_json(rooms, recorded))


async def acknowledgements(request: web.Request) -> web.StreamResponse:
    """Return our withdrawals with who has applied each, since when, and who has not."""
    asked = query(request, AcknowledgementsQuery)
    found = await acknowledgements_json(services(request))
    if asked.state == "outstanding":
        found["withdrawals"] = [each for each in found["withdrawals"] if each["outstanding"]]
    return answer(found)


async def acknowledgements_json(rooms: Services) -> dict[str, Any]:
    """Return the latest withdrawals of any cause, the newest first, and the oldest outstanding."""
    names = {each.peer_id: each.name for each in rooms.partners.all()}
    found = await rooms.gossip.withdrawals(rooms.settings.lists.withdrawals)
    waiting = [each.withdrawal.at for each in found if each.outstanding]
    return {
        "oldest_outstanding_at": min(waiting, default=None),
        "withdrawals": [
            {
                "seq": each.withdrawal.seq,
                "at": each.withdrawal.at,
                "entries": each.withdrawal.entries,
                "directive_ids": each.withdrawal.directives,
                "applied": [
                    {"peer_id": peer_id, "name": names[peer_id], "applied_at": at}
                    for peer_id, at in each.applied_at.items()
                    if at is not None
                ],
                "outstanding": [
                    {"peer_id": peer_id, "name": names[peer_id]} for peer_id in each.outstanding
                ],
            }
            for each in found
        ],
    }


async def consent_json(rooms: Services, recorded: Recorded) -> dict[str, object]:
    """Return a directive and when each partner has applied its withdrawals."""
    withdrawals: list[dict[str, object]] = []
    if recorded.withdrawn_seq is not None:
        applied = await rooms.gossip.acknowledged(recorded.withdrawn_seq)
        withdrawals = [
            {
                "peer_id": partner.peer_id,
                "name": partner.name,
                "applied_at": applied.get(partner.peer_id),
            }
            for partner in rooms.partners.active()
        ]
    return to_json(recorded) | {"withdrawals": withdrawals}


ROUTES: Final = (
    Route("POST", "/api/v1/consents", grant, PRIVACY_OFFICER),
    Route("GET", "/api/v1/consents", list_consents, CLINICIAN | PRIVACY_OFFICER),
    Route(
        "GET",
        "/api/v1/consents/acknowledgements",
        acknowledgements,
        CLINICIAN | PRIVACY_OFFICER,
    ),
    Route("GET", "/api/v1/consents/{directive_id}", show, CLINICIAN | PRIVACY_OFFICER),
    Route("POST", "/api/v1/consents/{directive_id}/revoke", revoke, PRIVACY_OFFICER),
)
