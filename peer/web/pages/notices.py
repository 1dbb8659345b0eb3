"""Notices to and from partners: images of a patient are available."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.index import studies
from peer.index.conditions import StudyQuery
from peer.web.api.bodies import path
from peer.web.api.identities import QuestionPath
from peer.web.api.new_priors import SeenBody
from peer.web.api.notices import NoticeBody, NoticePath
from peer.web.errors import Problem, RequestError
from peer.web.identity import actor
from peer.web.pages.page import checked, read_form, render, see_other
from peer.web.routes import CLINICIAN, Route, services


async def show(request: web.Request) -> web.StreamResponse:
    """Show both boxes."""
    rooms = services(request)
    inbox, outbox = await rooms.notify.inbox(), await rooms.notify.outbox()
    new = await rooms.search.new_priors.listed(actor(request))
    told = {study.study_instance_uid for each in inbox for study in each.content.studies}
    uids = tuple(told | {each.study.study_instance_uid for each in new})
    held = await rooms.db.read(
        lambda tx: (
            {
                study.study_instance_uid
                for study in studies.search(tx, StudyQuery(study_instance_uids=uids))
            }
            if uids
            else set[str]()
        )
    )
    questions = await rooms.identities.waiting()
    return await render(
        request,
        "notices.html",
        inbox=inbox,
        outbox=outbox,
        held=held,
        questions=questions,
        new=new,
        unseen=[each.row.prior for each in new if each.row.seen_at is None],
    )


async def decide(request: web.Request) -> web.StreamResponse:
    """Say whether a partner's patient and a record of ours are one person."""
    which = path(request, QuestionPath)
    same = (await read_form(request)).text("same")
    if same not in {"yes", "no"}:
        raise RequestError(Problem(422, "invalid-request", "Say whether it is the same person."))
    await services(request).identities.decide(which.question, actor(request), same=same == "yes")
    return see_other("/notices")


async def seen(request: web.Request) -> web.StreamResponse:
    """Note which new studies the reader has seen."""
    form = await read_form(request)
    asked, wrong = checked(SeenBody, {"priors": form.listed("priors")})
    if asked is None:
        raise RequestError(Problem(422, "invalid-request", " ".join(wrong.values())))
    await services(request).search.new_priors.seen(asked.priors, actor(request))
    return see_other("/notices")


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Acknowledge a notice; its sender is told."""
    asked = path(request, NoticePath)
    await services(request).notify.acknowledge(asked.notice_id, actor(request))
    return see_other("/notices")


async def send(request: web.Request) -> web.StreamResponse:
    """Tell a partner of a study."""
    form = await read_form(request)
    asked, wrong = checked(
        NoticeBody,
        {
            "peer_id": form.text("peer_id"),
            "study_instance_uids": form.all("study_instance_uid"),
            "message": form.text("message"),
        },
    )
    if asked is None:
        raise RequestError(Problem(422, "invalid-request", " ".join(wrong.values())))
    await services(request).notify.send(
        asked.peer_id, asked.study_instance_uids, actor(request), asked.message
    )
    return see_other("/notices")


ROUTES: Final = (
    Route("GET", "/notices", show, CLINICIAN),
    Route("POST", "/notices", send, CLINICIAN),
    Route("POST", "/notices/{notice_id}/acknowledge", acknowledge, CLINICIAN),
    Route("POST", "/new-priors/seen", seen, CLINICIAN),
    Route("POST", "/identity-questions/{question}", decide, CLINICIAN),
)
