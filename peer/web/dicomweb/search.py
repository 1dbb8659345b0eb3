"""QIDO-RS: studies, series and instances (PS3.18 section 10.6); studies of other facilities too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, TypeAlias

from aiohttp import hdrs, web

from peer.audit import AuditEvent
from peer.errors import NotFound
from peer.index import Tx, patients, queries, studies
from peer.index.studies import StudyRow
from peer.web.dicomweb import federated
from peer.web.dicomweb.attributes import Json, instance_json, series_json, study_json
from peer.web.dicomweb.metadata import json_type
from peer.web.dicomweb.query import Asked, read_query
from peer.web.dicomweb.resource import ROOT, SERIES, STUDY, service_url, uid_of
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, Route, services

Found: TypeAlias = Callable[[Tx, Asked, str], Iterator[Json]]

PAGE: Final = 200
"""Studies read at a time while series or instances are looked for in them."""


async def search_for_studies(request: web.Request) -> web.StreamResponse:
    """Answer which studies match: those held here, or one person's at every facility."""
    media_type = json_type(request)
    most = services(request).settings.dicomweb.max_results
    asked = read_query(request.query, "studies", most)
    question, why = federated.question_for(request, asked)
    if question is None:
        return await _search(request, "studies", _studies, why)
    found = await federated.search(request, asked, question, service_url(request))
    return _response(request, media_type, found.page, (*asked.warnings, *found.warnings))


async def search_for_series(request: web.Request) -> web.StreamResponse:
    """Answer which series match, of one study or of all."""
    return await _search(request, "series", _series)


async def search_for_instances(request: web.Request) -> web.StreamResponse:
    """Answer which instances match, of one series, one study or all."""
    return await _search(request, "instances", _instances)


async def _search(
    request: web.Request, level: str, found: Found, remarks: Sequence[str] = ()
) -> web.StreamResponse:
    media_type = json_type(request)
    rooms = services(request)
    most = rooms.settings.dicomweb.max_results
    asked = read_query(request.query, level, most).within(
        uid_of(request, "study"), uid_of(request, "series")
    )
    service = service_url(request)
    # One more than fits tells whether there is more.
    page = await rooms.db.read(lambda tx: list(islice(found(tx, asked, service), asked.limit + 1)))
    await _record(request, level, page[: asked.limit])
    warnings = [*asked.warnings, *remarks]
    if len(page) > asked.limit:
        warnings.append("There are additional results that can be requested.")
    return _response(request, media_type, page[: asked.limit], warnings)


def _response(
    request: web.Request, media_type: str, page: Sequence[Json], warnings: Iterable[str]
) -> web.StreamResponse:
    response = web.Response(
        body=json.dumps(page, ensure_ascii=False).encode(),
        headers={hdrs.CONTENT_TYPE: media_type},
    )
    for each in warnings:
        # A header is one line of visible ASCII; a facility's name may be anything.
        said = each.encode("ascii", "replace").decode().replace('"', "'")
        said = "".join(char if char.isprintable() else " " for char in said)
        response.headers.add("Warning", f'299 {request.host} "{service_url(request)}: {said}"')
    response.enable_compression()
    return response


async def _record(request: web.Request, level: str, page: list[Json]) -> None:
    """Put on record who looked: of one study as a look at it, else as a search."""
    rooms, who = services(request), actor(request)
    study = uid_of(request, "study")
    if study is None:
        detail: dict[str, str | int] = {"source": "qido", "level": level, "results": len(page)}
        await rooms.audit.record(AuditEvent("search", "success", who, detail=detail))
        return
    try:
        await rooms.access.permit_local(study, who, "view")
    except NotFound:
        return  # Then the page is empty, which is the answer.


# -- within the index -----------------------------------------------------------------------
def _studies(tx: Tx, asked: Asked, service: str) -> Iterator[Json]:
    wanted = replace(asked.study, limit=asked.limit + 1, offset=asked.offset)
    for study in studies.search(tx, wanted):
        yield study_json(study, patients.get(tx, study.patient), service)


def _series(tx: Tx, asked: Asked, service: str) -> Iterator[Json]:
    return islice(_all_series(tx, asked, service), asked.offset, None)


def _all_series(tx: Tx, asked: Asked, service: str) -> Iterator[Json]:
    for study in _matching_studies(tx, asked):
        above = study_json(study, patients.get(tx, study.patient), service)
        for series in queries.series_of(tx, asked.query, study.study_instance_uid):
            yield series_json(series, service, above)


def _instances(tx: Tx, asked: Asked, service: str) -> Iterator[Json]:
    return islice(_all_instances(tx, asked, service), asked.offset, None)


def _all_instances(tx: Tx, asked: Asked, service: str) -> Iterator[Json]:
    for study in _matching_studies(tx, asked):
        above = study_json(study, patients.get(tx, study.patient), service)
        for series in queries.series_of(tx, asked.query, study.study_instance_uid):
            described = series_json(series, service, above)
            for instance in queries.instances_of(tx, asked.query, series):
                yield instance_json(instance, service, described)


def _matching_studies(tx: Tx, asked: Asked) -> Iterator[StudyRow]:
    query, offset = queries.narrowed(tx, asked.query), 0
    while page := studies.search(tx, replace(query.study, limit=PAGE, offset=offset)):
        yield from page
        offset += PAGE


ROUTES: Final = (
    Route("GET", f"{ROOT}/studies", search_for_studies, CLINICIAN),
    Route("GET", f"{ROOT}/series", search_for_series, CLINICIAN),
    Route("GET", f"{STUDY}/series", search_for_series, CLINICIAN),
    Route("GET", f"{ROOT}/instances", search_for_instances, CLINICIAN),
    Route("GET", f"{STUDY}/instances", search_for_instances, CLINICIAN),
    Route("GET", f"{SERIES}/instances", search_for_instances, CLINICIAN),
)
