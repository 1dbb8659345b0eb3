"""The web application: the same routes behind both doors, TCP and the Unix socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import hdrs, web

from peer.web import api, dicomweb, health, login, pages
from peer.web.brake import Brake
from peer.web.errors import errors_to_answers
from peer.web.identity import IDENTIFY, Identify, guard
from peer.web.routes import ROLES, SERVICES, Handler, Route
from peer.web.services import Services

_SECURITY_HEADERS: Final = {
    # No inline script or style: text of a patient's that slips into a page cannot run.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With "no-referrer" browsers send forms with "Origin: null", as another site may.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Patients' data stay in no cache; a style sheet says otherwise for itself.
    hdrs.CACHE_CONTROL: "no-store",
}

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *login.ROUTES,
    *api.ROUTES,
    *dicomweb.ROUTES,
    *pages.ROUTES,
)
"""Every route there is.  A room of the web that is added lists its own here."""

PREPARATIONS: tuple[Callable[[web.Application], None], ...] = (pages.prepare,)
"""What a room of the web does to the application before it starts, such as setting up templates."""


def build(services: Services, identify: Identify) -> web.Application:
    """Return the application of one door; `identify` tells who is asking there."""
    settings = services.settings
    # Routes that take instances read the body piece by piece and have a bound of their own.
    app = web.Application(
        middlewares=[errors_to_answers, guard], client_max_size=settings.local.max_body_bytes
    )
    app[SERVICES] = services
    app[IDENTIFY] = identify
    app[login.BRAKE] = Brake(settings.people)
    app[ROLES] = _roles(ROUTES)
    for route in ROUTES:
        # HEAD would use a one-time link up; nothing here needs it.
        if route.method == hdrs.METH_GET:
            app.router.add_get(route.path, route.handler, allow_head=False)
        else:
            app.router.add_route(route.method, route.path, route.handler)
    for prepare in PREPARATIONS:
        prepare(app)
    app.on_response_prepare.append(_set_security_headers)
    app.on_response_prepare.append(dicomweb.say_still_arriving)
    return app


def _roles(routes: Iterable[Route]) -> dict[Handler, frozenset[str]]:
    """Return who may use each handler; one on several paths has the same roles on each."""
    roles: dict[Handler, frozenset[str]] = {}
    for route in routes:
        if roles.setdefault(route.handler, route.roles) != route.roles:
            raise ValueError(f"{route.path} has other roles than its handler's other paths")
    return roles


async def _set_security_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    for name, value in _SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    # Not which release of which library: that helps attackers alone.
    response.headers[hdrs.SERVER] = "OpenPriors"
