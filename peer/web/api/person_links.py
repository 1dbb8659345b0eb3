"""What people here say of two records: one person, or two; and the undoing of it."""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field, StringConstraints

from peer.web.api.bodies import Body, answer, body, path
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services

RefHex = Annotated[str, StringConstraints(pattern="^([0-9a-f]{64}|[0-9a-f]{96})$")]
"""A ref of `protocol.person_links`: a description asked for, or a record."""


class LinkBody(Body):
    """Two refs, as an answer of a search has them, and what is said of them."""

    one: RefHex
    other: RefHex
    same: bool


class LinkPath(Body):
    """One link."""

    link: Annotated[int, Field(ge=1)]


async def say(request: web.Request) -> web.StreamResponse:
    """Say that two records are one person's, or two people's."""
    said = await body(request, LinkBody)
    made = await services(request).person_links.say(
        bytes.fromhex(said.one), bytes.fromhex(said.other), actor(request), same=said.same
    )
    return answer(made.to_json())


async def standing(request: web.Request) -> web.StreamResponse:
    """Return the links that stand, the newest first."""
    found = await services(request).person_links.list()
    return answer({"links": [each.to_json() for each in found]})


async def undo(request: web.Request) -> web.StreamResponse:
    """Have a link not stand any more."""
    which = path(request, LinkPath)
    undone = await services(request).person_links.undo(which.link, actor(request))
    return answer(undone.to_json())


ROUTES: Final = (
    Route("POST", "/api/v1/person-links", say, CLINICIAN),
    Route("GET", "/api/v1/person-links", standing, CLINICIAN | PRIVACY_OFFICER),
    Route("POST", "/api/v1/person-links/{link}/undo", undo, CLINICIAN | PRIVACY_OFFICER),
)
