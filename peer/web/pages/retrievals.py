"""Studies on their way from partners."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.web.api.bodies import path
from peer.web.api.retrievals import RetrievalBody, RetrievalPath
from peer.web.errors import Problem, RequestError
from peer.web.identity import actor
from peer.web.pages.page import checked, read_form, render, see_other
from peer.web.routes import CLINICIAN, Route, services


async def retrieve(request: web.Request) -> web.StreamResponse:
    """Start to fetch a study; for browsers without script."""
    form = await read_form(request)
    names = ("peer_id", "study_instance_uid", "purpose")
    values = {name: form.text(name) or None for name in names}
    asked, wrong = checked(RetrievalBody, {**values, "reason": form.text("reason")})
    if asked is None:
        raise RequestError(Problem(422, "invalid-request", " ".join(wrong.values())))
    started = await services(request).retrieve.retrieve(
        asked.peer_id, asked.study_instance_uid, actor(request, asked.purpose), asked.reason
    )
    return see_other(f"/retrievals/{started.retrieval_id.hex()}")


async def show(request: web.Request) -> web.StreamResponse:
    """Show how far a retrieval is."""
    asked = path(request, RetrievalPath)
    found = await services(request).retrieve.status(asked.retrieval_id)
    return await render(request, "retrieval.html", retrieval=found)


async def list_retrievals(request: web.Request) -> web.StreamResponse:
    """Show what was fetched, what is on its way and what did not come."""
    found = await services(request).retrieve.list()
    most = services(request).settings.lists.page_retrievals
    return await render(request, "retrievals.html", retrievals=found[:most])


async def again(request: web.Request) -> web.StreamResponse:
    """Begin anew to fetch what did not come, for the purpose that the person is here for."""
    retrieval_id = path(request, RetrievalPath).retrieval_id
    started = await services(request).retrieve.retry(retrieval_id, actor(request))
    return see_other(f"/retrievals/{started.retrieval_id.hex()}")


async def remove(request: web.Request) -> web.StreamResponse:
    """Take what did not come off the list."""
    retrieval_id = path(request, RetrievalPath).retrieval_id
    await services(request).retrieve.parking.take_off(retrieval_id, actor(request))
    return see_other("/retrievals")


ROUTES: Final = (
    Route("GET", "/retrievals", list_retrievals, CLINICIAN),
    Route("POST", "/retrievals", retrieve, CLINICIAN),
    Route("GET", "/retrievals/{retrieval_id}", show, CLINICIAN),
    Route("POST", "/retrievals/{retrieval_id}/again", again, CLINICIAN),
    Route("POST", "/retrievals/{retrieval_id}/remove", remove, CLINICIAN),
)
