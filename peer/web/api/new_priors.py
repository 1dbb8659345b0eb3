"""New studies of patients whom the asker has searched for."""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.web.api.bodies import Body, answer, body
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, Route, services

PRIORS: Final = 1000
"""Most new studies that are called seen in one request."""

Number = Annotated[int, Field(ge=1)]


class SeenBody(Body):
    """What the asker has seen."""

    priors: Annotated[tuple[Number, ...], Field(min_length=1, max_length=PRIORS)]


async def list_new(request: web.Request) -> web.StreamResponse:
    """Return what is news for the asker, what they have not seen first."""
    found = await services(request).search.new_priors.listed(actor(request))
    return answer({"priors": [each.to_json() for each in found]})


async def seen(request: web.Request) -> web.StreamResponse:
    """Note what the asker has seen."""
    asked = await body(request, SeenBody)
    count = await services(request).search.new_priors.seen(asked.priors, actor(request))
    return answer({"seen": count})


ROUTES: Final = (
    Route("GET", "/api/v1/new-priors", list_new, CLINICIAN),
    Route("POST", "/api/v1/new-priors/seen", seen, CLINICIAN),
)
