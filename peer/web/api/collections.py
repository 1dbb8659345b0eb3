"""Studies collected from PACS, and whether a PACS answers."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final, Self

from aiohttp import web
from pydantic import Field, model_validator

from peer.collection import Report
from peer.index.collected import CollectionRow
from peer.web.api.bodies import Body, Date, Empty, answer, body, path
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, OPERATOR, Route, services

Title = Annotated[str, Field(min_length=1, max_length=16)]
Key = Annotated[str, Field(max_length=64, pattern=r"^[^\\*?]*$")]
"""A value to match: one, and without wildcards, so that nobody collects more than is meant."""


class CollectionBody(Body):
    """What to collect from which PACS: at least one of the criteria."""

    title: Title
    studies_from: Date | None = None
    studies_until: Date | None = None
    modality: Key = ""
    accession_number: Key = ""
    patient_id: Key = ""

    @model_validator(mode="after")
    def _is_narrowed(self) -> Self:
        if not self.keys():
            raise ValueError("say days, modality, accession_number or patient_id")
        return self

    def keys(self) -> dict[str, str]:
        """Return the criteria as keys of a C-FIND."""
        days = f"{self.studies_from or ''}-{self.studies_until or ''}"
        keys = {
            "StudyDate": "" if days == "-" else days,
            "ModalitiesInStudy": self.modality.upper(),
            "AccessionNumber": self.accession_number,
            "PatientID": self.patient_id,
        }
        return {keyword: value for keyword, value in keys.items() if value}


class CollectionPath(Body):
    """One collection."""

    collection_id: Annotated[int, Field(ge=1, lt=2**63, strict=False)]


class PacsPath(Body):
    """One AE of the table."""

    title: Title


async def begin(request: web.Request) -> web.StreamResponse:
    """Begin to collect from a PACS; it goes on by itself."""
    asked = await body(request, CollectionBody)
    row = await services(request).collection.begin(asked.title, asked.keys(), actor(request))
    return answer(_row_json(row), HTTPStatus.ACCEPTED)


async def list_collections(request: web.Request) -> web.StreamResponse:
    """Return the collections, the newest first, and the AEs that can be called."""
    room = services(request).collection
    found = [_row_json(each) for each in await room.list()]
    return answer({"collections": found, "titles": room.titles()})


async def show(request: web.Request) -> web.StreamResponse:
    """Return where a collection stands, and what of it is not here."""
    asked = path(request, CollectionPath)
    return answer(_report_json(await services(request).collection.report(asked.collection_id)))


async def echo(request: web.Request) -> web.StreamResponse:
    """Return if a PACS answers a C-ECHO."""
    await body(request, Empty)
    asked = path(request, PacsPath)
    await services(request).collection.echo(asked.title)
    return answer({"title": asked.title, "answers": True})


def _row_json(row: CollectionRow) -> dict[str, object]:
    return {
        "collection_id": row.collection,
        "title": row.title,
        "keys": row.keys,
        "scheduled": row.is_scheduled,
        "state": row.state,
        "reason": row.reason,
        "began_at": row.began_at,
        "ended_at": row.ended_at,
        "studies": row.studies,
        "studies_complete": row.complete,
        "studies_waiting": row.waiting,
        "instances_listed": row.listed,
        "instances_missing": row.missing,
    }


def _report_json(report: Report) -> dict[str, object]:
    return _row_json(report.collection) | {
        "not_complete": [
            {
                "study_instance_uid": each.study_instance_uid,
                "state": each.state,
                "attempts": each.attempts,
                "listed": each.listed,
                "missing": list(each.missing),
                "reason": each.reason,
            }
            for each in report.studies
        ]
    }


ROUTES: Final = (
    Route("POST", "/api/v1/collections", begin, CLINICIAN | OPERATOR),
    Route("GET", "/api/v1/collections", list_collections, CLINICIAN | OPERATOR),
    Route("GET", "/api/v1/collections/{collection_id}", show, CLINICIAN | OPERATOR),
    Route("POST", "/api/v1/pacs/{title}/echo", echo, OPERATOR),
)
