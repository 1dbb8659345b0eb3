"""The studies that are held here, and one study with its images."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from peer.errors import NotFound
from peer.index import Tx, patients, studies
from peer.index.conditions import StudyQuery
from peer.index.patients import PatientRow
from peer.index.studies import SeriesRow, StudyRow
from peer.web.api.bodies import path
from peer.web.api.studies import StudyPath, hold_back
from peer.web.errors import Problem, RequestError
from peer.web.identity import actor
from peer.web.pages import arriving
from peer.web.pages.page import read_form, render, see_other
from peer.web.pages.series import Series
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services


async def list_studies(request: web.Request) -> web.StreamResponse:
    """Show the studies held here, the newest first."""
    said = request.query.get("from", "")
    offset = int(said) if said.isascii() and said.isdigit() and len(said) <= 6 else 0  # noqa: PLR2004 - digits

    most = services(request).settings.lists.page_studies

    def work(tx: Tx) -> list[tuple[StudyRow, PatientRow | None]]:
        page = studies.search(tx, StudyQuery(limit=most + 1, offset=offset))
        return [(study, patients.get(tx, study.patient)) for study in page]

    found = await services(request).db.read(work)
    return await render(
        request,
        "studies.html",
        studies=found[:most],
        names=names_of(request),
        earlier=offset + most if len(found) > most else None,
        later=max(0, offset - most) if offset else None,
    )


async def show(request: web.Request) -> web.StreamResponse:
    """Show a study; that a clinician looks at it goes on record."""
    uid = path(request, StudyPath).study_instance_uid
    try:
        return await _show(request, uid)
    except NotFound:
        coming = await services(request).retrieve.arriving(uid)
        if coming is None:  # Unless all of it has come just now.
            return await _show(request, uid)
        return await arriving.show(request, coming)


async def _show(request: web.Request, uid: str) -> web.StreamResponse:
    rooms, who = services(request), actor(request)
    sees_images = bool(CLINICIAN & who.roles)
    if sees_images:
        await rooms.access.permit_local(uid, who, "view")

    def work(tx: Tx) -> tuple[StudyRow, PatientRow | None, list[Series]]:
        study = studies.get(tx, uid)
        if study is None:
            raise NotFound("This study is not held here. Search for the patient to find it.")
        series = [_with_images(tx, row) for row in studies.list_series(tx, uid)]
        return study, patients.get(tx, study.patient), series

    study, patient, series = await rooms.db.read(work)
    return await render(
        request,
        "study.html",
        study=study,
        patient=patient,
        series=series,
        sees_images=sees_images,
        may_hold=bool(PRIVACY_OFFICER & who.roles) and study.origin is None,
        names=names_of(request),
        partners=rooms.partners.active() if study.origin is None and sees_images else (),
        lock=await rooms.retention.check(uid),
        report=await _report(request, uid),
    )


async def _report(request: web.Request, uid: str) -> dict[str, Any]:
    return dict(await services(request).report.sentence(uid, actor(request)))


def _with_images(tx: Tx, row: SeriesRow) -> Series:
    rows = studies.list_instances(tx, row.study_instance_uid, row.series_instance_uid)
    images = [[each.sop_instance_uid, each.number_of_frames] for each in rows]
    pictured = [each for each in images if each[1]]
    return Series(row, json.dumps(pictured), sum(each.number_of_frames for each in rows))


def names_of(request: web.Request) -> dict[bytes, str]:
    """Return the name of every partner by its identity."""
    return {bytes(each.peer_id): each.name for each in services(request).partners.all()}


async def hold(request: web.Request) -> web.StreamResponse:
    """Hold a study back from every partner, or release it."""
    uid = path(request, StudyPath).study_instance_uid
    form = await read_form(request)
    if form.text("held_back") not in ("yes", "no"):
        raise RequestError(Problem(422, "invalid-request", "The form says neither yes nor no."))
    await hold_back(
        request, uid, held_back=form.text("held_back") == "yes", reason=form.text("reason")
    )
    return see_other(f"/studies/{uid}")


ROUTES: Final = (
    Route("GET", "/studies", list_studies, CLINICIAN | PRIVACY_OFFICER),
    Route("GET", "/studies/{study_instance_uid}", show, CLINICIAN | PRIVACY_OFFICER),
    Route("POST", "/studies/{study_instance_uid}/hold", hold, PRIVACY_OFFICER),
)
