"""Partner facilities: invited, paired, confirmed and removed."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.partners import Partner
from peer.web.api.bodies import Body, Label, PeerIdHex, Text, answer, body, path
from peer.web.identity import actor
from peer.web.routes import ANYONE, OPERATOR, Route, services
from peer.web.services import Services
from protocol.limits import INVITATION_MOST_S

INVITATION_CHARACTERS: Final = 8192
"""Longest invitation that is looked at; real ones have a few hundred characters."""


class InvitationBody(Body):
    """How long the invitation is valid."""

    valid_s: Annotated[int, Field(ge=60, le=INVITATION_MOST_S)] | None = None


class PairingBody(Body):
    """The invitation as it was received."""

    invitation: Annotated[str, Field(min_length=1, max_length=INVITATION_CHARACTERS)]


class PartnerPath(Body):
    """One partner."""

    peer_id: PeerIdHex


class ConfirmBody(Body):
    """The words that were compared, if the asker wants them checked, separated by blanks."""

    words: Label | None = None


class RemoveBody(Body):
    """Why."""

    reason: Text = ""


async def invite(request: web.Request) -> web.StreamResponse:
    """Make an invitation; it is valid once."""
    asked = await body(request, InvitationBody)
    invitation, expires_at = await services(request).partners.invite(actor(request), asked.valid_s)
    return answer({"invitation": invitation, "expires_at": expires_at}, HTTPStatus.CREATED)


async def pair(request: web.Request) -> web.StreamResponse:
    """Take up an invitation; both sides then compare the words and confirm."""
    asked = await body(request, PairingBody)
    rooms = services(request)
    partner = await rooms.partners.join(asked.invitation.strip(), actor(request))
    return answer(partner_json(rooms, partner), HTTPStatus.CREATED)


async def list_partners(request: web.Request) -> web.StreamResponse:
    """Return every partner with its state and connection."""
    rooms = services(request)
    return answer({"partners": [partner_json(rooms, each) for each in rooms.partners.all()]})


async def confirm(request: web.Request) -> web.StreamResponse:
    """Say that both sides see the same words."""
    asked = path(request, PartnerPath)
    wanted = await body(request, ConfirmBody)
    rooms = services(request)
    partner = await rooms.partners.confirm(asked.peer_id, actor(request), wanted.words)
    return answer(partner_json(rooms, partner))


async def remove(request: web.Request) -> web.StreamResponse:
    """End a partnership at once."""
    asked = path(request, PartnerPath)
    wanted = await body(request, RemoveBody)
    rooms = services(request)
    partner = await rooms.partners.remove(asked.peer_id, actor(request), wanted.reason)
    return answer(partner_json(rooms, partner))


def partner_json(rooms: Services, partner: Partner) -> dict[str, object]:
    """Return a partner, how it is connected and what is held of its journal."""
    link = rooms.links.state(partner.peer_id)
    fresh = rooms.gossip.coverage().get(partner.peer_id)
    return {
        "peer_id": partner.peer_id,
        "name": partner.name,
        "state": partner.state,
        "sentence": partner.sentence,
        "words": partner.words.split(),
        "confirmed_here": partner.confirmed_here,
        "confirmed_there": partner.confirmed_there,
        "since": partner.since,
        "connected": link.connected,
        "last_error": link.last_error,
        "last_error_code": link.last_error_code,
        "clock_offset_s": link.clock_offset_s,
        "slowed_at": link.slowed_at,
        "last_confirmed_at": None if fresh is None else fresh.last_confirmed_at,
        "digests": 0 if fresh is None or fresh.head is None else fresh.head.live_count,
    }


ROUTES: Final = (
    Route("POST", "/api/v1/invitations", invite, OPERATOR),
    Route("POST", "/api/v1/pairings", pair, OPERATOR),
    Route("GET", "/api/v1/partners", list_partners, ANYONE),
    Route("POST", "/api/v1/partners/{peer_id}/confirm", confirm, OPERATOR),
    Route("DELETE", "/api/v1/partners/{peer_id}", remove, OPERATOR),
)
