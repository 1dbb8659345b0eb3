"""Who is asking, may they, and does the request come from a page of ours.

A request passes if its host is ours, its route is open to the asker's roles and, where a cookie
says who it is, it proves to come from our own pages.  Whatever is not a known route is closed.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from peer.actors import Actor
from peer.people import Session
from peer.web.brake import Brake
from peer.web.errors import Problem, RequestError
from peer.web.routes import PUBLIC, ROLES, Handler
from peer.web.routes import services as services_of
from peer.web.services import Services
from protocol.errors import Refusal

CSRF_HEADER: Final = "X-OpenPriors-CSRF"
CSRF_FIELD: Final = "csrf"

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM: Final = "application/x-www-form-urlencoded"
_PEER_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking; `session` if a cookie says so."""

    actor: Actor
    session: Session | None = None


Identify: TypeAlias = Callable[[web.Request], Awaitable[Identity | None]]
"""Tells who is asking, None if nobody says; raises if what is said is false."""

IDENTITY: Final = web.RequestKey("identity", Identity)
IDENTIFY: Final[web.AppKey[Identify]] = web.AppKey("identify")


def identity(request: web.Request) -> Identity:
    """Return who is asking, on a route that is not public."""
    return request[IDENTITY]


def actor(request: web.Request, purpose: str | None = None) -> Actor:
    """Return the actor of a request, for a purpose of use if the request names one.

    A token's purpose is fixed when it is made.
    """
    who = request[IDENTITY].actor
    if purpose is None or purpose == who.purpose:
        return who
    if who.kind == "token":
        raise Refusal(
            "not-permitted",
            "This token is for another purpose of use.",
            f"Leave the purpose out, or use a token made for {purpose}.",
        )
    return replace(who, purpose=purpose)


# -- the two doors --------------------------------------------------------------------------
def over_socket(services: Services) -> Identify:
    """Return how the Unix socket tells who is asking: the kernel says which user connected."""

    async def identify(request: web.Request) -> Identity | None:
        transport = request.transport
        if transport is None:  # The client has gone.
            return None
        connection: socket.socket = transport.get_extra_info("socket")
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        _, uid, _ = _PEER_CREDENTIALS.unpack(raw)
        return Identity(services.people.os_user(uid))

    return identify


def over_tcp(services: Services) -> Identify:
    """Return how the TCP listener tells who is asking: a bearer token, else a session cookie."""
    brake = Brake(services.settings.people)
    cookie = cookie_name(services)

    async def identify(request: web.Request) -> Identity | None:
        _check_host(request, services)
        credentials = request.headers.get(hdrs.AUTHORIZATION)
        if credentials is not None:
            scheme, _, secret = credentials.partition(" ")
            holder = await services.people.by_token(secret.strip())
            if scheme.lower() != "bearer" or holder is None:
                await brake.failed(request.remote or "")
                raise RequestError(_BAD_TOKEN, {hdrs.WWW_AUTHENTICATE: "Bearer"})
            return Identity(holder)
        session = await services.people.session(request.cookies.get(cookie, ""))
        return None if session is None else Identity(session.actor, session)

    return identify


def cookie_name(services: Services) -> str:
    """Return the name of this node's session cookie.

    Browsers send the cookies of a host to every port of it, so two nodes on one machine need
    different names.
    """
    return f"openpriors-{services.keys.peer_id.hex()[:16]}"


_BAD_TOKEN: Final = Problem(
    HTTPStatus.UNAUTHORIZED,
    "bad-token",
    "This bearer token is unknown, revoked or past its end.",
    "Ask an operator of this node for a new one.",
)
_NO_IDENTITY: Final = Problem(
    HTTPStatus.UNAUTHORIZED,
    "no-identity",
    "Nobody is signed in.",
    "Open a one-time link: `openpriors link` on the node's machine prints it. Programs send a "
    "bearer token.",
)


def _check_host(request: web.Request, services: Services) -> None:
    """Refuse a Host that is not ours: a foreign name that resolves to us (DNS rebinding).

    An address is always ours: only names can be pointed at someone else's machine.
    """
    host = (urlsplit(f"//{request.host}").hostname or "").rstrip(".")
    if host == "localhost" or host == urlsplit(services.settings.local.public_url).hostname:
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise Refusal(
            "wrong-host",
            "This node does not go by the name that was asked for.",
            "Set local.public_url to the address that people use, or ask by IP address.",
        ) from None


# -- the guards -----------------------------------------------------------------------------
@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request pass to its route, or refuse it with the reason."""
    who = await request.app[IDENTIFY](request)
    allowed = request.app[ROLES].get(request.match_info.handler)
    if allowed is not None and allowed == PUBLIC:
        if who is not None:
            request[IDENTITY] = who
        return await handler(request)
    if who is None:
        raise RequestError(_NO_IDENTITY, {hdrs.WWW_AUTHENTICATE: "Bearer"})
    request[IDENTITY] = who
    if who.session is not None and request.method not in _SAFE_METHODS:
        await _check_origin(request, who.session)
    if request.match_info.http_exception is None and not (allowed or PUBLIC) & who.actor.roles:
        raise Refusal(
            "not-permitted",
            f"This needs the role {' or '.join(sorted(allowed or ())) or 'of nobody'}.",
            "Ask someone who may manage accounts at this facility.",
        )
    return await handler(request)


async def _check_origin(request: web.Request, session: Session) -> None:
    """Refuse a change that a page of another site may have sent in someone's name."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and not _is_ours(origin, request):
        raise _forged()
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise _forged()
    proof = request.headers.get(CSRF_HEADER, "")
    if not proof and request.content_type == _FORM:
        field = (await request.post()).get(CSRF_FIELD, "")
        proof = field if isinstance(field, str) else ""
    if not hmac.compare_digest(proof.encode(), session.csrf.encode()):
        raise _forged()


def _is_ours(origin: str, request: web.Request) -> bool:
    """Whether a page at `origin` is ours: asked for directly, or through a proxy before us."""
    named = urlsplit(origin).netloc
    proxy = urlsplit(services_of(request).settings.local.public_url).netloc
    return named != "" and named in (request.host, proxy)


def _forged() -> Refusal:
    return Refusal(
        "forged-request",
        "The request does not prove that it comes from a page of this node.",
        f"Load the page again. Programs send the header {CSRF_HEADER}, or use a bearer token.",
    )
