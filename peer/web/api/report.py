"""The sentences of the final report."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.web.api.bodies import Body, Uid, answer, query
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services


class ReportQuery(Body):
    """The study that the report is about."""

    study_instance_uid: Uid


async def report(request: web.Request) -> web.StreamResponse:
    """Return the sentences for a study, each with its code and its evidence."""
    asked = query(request, ReportQuery)
    rooms = services(request)
    return answer(await rooms.report.sentence(asked.study_instance_uid, actor(request)))


ROUTES: Final = (Route("GET", "/api/v1/report", report, CLINICIAN | PRIVACY_OFFICER),)
