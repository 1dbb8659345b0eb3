"""Partner facilities: invited, paired, confirmed and removed."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from peer.errors import NotFound
from peer.index.reciprocity import DAY_S, Period
from peer.partners import Partner
from peer.search import Mode
from peer.web.api.bodies import Body, Label, PeerIdHex, Text, answer, body, path, query
from peer.web.identity import actor
from peer.web.routes import ANYONE, OPERATOR, Route, services
from peer.web.services import Services
from protocol.completeness import Tally
from protocol.identifiers import PeerId
from protocol.limits import INVITATION_MOST_S

INVITATION_CHARACTERS: Final = 8192
"""Longest invitation that is looked at; real ones have a few hundred characters."""


LONGEST_PERIOD_DAYS: Final = 3660
"""Ten years: longer than any agreement goes unread."""


class InvitationBody(Body):
    """How long the invitation is valid."""

    valid_s: Annotated[int, Field(ge=60, le=INVITATION_MOST_S)] | None = None


class PairingBody(Body):
    """The invitation as it was received."""

    invitation: Annotated[str, Field(min_length=1, max_length=INVITATION_CHARACTERS)]


class PartnerPath(Body):
    """One partner."""

    peer_id: PeerIdHex


class ReciprocityQuery(Body):
    """Of how many days, today included; of one partner, or of all active ones."""

    days: Annotated[int, Field(ge=1, le=LONGEST_PERIOD_DAYS)] = 30
    peer_id: PeerIdHex | None = None

    def includes(self, partner: Partner) -> bool:
        """Whether a partner is asked about; a former one only by its identity."""
        return partner.active if self.peer_id is None else partner.peer_id == self.peer_id


class ConfirmBody(Body):
    """The words that were compared, if the asker wants them checked, separated by blanks."""

    words: Label | None = None


class ModeBody(Body):
    """How the partner is to search from now on, and why."""

    mode: Mode
    reason: Text = ""


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


async def reciprocity(request: web.Request) -> web.StreamResponse:
    """Return what was given to each active partner and received from it, or to one partner."""
    asked = query(request, ReciprocityQuery)
    return answer(await reciprocity_json(services(request), asked))


async def reciprocity_json(rooms: Services, asked: ReciprocityQuery) -> dict[str, Any]:
    """Return the balances of whole days (UTC) up to now, and whether each partner is answered."""
    partners = [each for each in rooms.partners.all() if asked.includes(each)]
    today = rooms.clock.now() // DAY_S
    period = Period((today - asked.days + 1) * DAY_S, (today + 1) * DAY_S)
    found = await rooms.reciprocity.balances([each.peer_id for each in partners], period)
    today_of = rooms.reciprocity.quotas.today
    estimate_of = rooms.reciprocity.completeness.estimate
    return {
        "since": period.since,
        "until": period.until,
        "partners": [
            {
                "peer_id": each.peer_id,
                "name": each.name,
                "state": each.state,
                "exchange": _exchange_json(rooms, each.peer_id),
                "today": await today_of(each),
                "completeness": tally_json(await estimate_of(each.peer_id)),
            }
            | found[each.peer_id].to_json()
            for each in partners
        ],
    }


def tally_json(found: Tally) -> dict[str, object]:
    """Return an estimate of how complete a partner is."""
    least = found.complete_at_least
    return {
        "found": found.found,
        "missed": found.missed,
        "unchecked": found.unchecked,
        "complete_at_least": None if least is None else round(least, 4),
        "sentence": found.sentence,
    }


def _exchange_json(rooms: Services, peer_id: PeerId) -> dict[str, object]:
    standing = rooms.reciprocity.standing(peer_id)
    refusal = standing.objection
    return {
        "completed_at": standing.completed_at,
        "answered": refusal is None,
        "code": "" if refusal is None else refusal.code,
        "reason": "" if refusal is None else refusal.reason,
        "remedy": "" if refusal is None else refusal.remedy,
    }


async def confirm(request: web.Request) -> web.StreamResponse:
    """Say that both sides see the same words."""
    asked = path(request, PartnerPath)
    wanted = await body(request, ConfirmBody)
    rooms = services(request)
    partner = await rooms.partners.confirm(asked.peer_id, actor(request), wanted.words)
    return answer(partner_json(rooms, partner))


async def fork(request: web.Request) -> web.StreamResponse:
    """Return the proof that a partner told two histories, to be verified by anybody."""
    asked = path(request, PartnerPath)
    found = await services(request).gossip.evidence(asked.peer_id)
    if found is None:
        raise NotFound("No proof against this facility is on record, which is as it should be.")
    return answer(found)


async def set_mode(request: web.Request) -> web.StreamResponse:
    """Choose whether a partner asks for each search, or holds our search keys."""
    asked = path(request, PartnerPath)
    wanted = await body(request, ModeBody)
    rooms = services(request)
    partner = rooms.partners.trusted(asked.peer_id)
    await rooms.delegations.set_mode(asked.peer_id, wanted.mode, actor(request), wanted.reason)
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
        "protocol_version": link.version,
        "clock_offset_s": link.clock_offset_s,
        "slowed_at": link.slowed_at,
        "last_confirmed_at": None if fresh is None else fresh.last_confirmed_at,
        "search": rooms.delegations.to_json(partner.peer_id),
        "digests": 0 if fresh is None or fresh.head is None else fresh.head.live_count,
    }


ROUTES: Final = (
    Route("POST", "/api/v1/invitations", invite, OPERATOR),
    Route("POST", "/api/v1/pairings", pair, OPERATOR),
    Route("GET", "/api/v1/partners", list_partners, ANYONE),
    Route("GET", "/api/v1/partners/reciprocity", reciprocity, ANYONE),
    Route("POST", "/api/v1/partners/{peer_id}/confirm", confirm, OPERATOR),
    Route("GET", "/api/v1/partners/{peer_id}/fork", fork, ANYONE),
    Route("POST", "/api/v1/partners/{peer_id}/mode", set_mode, OPERATOR),
    Route("DELETE", "/api/v1/partners/{peer_id}", remove, OPERATOR),
)
