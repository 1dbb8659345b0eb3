"""Given and received: what this facility and each partner have done for each other."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.web.api.bodies import query
from peer.web.api.checks import READERS
from peer.web.api.partners import ReciprocityQuery, reciprocity_json
from peer.web.identity import actor
from peer.web.pages.page import render
from peer.web.routes import ANYONE, Route, services

PERIODS: Final = {7: "7 days", 30: "30 days", 365: "a year"}
"""Periods to choose from."""


async def show(request: web.Request) -> web.StreamResponse:
    """Show the balance with each partner, and who is not answered now, and why."""
    asked = query(request, ReciprocityQuery)
    found = await reciprocity_json(services(request), asked)
    return await render(
        request,
        "reciprocity.html",
        balances=found["partners"],
        days=asked.days,
        periods=PERIODS,
        may_check=bool(READERS & actor(request).roles),
    )


ROUTES: Final = (Route("GET", "/partners/reciprocity", show, ANYONE),)
