"""Search every facility for a person's studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from aiohttp import hdrs, web
from pydantic import Field

from peer.actors import Actor
from peer.search import Answer, Filters, Heard, Question
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
from peer.web.streams import LINES, Lines, unless_abandoned
from protocol.identifiers import PatientIdentifier

IDENTIFIERS: Final = 16
"""Most identifiers of one question: people have a handful."""


class Identifier(Body):
    """A Patient ID and who issued it."""

    issuer: Label
    value: Annotated[Label, Field(min_length=1)]


class PersonBody(Body):
    """Name and birth date, or identifiers, or both."""

    name: Label = ""
    birth_date: DateOrNothing = ""
    sex: Annotated[str, Field(pattern="^[MFO]?$")] = ""
    identifiers: Annotated[tuple[Identifier, ...], Field(max_length=IDENTIFIERS)] = ()


class SearchBody(PersonBody):
    """Who is searched for, what for, and the reason of emergency access."""

    purpose: Purpose | None = None
    reason: Text = ""


class FiltersBody(Body):
    """Which of the studies that are found are to be seen; see `peer.search.Filters`."""

    modality: Label = ""
    body_part: Label = ""
    date_from: DateOrNothing = ""
    date_to: DateOrNothing = ""
    facility: Label = ""
    description: Label = ""
    accession_number: Label = ""


class FilteredBody(SearchBody):
    """A search, and which of its studies are to be seen."""

    filters: FiltersBody = FiltersBody()


def question_of(asked: PersonBody) -> Question:
    """Return what was asked as the search takes it."""
    return Question(
        name=asked.name,
        birth_date=asked.birth_date,
        sex=asked.sex,
        identifiers=tuple(PatientIdentifier(i.issuer, i.value) for i in asked.identifiers),
    )


async def search(request: web.Request) -> web.StreamResponse:
    """Return one merged list and what it covers; as JSON lines, facility by facility before."""
    asked = await body(request, FilteredBody)
    filters = Filters(**asked.filters.model_dump())
    who = actor(request, purpose_of(asked.purpose, asked.reason))
    if wants_lines(request):
        return await told(
            request,
            asked,
            who,
            lambda heard: heard.only(filters.admit).to_json(),
            lambda found: found.only(filters.admit).to_json(),
        )
    work = services(request).search.search(question_of(asked), who, asked.reason)
    found = await unless_abandoned(request, work)
    return answer(found.only(filters.admit).to_json())


def wants_lines(request: web.Request) -> bool:
    """Whether the asker reads an answer line by line."""
    return LINES in request.headers.get(hdrs.ACCEPT, "")


async def told(
    request: web.Request,
    asked: SearchBody,
    who: Actor,
    of_facility: Callable[[Heard], Mapping[str, object]],
    of_answer: Callable[[Answer], Mapping[str, object]],
) -> web.StreamResponse:
    """Search, and tell what each facility has as it comes, and the answer in the end."""
    lines = Lines(request)

    async def hear(heard: Heard) -> None:
        await lines.tell("facility", of_facility(heard))

    try:
        work = services(request).search.search(question_of(asked), who, asked.reason, hear=hear)
        found = await unless_abandoned(request, work)
        await lines.tell("answer", of_answer(found))
    except Exception as error:  # noqa: BLE001 - of what has begun, the end must be told
        await lines.fail(error)
    return lines.response


ROUTES: Final = (Route("POST", "/api/v1/search", search, CLINICIAN),)
