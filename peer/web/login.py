"""Signing in by a one-time link, and out again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from peer.web.brake import Brake
from peer.web.identity import cookie_name, identity
from peer.web.routes import ANYONE, PUBLIC, Route, services
from protocol.errors import Refusal

BRAKE: Final = web.AppKey("brake", Brake)

# Not a redirection: a browser that was led here by another program or page would follow it without
# the same-site cookie that it has just been given. From this page it is a step within the site.
_SIGNED_IN: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Signed in</title>'
    '<meta http-equiv="refresh" content="0; url=/"></head>'
    '<body><p>You are signed in. <a href="/">Continue</a></p></body></html>'
)


async def sign_in(request: web.Request) -> web.StreamResponse:
    """Use a one-time link up and set the session cookie."""
    rooms = services(request)
    try:
        session = await rooms.people.open_link(request.query.get("link", ""))
    except Refusal:
        await request.app[BRAKE].failed(request.remote or "")
        raise
    response = web.Response(text=_SIGNED_IN, content_type="text/html")
    response.set_cookie(
        cookie_name(rooms),
        session.secret,
        max_age=session.ends_at - rooms.clock.now(),
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="Strict",
    )
    return response


async def sign_out(request: web.Request) -> web.StreamResponse:
    """End the session, here and in the browser."""
    rooms = services(request)
    session = identity(request).session
    if session is not None:
        await rooms.people.sign_out(session)
    response = web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: "/"})
    response.del_cookie(
        cookie_name(rooms),
        path="/",
        secure=_is_secure(request),
        httponly=True,
        samesite="Strict",
    )
    return response


def _is_secure(request: web.Request) -> bool:
    """Whether the browser sees TLS, ours or that of a proxy before us."""
    return request.secure or services(request).settings.local.public_url.startswith("https:")


ROUTES: Final = (
    Route("GET", "/login", sign_in, PUBLIC),
    Route("POST", "/logout", sign_out, ANYONE),
)
