"""Patients' directives: listed, recorded, revoked."""

from __future__ import annotations

import datetime as dt
from http import HTTPStatus
from typing import Final

from aiohttp import web

from peer.web.api.bodies import path
from peer.web.api.consents import (
    ConsentBody,
    ConsentPath,
    acknowledgements_json,
    consent_json,
    record_consent,
)
from peer.web.identity import actor
from peer.web.pages.page import Form, checked, read_form, render, see_other
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services
from protocol.errors import Refusal

READERS: Final = CLINICIAN | PRIVACY_OFFICER


async def list_consents(request: web.Request) -> web.StreamResponse:
    """Show every directive, the newest first."""
    rooms = services(request)
    found = [await consent_json(rooms, each) for each in await rooms.consents.list()]
    made = await acknowledgements_json(rooms)
    return await render(
        request,
        "consents.html",
        consents=found,
        withdrawals=made["withdrawals"],
        oldest=made["oldest_outstanding_at"],
    )


async def show(request: web.Request) -> web.StreamResponse:
    """Show a directive and which partners have applied its revocation."""
    rooms = services(request)
    recorded = await rooms.consents.get(path(request, ConsentPath).directive_id)
    names = {each.peer_id.hex(): each.name for each in rooms.partners.all()}
    shown = await consent_json(rooms, recorded)
    return await render(request, "consent.html", consent=shown, names=names)


async def new(request: web.Request) -> web.StreamResponse:
    """Show the form for a directive."""
    said = {name: [request.query[name]] for name in ("study",) if name in request.query}
    return await _form(request, Form({"purposes": ["TREAT"], **said}), {})


async def grant(request: web.Request) -> web.StreamResponse:
    """Record a directive; what it permits is published at once."""
    form = await read_form(request)
    asked, wrong = checked(ConsentBody, _values(form))
    if asked is None:
        return await _form(request, form, wrong)
    try:
        recorded = await record_consent(request, asked)
    except Refusal as refusal:
        return await _form(request, form, {"form": f"{refusal.reason} {refusal.remedy}"})
    return see_other(f"/consents/{recorded.directive.directive_id}")


async def _form(request: web.Request, form: Form, wrong: dict[str, str]) -> web.StreamResponse:
    status = HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK
    partners = services(request).partners.active()
    return await render(
        request, "consent_new.html", status, form=form, wrong=wrong, partners=partners
    )


def _values(form: Form) -> dict[str, object]:
    scope: dict[str, object] = {}
    if form.text("scope") == "listed":
        scope = {"study_instance_uids": form.listed("study_instance_uids")}
    elif form.text("scope") == "matching":
        scope = {
            "modalities": [each.upper() for each in form.listed("modalities")],
            "body_parts": [each.upper() for each in form.listed("body_parts")],
            "study_date_from": form.text("study_date_from"),
            "study_date_to": form.text("study_date_to"),
        }
    return {
        "patient": {"issuer": form.text("issuer"), "patient_id": form.text("patient_id")},
        "recipients": "all" if form.text("recipients") == "all" else form.all("partners"),
        "scope": scope,
        "purposes": form.all("purposes"),
        "expires_at": _end_of(form.text("expires")),
        "grantor": form.text("grantor"),
        "evidence": form.text("evidence").lower(),
        "shorter_period_requested": form.text("shorter") == "yes",
    }


def _end_of(day: str) -> int | str | None:
    """Return the instant at which a day (YYYY-MM-DD) ends; what is no day as it is."""
    if not day:
        return None
    try:
        start = dt.datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:
        return day
    return int((start + dt.timedelta(days=1)).timestamp())


async def revoke(request: web.Request) -> web.StreamResponse:
    """Revoke a directive: withdrawn from every partner, refused from this moment on."""
    asked = path(request, ConsentPath)
    form = await read_form(request)
    await services(request).consents.revoke(asked.directive_id, form.text("reason"), actor(request))
    return see_other(f"/consents/{asked.directive_id}")


ROUTES: Final = (
    Route("GET", "/consents", list_consents, READERS),
    Route("GET", "/consents/new", new, PRIVACY_OFFICER),
    Route("POST", "/consents", grant, PRIVACY_OFFICER),
    Route("GET", "/consents/{directive_id}", show, READERS),
    Route("POST", "/consents/{directive_id}/revoke", revoke, PRIVACY_OFFICER),
)
