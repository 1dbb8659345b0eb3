"""HL7 messages that were refused: listed, tried again, discarded."""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.web.api.bodies import Body, Empty, answer, body, path
from peer.web.identity import actor
from peer.web.routes import OPERATOR, Route, services

LISTED: Final = 1000
"""Most messages of one answer: as many as are kept unless an operator says otherwise."""


class ParkedPath(Body):
    """One message."""

    parked: Annotated[int, Field(ge=1)]


async def list_parked(request: web.Request) -> web.StreamResponse:
    """Return the messages that wait, the one that came first first."""
    return answer({"messages": await services(request).hl7.parked(LISTED)})


async def retry(request: web.Request) -> web.StreamResponse:
    """Take a message that waits."""
    which = path(request, ParkedPath)
    await body(request, Empty)
    return answer(await services(request).hl7.retry(which.parked, actor(request)))


async def discard(request: web.Request) -> web.StreamResponse:
    """Keep a message that waits no longer."""
    which = path(request, ParkedPath)
    await body(request, Empty)
    return answer(await services(request).hl7.discard(which.parked, actor(request)))


ROUTES: Final = (
    Route("GET", "/api/v1/hl7/parked", list_parked, OPERATOR),
    Route("POST", "/api/v1/hl7/parked/{parked}/retry", retry, OPERATOR),
    Route("DELETE", "/api/v1/hl7/parked/{parked}", discard, OPERATOR),
)
