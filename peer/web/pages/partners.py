"""Partner facilities: invited, compared, confirmed, removed."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import segno
from aiohttp import web
from markupsafe import Markup

from peer.errors import NodeError, NotFound
from peer.partners import Partner
from peer.search import Mode
from peer.web.api.bodies import path
from peer.web.api.partners import ModeBody, PairingBody, PartnerPath, partner_json
from peer.web.errors import problem_of
from peer.web.identity import actor
from peer.web.pages.page import checked, read_form, render, see_other
from peer.web.routes import ANYONE, OPERATOR, Route, services
from protocol.errors import Refusal, RemoteProtocolError


async def list_partners(request: web.Request) -> web.StreamResponse:
    """Show every partner, how it is connected, and how to add one."""
    return await _list(request, {})


async def _list(request: web.Request, wrong: dict[str, str]) -> web.StreamResponse:
    rooms = services(request)
    order = {"pending": 0, "active": 1, "removed": 2}
    shown = sorted(rooms.partners.all(), key=lambda each: (order.get(each.state, 3), each.name))
    return await render(
        request,
        "partners.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK,
        partners=[(each, partner_json(rooms, each)) for each in shown],
        wrong=wrong,
    )


async def invite(request: web.Request) -> web.StreamResponse:
    """Make an invitation and show it, this once, as text and as a QR code."""
    invitation, expires_at = await services(request).partners.invite(actor(request))
    code = segno.make(invitation, error="l", micro=False).svg_inline(border=4, omitsize=True)
    # Made of digits and rectangles alone, so it may stand in the page as it is.
    picture = Markup(code)  # noqa: S704
    return await render(
        request, "invitation.html", invitation=invitation, expires_at=expires_at, picture=picture
    )


async def join(request: web.Request) -> web.StreamResponse:
    """Take up an invitation, and lead to the words that both sides compare."""
    form = await read_form(request)
    asked, wrong = checked(PairingBody, {"invitation": "".join(form.text("invitation").split())})
    if asked is None:
        return await _list(request, wrong)
    try:
        partner = await services(request).partners.join(asked.invitation, actor(request))
    except (NodeError, Refusal, RemoteProtocolError) as error:
        problem = problem_of(error)
        said = f"{problem.reason} {problem.remedy}".strip() if problem else str(error)
        return await _list(request, {"invitation": said})
    return see_other(f"/partners/{partner.peer_id.hex()}")


async def show(request: web.Request) -> web.StreamResponse:
    """Show a partner; while it is pending, the six words."""
    return await _show(request, {})


async def _show(request: web.Request, wrong: dict[str, str]) -> web.StreamResponse:
    partner, rooms = _partner(request), services(request)
    guarded = rooms.delegations.mode(partner.peer_id) is Mode.GUARDED
    return await render(
        request,
        "partner.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK,
        partner=partner,
        shown=partner_json(rooms, partner),
        other=Mode.DELEGATED if guarded else Mode.GUARDED,
        wrong=wrong,
    )


async def confirm(request: web.Request) -> web.StreamResponse:
    """Say that the other side has read out the same words."""
    partner = _partner(request)
    await services(request).partners.confirm(partner.peer_id, actor(request))
    return see_other(f"/partners/{partner.peer_id.hex()}")


async def set_mode(request: web.Request) -> web.StreamResponse:
    """Choose whether a partner asks for each search, or holds our search keys."""
    partner = _partner(request)
    form = await read_form(request)
    asked, wrong = checked(ModeBody, {"mode": form.text("mode"), "reason": form.text("reason")})
    if asked is None:
        return await _show(request, wrong)
    await services(request).delegations.set_mode(
        partner.peer_id, asked.mode, actor(request), asked.reason
    )
    return see_other(f"/partners/{partner.peer_id.hex()}")


async def ask_to_remove(request: web.Request) -> web.StreamResponse:
    """Ask whether a partner is really to be removed, and say what that means."""
    return await render(request, "partner_remove.html", partner=_partner(request))


async def remove(request: web.Request) -> web.StreamResponse:
    """End a partnership at once."""
    partner = _partner(request)
    form = await read_form(request)
    await services(request).partners.remove(partner.peer_id, actor(request), form.text("reason"))
    return see_other("/partners")


def _partner(request: web.Request) -> Partner:
    partner = services(request).partners.get(path(request, PartnerPath).peer_id)
    if partner is None:
        raise NotFound("There is no such partner. The list of partners shows all of them.")
    return partner


ROUTES: Final = (
    Route("GET", "/partners", list_partners, ANYONE),
    Route("POST", "/partners/invite", invite, OPERATOR),
    Route("POST", "/partners/join", join, OPERATOR),
    Route("GET", "/partners/{peer_id}", show, ANYONE),
    Route("POST", "/partners/{peer_id}/confirm", confirm, OPERATOR),
    Route("POST", "/partners/{peer_id}/mode", set_mode, OPERATOR),
    Route("GET", "/partners/{peer_id}/remove", ask_to_remove, OPERATOR),
    Route("POST", "/partners/{peer_id}/remove", remove, OPERATOR),
)
