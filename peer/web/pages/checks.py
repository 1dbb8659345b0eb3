"""Studies that are known to be at a partner: named, looked for, looked for again, dropped."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from aiohttp import web

from peer.errors import NotFound
from peer.web.api.bodies import path
from peer.web.api.checks import READERS, CheckBody, CheckPath, checks_json
from peer.web.api.partners import PartnerPath
from peer.web.identity import actor
from peer.web.pages.page import Form, checked, read_form, render, see_other
from peer.web.pages.search import as_dicom
from peer.web.routes import CLINICIAN, Route, services
from protocol.errors import Refusal
from protocol.identifiers import PeerId

_EMPTY: Final = Form({})


async def show(request: web.Request) -> web.StreamResponse:
    """Show the checks of a partner, what they say of it, and the form for another one."""
    return await _page(request, path(request, PartnerPath).peer_id, _EMPTY, {})


async def name(request: web.Request) -> web.StreamResponse:
    """Look for a study at the partner where it was made."""
    peer_id = path(request, PartnerPath).peer_id
    form = await read_form(request)
    named, wrong = checked(CheckBody, _values(form))
    if named is None:
        return await _page(request, peer_id, form, wrong)
    rooms = services(request)
    rooms.partners.trusted(peer_id)
    try:
        await rooms.reciprocity.completeness.check(
            peer_id, named.person, named.known, actor(request)
        )
    except Refusal as refusal:
        said = {"form": f"{refusal.reason} {refusal.remedy}"}
        return await _page(request, peer_id, form, said)
    return see_other(f"/partners/{peer_id.hex()}/checks")


async def again(request: web.Request) -> web.StreamResponse:
    """Look for a study once more."""
    asked = path(request, CheckPath)
    rooms = services(request)
    rooms.partners.trusted(asked.peer_id)
    await rooms.reciprocity.completeness.again(asked.peer_id, asked.check, actor(request))
    return see_other(f"/partners/{asked.peer_id.hex()}/checks")


async def drop(request: web.Request) -> web.StreamResponse:
    """Forget a study that was named by mistake."""
    asked = path(request, CheckPath)
    form = await read_form(request)
    await services(request).reciprocity.completeness.drop(
        asked.peer_id, asked.check, form.text("reason"), actor(request)
    )
    return see_other(f"/partners/{asked.peer_id.hex()}/checks")


async def _page(
    request: web.Request, peer_id: PeerId, form: Form, wrong: dict[str, str]
) -> web.StreamResponse:
    rooms = services(request)
    partner = rooms.partners.get(peer_id)
    if partner is None:
        raise NotFound("There is no such partner. The list of partners shows all of them.")
    found = await checks_json(rooms, peer_id)
    return await render(
        request,
        "checks.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if wrong else HTTPStatus.OK,
        partner=partner,
        checks=found["checks"],
        completeness=found["completeness"],
        form=form,
        wrong=wrong,
    )


def _values(form: Form) -> dict[str, object]:
    identifier = form.text("identifier")
    return {
        "name": as_dicom(form.text("name")),
        "birth_date": form.text("birth_date"),
        "identifiers": [{"issuer": form.text("issuer"), "value": identifier}] if identifier else [],
        "study_date": form.text("study_date"),
        "accession_number": form.text("accession_number"),
        "modality": form.text("modality").upper(),
        "study_instance_uid": form.text("study_instance_uid") or None,
        "agreed": form.text("agreed") == "yes",
    }


ROUTES: Final = (
    Route("GET", "/partners/{peer_id}/checks", show, READERS),
    Route("POST", "/partners/{peer_id}/checks", name, CLINICIAN),
    Route("POST", "/partners/{peer_id}/checks/{check}/again", again, CLINICIAN),
    Route("POST", "/partners/{peer_id}/checks/{check}/drop", drop, CLINICIAN),
)
