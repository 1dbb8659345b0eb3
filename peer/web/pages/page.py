"""Templates, what every page shows, and forms."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar

import aiohttp_jinja2
import jinja2
from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError

from peer.web.errors import ERROR_PAGE, Problem
from peer.web.identity import CSRF_FIELD, IDENTITY
from peer.web.pages import words
from peer.web.pages.answers import ANSWERS, Answers
from peer.web.pages.static import STATIC, load_static
from peer.web.routes import ANYONE, CLINICIAN, OPERATOR, PRIVACY_OFFICER, SERVICES, services

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the navigation, for those with one of the roles."""

    name: str
    path: str
    roles: frozenset[str]


PLACES: Final = (
    Place("Search", "/", CLINICIAN),
    Place("Studies", "/studies", CLINICIAN | PRIVACY_OFFICER),
    Place("Expected", "/expected", CLINICIAN),
    Place("Retrievals", "/retrievals", CLINICIAN),
    Place("Notices", "/notices", CLINICIAN),
    Place("Consents", "/consents", CLINICIAN | PRIVACY_OFFICER),
    Place("Partners", "/partners", ANYONE),
    Place("People", "/people", OPERATOR),
    Place("Status", "/status", ANYONE),
)


def prepare(app: web.Application) -> None:
    """Give an application its templates, static files and page for errors."""
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.PackageLoader("peer.web.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        default_helpers=False,
    )
    environment.filters.update(words.FILTERS)
    environment.globals["purposes"] = words.PURPOSES
    app[ERROR_PAGE] = error_page
    app[STATIC] = load_static()
    app[ANSWERS] = Answers(app[SERVICES].settings.search)


async def render(
    request: web.Request, template: str, status: int = HTTPStatus.OK, **content: object
) -> web.Response:
    """Return a page for whoever is signed in."""
    waiting = 0
    if request[IDENTITY].actor.roles & CLINICIAN:
        inbox = await services(request).notify.inbox()
        waiting = sum(notice.acknowledged_at is None for notice in inbox)
        waiting += len(await services(request).identities.waiting())
        waiting += await services(request).search.new_priors.waiting(request[IDENTITY].actor)
    return _render(request, template, status, {"waiting": waiting, **content})


def _render(
    request: web.Request, template: str, status: int, content: dict[str, object]
) -> web.Response:
    who = request.get(IDENTITY)
    roles = who.actor.roles if who else frozenset[str]()
    session = who.session if who else None
    shown: dict[str, object] = {
        "facility": services(request).settings.facility.name,
        "who": who.actor if who else None,
        "roles": roles,
        "signed_in": session is not None,
        "csrf": session.csrf if session else "",
        "csrf_field": CSRF_FIELD,
        "places": [place for place in PLACES if place.roles & roles],
        "waiting": 0,
        "now": services(request).clock.now(),
    }
    return aiohttp_jinja2.render_template(template, request, shown | content, status=status)


def error_page(request: web.Request, problem: Problem) -> web.Response:
    """Return the page that says "no" or "it failed"; to nobody, how to sign in."""
    nobody = request.get(IDENTITY) is None
    template = "sign_in.html" if nobody and problem.status in _NOBODY else "error.html"
    return _render(request, template, problem.status, {"problem": problem})


_NOBODY: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def see_other(path: str) -> web.Response:
    """Return the way to the page that shows what was done."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={hdrs.LOCATION: path})


# -- forms ----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Form:
    """A form as it was filled in: several values for a name where it has several."""

    values: dict[str, list[str]]

    def text(self, name: str) -> str:
        """Return a field's value, trimmed; '' if there is none."""
        return self.values.get(name, [""])[0].strip()

    def all(self, name: str) -> list[str]:
        """Return every value that is not blank."""
        return [value.strip() for value in self.values.get(name, []) if value.strip()]

    def listed(self, name: str) -> list[str]:
        """Return what stands in a field, separated by commas, blanks or lines."""
        return self.text(name).replace(",", " ").split()


async def read_form(request: web.Request) -> Form:
    """Return the form that was sent; files in it are left out."""
    values: dict[str, list[str]] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, str):
            values.setdefault(name, []).append(value)
    return Form(values)


def checked(model: type[Model], values: dict[str, Any]) -> tuple[Model | None, dict[str, str]]:
    """Return `values` as `model`, or None and what is wrong by the name of the field."""
    try:
        return model.model_validate(values), {}
    except ValidationError as error:
        wrong: dict[str, str] = {}
        for detail in error.errors(include_url=False, include_context=False, include_input=False):
            name = str(detail["loc"][0]) if detail["loc"] else "form"
            wrong.setdefault(name, _sentence(detail["msg"]))
        return None, wrong


def _sentence(said: str) -> str:
    said = said.removeprefix("Value error, ").rstrip(".")
    return f"{said[:1].upper()}{said[1:]}."
