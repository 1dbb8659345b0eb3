"""Search every facility for a person's studies."""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field, model_validator

from peer.search import Question
from peer.web.api.bodies import (
    Body,
    DateOrNothing,
    Label,
    Purpose,
    Text,
    answer,
    body,
    purpose_of,
)
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, Route, services
from protocol.identifiers import PatientIdentifier

IDENTIFIERS: Final = 16
"""Most identifiers of one question: people have a handful."""


class Identifier(Body):
    """A Patient ID and who issued it."""

    issuer: Label
    value: Annotated[Label, Field(min_length=1)]


class SearchBody(Body):
    """Name and birth date, or identifiers, or both; the reason of emergency access."""

    name: Label = ""
    birth_date: DateOrNothing = ""
    sex: Annotated[str, Field(pattern="^[MFO]?$")] = ""
    identifiers: Annotated[tuple[Identifier, ...], Field(max_length=IDENTIFIERS)] = ()
    purpose: Purpose | None = None
    reason: Text = ""

    @model_validator(mode="after")
    def _names_someone(self) -> SearchBody:
        if not self.identifiers and not (self.name.strip() and self.birth_date):
            raise ValueError("needs a name with a birth date, or an identifier")
        return self


def question_of(asked: SearchBody) -> Question:
    """Return what was asked as the search takes it."""
    return Question(
        name=asked.name,
        birth_date=asked.birth_date,
        sex=asked.sex,
        identifiers=tuple(PatientIdentifier(i.issuer, i.value) for i in asked.identifiers),
    )


async def search(request: web.Request) -> web.StreamResponse:
    """Return one merged list and what it covers."""
    asked = await body(request, SearchBody)
    who = actor(request, purpose_of(asked.purpose, asked.reason))
    found = await services(request).search.search(question_of(asked), who, asked.reason)
    return answer(found.to_json())


ROUTES: Final = (Route("POST", "/api/v1/search", search, CLINICIAN),)
