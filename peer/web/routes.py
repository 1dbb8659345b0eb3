"""A route and who may use it; the keys under which the application and a request carry things."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiohttp import web

from peer.actors import Role
from peer.web.services import Services

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

CLINICIAN: Final = frozenset({Role.CLINICIAN})
OPERATOR: Final = frozenset({Role.OPERATOR})
PRIVACY_OFFICER: Final = frozenset({Role.PRIVACY_OFFICER})
AUDITOR: Final = frozenset({Role.AUDITOR})
ANYONE: Final = CLINICIAN | OPERATOR | PRIVACY_OFFICER | AUDITOR
"""Whoever is signed in."""

PUBLIC: Final[frozenset[str]] = frozenset()
"""Nobody asks who it is: signing in, health, style sheets.  Never anything about a patient."""


@dataclass(frozen=True, slots=True)
class Route:
    """`method` and `path` (aiohttp's pattern), the function that answers, and who may ask."""

    method: str
    path: str
    handler: Handler
    roles: frozenset[str]


SERVICES: Final = web.AppKey("services", Services)
ROLES: Final = web.AppKey("roles", Mapping[Handler, frozenset[str]])


def services(request: web.Request) -> Services:
    """Return the rooms of the node."""
    return request.app[SERVICES]
