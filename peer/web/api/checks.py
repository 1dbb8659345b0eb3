"""Studies that are known to be at a partner: looked for, listed, looked for again, dropped."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from aiohttp import web
from pydantic import Field, model_validator

from peer.web.api.bodies import (
    Body,
    Date,
    DateOrNothing,
    Label,
    PeerIdHex,
    Purpose,
    Text,
    Uid,
    answer,
    body,
    path,
)
from peer.web.api.partners import PartnerPath, tally_json
from peer.web.api.search import IDENTIFIERS, Identifier
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services
from peer.web.services import Services
from protocol.completeness import Study
from protocol.identifiers import PatientIdentifier, PeerId
from protocol.matching.keys import Demographics

READERS: Final = CLINICIAN | PRIVACY_OFFICER


class CheckBody(Body):
    """Whose study, and which.  `agreed`: the patient has agreed there to our being shown it."""

    name: Label = ""
    birth_date: DateOrNothing = ""
    sex: Annotated[str, Field(pattern="^[MFO]?$")] = ""
    identifiers: Annotated[tuple[Identifier, ...], Field(max_length=IDENTIFIERS)] = ()
    study_date: Date
    accession_number: Label = ""
    study_instance_uid: Uid | None = None
    modality: Annotated[str, Field(pattern="^[A-Z0-9_ ]{0,16}$")] = ""
    agreed: Literal[True]
    purpose: Purpose | None = None

    @model_validator(mode="after")
    def _names_someone(self) -> CheckBody:
        if not self.identifiers and not (self.name.strip() and self.birth_date):
            raise ValueError("needs a name with a birth date, or an identifier")
        return self

    @property
    def person(self) -> Demographics:
        """Whose study it is."""
        return Demographics(
            (self.name,) if self.name.strip() else (),
            self.birth_date,
            self.sex,
            tuple(PatientIdentifier(each.issuer, each.value) for each in self.identifiers),
        )

    @property
    def known(self) -> Study:
        """What is known of it."""
        return Study(
            self.study_instance_uid or "",
            self.study_date,
            self.accession_number,
            frozenset({self.modality} if self.modality else ()),
        )


class CheckPath(Body):
    """One check of one partner."""

    peer_id: PeerIdHex
    check: Annotated[int, Field(ge=1, lt=2**63)]


class DropBody(Body):
    """Why."""

    reason: Annotated[Text, Field(min_length=1)]


async def check(request: web.Request) -> web.StreamResponse:
    """Look for a study at the one partner that is known to have it."""
    asked = path(request, PartnerPath)
    named = await body(request, CheckBody)
    rooms = services(request)
    rooms.partners.trusted(asked.peer_id)
    who = actor(request, named.purpose)
    found = await rooms.reciprocity.completeness.check(
        asked.peer_id, named.person, named.known, who
    )
    return answer(found.to_json(), HTTPStatus.CREATED)


async def list_checks(request: web.Request) -> web.StreamResponse:
    """Return the checks of a partner, what was missed first, and the estimate."""
    asked = path(request, PartnerPath)
    return answer(await checks_json(services(request), asked.peer_id))


async def checks_json(rooms: Services, peer_id: PeerId) -> dict[str, Any]:
    """Return the latest checks of a partner and what they say of it."""
    completeness = rooms.reciprocity.completeness
    found = await completeness.list(peer_id, rooms.settings.lists.checks)
    return {
        "checks": [each.to_json() for each in found],
        "completeness": tally_json(await completeness.estimate(peer_id)),
    }


async def again(request: web.Request) -> web.StreamResponse:
    """Look for a study once more."""
    asked = path(request, CheckPath)
    rooms = services(request)
    rooms.partners.trusted(asked.peer_id)
    found = await rooms.reciprocity.completeness.again(asked.peer_id, asked.check, actor(request))
    return answer(found.to_json())


async def drop(request: web.Request) -> web.StreamResponse:
    """Forget a study that was named by mistake."""
    asked = path(request, CheckPath)
    wanted = await body(request, DropBody)
    rooms = services(request)
    await rooms.reciprocity.completeness.drop(
        asked.peer_id, asked.check, wanted.reason, actor(request)
    )
    return answer(await checks_json(rooms, asked.peer_id))


ROUTES: Final = (
    Route("GET", "/api/v1/partners/{peer_id}/checks", list_checks, READERS),
    Route("POST", "/api/v1/partners/{peer_id}/checks", check, CLINICIAN),
    Route("POST", "/api/v1/partners/{peer_id}/checks/{check}/again", again, CLINICIAN),
    Route("DELETE", "/api/v1/partners/{peer_id}/checks/{check}", drop, CLINICIAN),
)
