"""The node at a glance: what it holds, what needs attention, and whether the record is whole."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.audit import Verification
from peer.web.api.alerts import AlertPath
from peer.web.api.bodies import path
from peer.web.api.status import status_json
from peer.web.identity import actor
from peer.web.pages.page import render, see_other
from peer.web.routes import (
    ANYONE,
    AUDITOR,
    CLINICIAN,
    OPERATOR,
    PRIVACY_OFFICER,
    Route,
    services,
)

ALERTED: Final = OPERATOR | PRIVACY_OFFICER | AUDITOR
"""Who is shown alerts."""


async def show(request: web.Request) -> web.StreamResponse:
    """Show the status."""
    return await _show(request, None)


async def verify(request: web.Request) -> web.StreamResponse:
    """Check the audit trail and show the status with the outcome."""
    return await _show(request, await services(request).audit.verify())


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Note that someone has looked at an alert."""
    asked = path(request, AlertPath)
    await services(request).alerts.acknowledge(asked.alert, actor(request))
    return see_other("/status")


async def _show(request: web.Request, verification: Verification | None) -> web.StreamResponse:
    rooms, roles = services(request), actor(request).roles
    locks, most = await rooms.retention.list(), rooms.settings.lists.page_retention
    return await render(
        request,
        "status.html",
        node=await status_json(rooms),
        locks=locks[:most],
        more=max(0, len(locks) - most),
        verification=verification,
        alerts=await rooms.alerts.list(open_only=True) if ALERTED & roles else [],
        may_acknowledge=bool((OPERATOR | PRIVACY_OFFICER) & roles),
        may_verify=bool((AUDITOR | PRIVACY_OFFICER) & roles),
        may_open=bool((CLINICIAN | PRIVACY_OFFICER) & roles),
    )


ROUTES: Final = (
    Route("GET", "/status", show, ANYONE),
    Route("POST", "/alerts/{alert}/acknowledge", acknowledge, OPERATOR | PRIVACY_OFFICER),
    Route("POST", "/status/verify", verify, AUDITOR | PRIVACY_OFFICER),
)
