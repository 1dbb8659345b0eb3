"""The list of expected patients, who are searched for ahead."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.web.api.bodies import Body, Empty, Purpose, answer, body, path
from peer.web.api.search import PersonBody, question_of
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, Route, services

PATIENTS: Final = 1000
"""Most patients of one request: more than a department sees in a day."""


class PrefetchBody(Body):
    """Who is expected, and for what they are searched for."""

    patients: Annotated[tuple[PersonBody, ...], Field(min_length=1, max_length=PATIENTS)]
    purpose: Purpose | None = None


class ExpectedPath(Body):
    """One patient on the list."""

    expected: Annotated[int, Field(ge=1)]


async def add(request: web.Request) -> web.StreamResponse:
    """Put patients on the list."""
    asked = await body(request, PrefetchBody)
    questions = [question_of(each) for each in asked.patients]
    waiting = await services(request).prefetch.add(questions, actor(request, asked.purpose))
    return answer({"waiting": waiting}, HTTPStatus.ACCEPTED)


async def list_expected(request: web.Request) -> web.StreamResponse:
    """Return the patients on the list, and what came of searching for them."""
    found = await services(request).prefetch.list(PATIENTS)
    return answer({"patients": [each.to_json() for each in found]})


async def drop(request: web.Request) -> web.StreamResponse:
    """Take a patient off the list."""
    asked = path(request, ExpectedPath)
    await body(request, Empty)
    await services(request).prefetch.drop(asked.expected, actor(request))
    return answer({"expected": asked.expected, "dropped": True})


ROUTES: Final = (
    Route("POST", "/api/v1/prefetch", add, CLINICIAN),
    Route("GET", "/api/v1/prefetch", list_expected, CLINICIAN),
    Route("DELETE", "/api/v1/prefetch/{expected}", drop, CLINICIAN),
)
