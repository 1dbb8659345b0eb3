"""docs/reference/http.md describes every route, with its roles, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peer.web import api, health, login
from peer.web.app import ROUTES, _roles
from peer.web.routes import ANYONE, PUBLIC, Route

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "http.md"
HEADING = re.compile(r"^### `([A-Z]+) (\S+)`\nRoles: (.+)$", re.MULTILINE)


def said(roles):
    match roles:
        case _ if roles == PUBLIC:
            return "nobody asks"
        case _ if roles == ANYONE:
            return "anyone"
        case _:
            return ", ".join(sorted(roles))


def test_every_route_is_documented_with_its_roles():
    routes = (*health.ROUTES, *login.ROUTES, *api.ROUTES)
    documented = {(m[1], m[2]): m[3] for m in HEADING.finditer(REFERENCE.read_text("utf-8"))}
    assert documented == {(r.method, r.path): said(r.roles) for r in routes}


def test_no_route_is_there_twice():
    routes = [(r.method, r.path) for r in (*health.ROUTES, *login.ROUTES, *api.ROUTES)]
    assert len(routes) == len(set(routes))


def test_a_handler_has_the_same_roles_on_all_its_paths():
    open_and_closed = (Route("GET", "/a", len, PUBLIC), Route("GET", "/b", len, ANYONE))
    with pytest.raises(ValueError, match="/b"):
        _roles(open_and_closed)
    assert set(_roles(ROUTES)) == {route.handler for route in ROUTES}
