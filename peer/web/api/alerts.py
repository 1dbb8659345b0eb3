"""Alerts: listed, and acknowledged by whoever has looked at them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from peer.web.api.bodies import Body, Empty, answer, body, path, query
from peer.web.identity import actor
from peer.web.routes import AUDITOR, OPERATOR, PRIVACY_OFFICER, Route, services


class AlertsQuery(Body):
    """Those that nobody has acknowledged, or all."""

    state: Literal["open", "all"] = "open"


class AlertPath(Body):
    """One alert."""

    alert: Annotated[int, Field(ge=1)]


async def list_alerts(request: web.Request) -> web.StreamResponse:
    """Return the latest alerts, open ones first."""
    asked = query(request, AlertsQuery)
    found = await services(request).alerts.list(open_only=asked.state == "open")
    return answer({"alerts": found})


async def acknowledge(request: web.Request) -> web.StreamResponse:
    """Note that the asker has looked at an alert."""
    asked = path(request, AlertPath)
    await body(request, Empty)
    return answer(await services(request).alerts.acknowledge(asked.alert, actor(request)))


ROUTES: Final = (
    Route("GET", "/api/v1/alerts", list_alerts, OPERATOR | PRIVACY_OFFICER | AUDITOR),
    Route("POST", "/api/v1/alerts/{alert}/acknowledge", acknowledge, OPERATOR | PRIVACY_OFFICER),
)
