"""Studies fetched from partners."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from peer.web.api.bodies import (
    Body,
    Id16Hex,
    PeerIdHex,
    Purpose,
    Text,
    Uid,
    answer,
    body,
    path,
    purpose_of,
)
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, Route, services
from peer.web.streams import send_events


class RetrievalBody(Body):
    """What to fetch, from whom, and why; the reason of emergency access."""

    peer_id: PeerIdHex
    study_instance_uid: Uid
    purpose: Purpose | None = None
    reason: Text = ""


class RetryBody(Body):
    """Why it is fetched again."""

    purpose: Purpose | None = None
    reason: Text = ""


class RetrievalPath(Body):
    """One retrieval."""

    retrieval_id: Id16Hex


async def retrieve(request: web.Request) -> web.StreamResponse:
    """Start to fetch a study, or go on with it."""
    asked = await body(request, RetrievalBody)
    started = await services(request).retrieve.retrieve(
        asked.peer_id,
        asked.study_instance_uid,
        actor(request, purpose_of(asked.purpose, asked.reason)),
        asked.reason,
    )
    return answer(started.to_json(), HTTPStatus.ACCEPTED)


async def show(request: web.Request) -> web.StreamResponse:
    """Return how far a retrieval is."""
    asked = path(request, RetrievalPath)
    status = await services(request).retrieve.status(asked.retrieval_id)
    return answer(status.to_json())


async def follow(request: web.Request) -> web.StreamResponse:
    """Tell how far a retrieval is, as it changes, up to its end."""
    asked = path(request, RetrievalPath)
    states = aiter(services(request).retrieve.follow(asked.retrieval_id))
    first = await anext(states)
    return await send_events(request, first.to_json(), (each.to_json() async for each in states))


async def list_retrievals(request: web.Request) -> web.StreamResponse:
    """Return all retrievals, the newest first."""
    found = await services(request).retrieve.list()
    return answer({"retrievals": [each.to_json() for each in found]})


async def parked(request: web.Request) -> web.StreamResponse:
    """Return the retrievals that did not come, each with its reason."""
    found = await services(request).retrieve.parking.list()
    return answer({"retrievals": [each.to_json() for each in found]})


async def retry(request: web.Request) -> web.StreamResponse:
    """Begin anew to fetch what did not come."""
    retrieval_id = path(request, RetrievalPath).retrieval_id
    asked = await body(request, RetryBody)
    who = actor(request, purpose_of(asked.purpose, asked.reason))
    started = await services(request).retrieve.retry(retrieval_id, who, asked.reason)
    return answer(started.to_json(), HTTPStatus.ACCEPTED)


async def unpark(request: web.Request) -> web.StreamResponse:
    """Take what did not come off the list."""
    retrieval_id = path(request, RetrievalPath).retrieval_id
    await services(request).retrieve.parking.take_off(retrieval_id, actor(request))
    return answer({"retrieval_id": retrieval_id.hex(), "removed": True})


ROUTES: Final = (
    Route("POST", "/api/v1/retrievals", retrieve, CLINICIAN),
    Route("GET", "/api/v1/retrievals", list_retrievals, CLINICIAN),
    Route("GET", "/api/v1/retrievals/parked", parked, CLINICIAN),
    Route("GET", "/api/v1/retrievals/{retrieval_id}", show, CLINICIAN),
    Route("DELETE", "/api/v1/retrievals/{retrieval_id}", unpark, CLINICIAN),
    Route("POST", "/api/v1/retrievals/{retrieval_id}/retry", retry, CLINICIAN),
    Route("GET", "/api/v1/retrievals/{retrieval_id}/events", follow, CLINICIAN),
)
