"""Patients of this facility that turn out to be one person, or two."""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.dicom.header import PatientAttributes
from peer.web.api.bodies import Body, DateOrNothing, Empty, Label, Text, Uid, answer, body, path
from peer.web.identity import actor
from peer.web.routes import OPERATOR, PRIVACY_OFFICER, Route, services
from protocol.identifiers import PatientIdentifier

STUDIES: Final = 1000
"""Most studies of one split: more than one patient has."""


class PatientIdBody(Body):
    """A Patient ID and who issued it."""

    issuer: Label = ""
    patient_id: Annotated[Label, Field(min_length=1)]


class MergeBody(Body):
    """Whose Patient ID shall mean whom, and why."""

    gone: PatientIdBody
    into: PatientIdBody
    reason: Annotated[Text, Field(min_length=1)]


class DescribedBody(Body):
    """A patient: on record under the Patient ID, or to be made as described."""

    issuer: Label = ""
    patient_id: Label = ""
    name: Label = ""
    birth_date: DateOrNothing = ""
    sex: Annotated[str, Field(pattern="^[MFO]?$")] = ""


class SplitBody(Body):
    """Which studies are somebody else's, whose, and why."""

    study_instance_uids: Annotated[tuple[Uid, ...], Field(min_length=1, max_length=STUDIES)]
    into: DescribedBody
    reason: Annotated[Text, Field(min_length=1)]


class ChangePath(Body):
    """One merge or split."""

    change: Annotated[int, Field(ge=1)]


async def merge(request: web.Request) -> web.StreamResponse:
    """Let two Patient IDs mean one patient."""
    asked = await body(request, MergeBody)
    made = await services(request).patients.merge(
        PatientIdentifier(asked.gone.issuer, asked.gone.patient_id),
        PatientIdentifier(asked.into.issuer, asked.into.patient_id),
        actor(request),
        asked.reason,
    )
    return answer(made.to_json())


async def split(request: web.Request) -> web.StreamResponse:
    """Give studies of one patient to another."""
    asked = await body(request, SplitBody)
    into = PatientAttributes(
        issuer=asked.into.issuer,
        patient_id=asked.into.patient_id,
        names=(asked.into.name,) if asked.into.name else (),
        birth_date=asked.into.birth_date,
        sex=asked.into.sex,
        other_ids=(),
    )
    made = await services(request).patients.split(
        asked.study_instance_uids, into, actor(request), asked.reason
    )
    return answer(made.to_json())


async def changes(request: web.Request) -> web.StreamResponse:
    """Return merges and splits, the newest first."""
    found = await services(request).patients.list()
    return answer({"changes": [each.to_json() for each in found]})


async def undo(request: web.Request) -> web.StreamResponse:
    """Undo a merge or split."""
    which = path(request, ChangePath)
    await body(request, Empty)
    undone = await services(request).patients.undo(which.change, actor(request))
    return answer(undone.to_json())


_ROLES: Final = OPERATOR | PRIVACY_OFFICER

ROUTES: Final = (
    Route("POST", "/api/v1/patients/merge", merge, _ROLES),
    Route("POST", "/api/v1/patients/split", split, _ROLES),
    Route("GET", "/api/v1/patients/changes", changes, _ROLES),
    Route("POST", "/api/v1/patients/changes/{change}/undo", undo, _ROLES),
)
