"""Who may use the node: people by one-time links, programs by bearer tokens."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.errors import Conflict, NodeError
from peer.web.api.accounts import AccountPath, LinkBody, TokenBody, TokenPath, link_url
from peer.web.api.bodies import path
from peer.web.errors import problem_of
from peer.web.identity import actor
from peer.web.pages.page import Form, checked, read_form, render, see_other
from peer.web.routes import OPERATOR, Route, services
from protocol.errors import Refusal


async def show(request: web.Request) -> web.StreamResponse:
    """Show accounts and tokens, and how to add one."""
    return await _show(request, {})


async def _show(
    request: web.Request, wrong: dict[str, str], made: dict[str, object] | None = None
) -> web.StreamResponse:
    people = services(request).people
    return await render(
        request,
        "people.html",
        422 if wrong else 200,
        accounts=await people.accounts(),
        tokens=await people.tokens(),
        mine=actor(request),
        wrong=wrong,
        made=made or {},
    )


async def make_link(request: web.Request) -> web.StreamResponse:
    """Make a one-time link for someone and show it, this once."""
    form = await read_form(request)
    asked, wrong = checked(LinkBody, {"name": form.text("name"), "roles": _several(form, "roles")})
    if asked is None:
        return await _show(request, {"link": " ".join(wrong.values())})
    rooms = services(request)
    try:
        link = await rooms.people.make_link(actor(request), asked.name, asked.roles)
    except (NodeError, Refusal) as error:
        return await _show(request, {"link": _said(error)})
    return await _show(request, {}, {"link": link, "url": link_url(rooms, link)})


async def make_token(request: web.Request) -> web.StreamResponse:
    """Make a bearer token for a program and show it, this once."""
    form = await read_form(request)
    values = {
        "name": form.text("name"),
        "roles": _several(form, "roles") or (),
        "purpose": form.text("purpose"),
        "federated": bool(form.text("federated")),
        "issuer": form.text("issuer"),
        "per_hour": form.text("per_hour") or None,
    }
    asked, wrong = checked(TokenBody, values)
    if asked is None:
        return await _show(request, {"token": " ".join(wrong.values())})
    try:
        secret, row = await services(request).people.make_token(
            actor(request),
            asked.name,
            asked.roles,
            asked.purpose,
            federated=asked.federated,
            issuer=asked.issuer,
            per_hour=asked.per_hour,
        )
    except (Conflict, Refusal) as error:
        return await _show(request, {"token": _said(error)})
    return await _show(request, {}, {"token": row, "bearer": secret})


async def lock_out(request: web.Request) -> web.StreamResponse:
    """Take every role from an account and end its sessions."""
    await services(request).people.lock_out(actor(request), path(request, AccountPath).account)
    return see_other("/people")


async def revoke_token(request: web.Request) -> web.StreamResponse:
    """End a token at once."""
    await services(request).people.revoke_token(actor(request), path(request, TokenPath).token)
    return see_other("/people")


def _several(form: Form, name: str) -> tuple[str, ...] | None:
    return tuple(form.all(name)) or None


def _said(error: Exception) -> str:
    problem = problem_of(error)
    return f"{problem.reason} {problem.remedy}".strip() if problem else str(error)


ROUTES: Final = (
    Route("GET", "/people", show, OPERATOR),
    Route("POST", "/people/links", make_link, OPERATOR),
    Route("POST", "/people/tokens", make_token, OPERATOR),
    Route("POST", "/people/{account}/lock-out", lock_out, OPERATOR),
    Route("POST", "/people/tokens/{token}/revoke", revoke_token, OPERATOR),
)
