"""Whether the node is alive, and ready; for supervisors and load balancers, who are nobody."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from peer.web.routes import PUBLIC, Route, services


async def alive(request: web.Request) -> web.StreamResponse:
    """Answer that the process answers."""
    del request
    return web.json_response({"alive": True})


async def ready(request: web.Request) -> web.StreamResponse:
    """Answer whether recovery is done and requests are served."""
    is_ready = services(request).health.ready
    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return web.json_response({"ready": is_ready}, status=status)


ROUTES: Final = (
    Route("GET", "/healthz", alive, PUBLIC),
    Route("GET", "/readyz", ready, PUBLIC),
)
