"""Notices to and from partners: images of a patient are available."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.web.api.bodies import Body, Empty, Id16Hex, PeerIdHex, Text, Uid, answer, body, path
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, Route, services
from protocol.limits import NOTICE_STUDIES


class NoticeBody(Body):
    """Whom to tell of which studies, and a sentence of the sender's own."""

    peer_id: PeerIdHex
    study_instance_uids: Annotated[tuple[Uid, ...], Field(min_length=1, max_length=NOTICE_STUDIES)]
    message: Text = ""


class NoticePath(Body):
    """One notice."""

    notice_id: Id16Hex


async def send(request: web.Request) -> web.StreamResponse:
    """Put a notice into the outbox; it is delivered as soon as the partner can be reached."""
    asked = await body(request, NoticeBody)
    notice = await services(request).notify.send(
        asked.peer_id, asked.study_instance_uids, actor(request), asked.message
    )
    return answer(notice.to_json(), HTTPStatus.CREATED)


async def inbox(request: web.Request) -> web.StreamResponse:
    """Return what partners have notified us of, the newest first."""
    return answer({"notices": [each.to_json() for each in await services(request).notify.inbox()]})


async def outbox(request: web.Request) -> web.StreamResponse:
    """Return what we have notified partners of, the newest first."""
    return answer({"notices": [each.to_json() for each in await services(request).notify.outbox()]})


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Acknowledge a notice; its sender is told."""
    asked = path(request, NoticePath)
    await body(request, Empty)
    notice = await services(request).notify.acknowledge(asked.notice_id, actor(request))
    return answer(notice.to_json())


ROUTES: Final = (
    Route("POST", "/api/v1/notices", send, CLINICIAN),
    Route("GET", "/api/v1/inbox", inbox, CLINICIAN),
    Route("GET", "/api/v1/outbox", outbox, CLINICIAN),
    Route("POST", "/api/v1/inbox/{notice_id}/acknowledge", acknowledge, CLINICIAN),
)
