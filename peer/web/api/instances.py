"""Instances brought in over HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.index import contents
from peer.ingest import NamedFile, Outcome
from peer.web.api.bodies import Body, HashHex, Uid, answer, body
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, OPERATOR, Route, services
from peer.web.uploads import TOGETHER, read_framed, read_instance
from protocol.errors import Refusal

KNOWN_HASHES: Final = 10_000
"""Most content hashes of one question: a large study's, within the bound of a body."""

SETTLED_STUDIES: Final = 10_000
"""Most studies of one request: those of an import."""

_REFUSED_STATUS: Final = {
    "conflict": HTTPStatus.CONFLICT,
    "oversized": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "no-space": HTTPStatus.INSUFFICIENT_STORAGE,
}
"""Refusals of an instance that are not simply 422."""


class KnownBody(Body):
    """BLAKE3 of each instance in question."""

    content_hashes: Annotated[tuple[HashHex, ...], Field(max_length=KNOWN_HASHES)]


class FileBody(Body):
    """A file on this machine, and what stat(2) says of it."""

    path: str
    device: int
    inode: int
    size: Annotated[int, Field(ge=1)]


class FilesBody(Body):
    """Files that are stored together."""

    files: Annotated[tuple[FileBody, ...], Field(max_length=TOGETHER)]


class SettleBody(Body):
    """Which studies are complete; null for all."""

    study_instance_uids: Annotated[tuple[Uid, ...], Field(max_length=SETTLED_STUDIES)] | None = None


async def store(request: web.Request) -> web.StreamResponse:
    """Store the DICOM instance that is the body; answered when it is durable."""
    rooms = services(request)
    with rooms.ingest.memory.share() as share:
        content = await read_instance(request, rooms.ingest, share, rooms.settings.ingest)
        outcome = await rooms.ingest.store_instance(content, actor(request), "http")
    status = HTTPStatus.OK
    if outcome.status == "refused":
        status = _REFUSED_STATUS.get(outcome.code, HTTPStatus.UNPROCESSABLE_ENTITY)
    return answer(outcome_json(outcome), status)


async def store_batch(request: web.Request) -> web.StreamResponse:
    """Store the instances that are the body, each behind its length; answered when durable."""
    rooms = services(request)
    with rooms.ingest.memory.share() as share:
        contents = await read_framed(request, share, rooms.settings.ingest)
        outcomes = await rooms.ingest.store_instances(contents, actor(request), "http")
    return answer({"outcomes": [outcome_json(each) for each in outcomes]})


async def store_files(request: web.Request) -> web.StreamResponse:
    """Store instances from files that the asker names and the node can read; `null` for others.

    Over the Unix socket alone: who may connect to it is the node's own user, and may read as much.
    """
    transport = request.transport
    if transport is None or transport.get_extra_info("socket").family != socket.AF_UNIX:
        raise Refusal(
            "not-permitted",
            "Files are named over the node's own socket alone.",
            "Send the instances themselves.",
        )
    rooms, asked = services(request), await body(request, FilesBody)
    files = [NamedFile(each.path, each.device, each.inode, each.size) for each in asked.files]
    most = rooms.settings.ingest.largest_held
    outcomes: list[Outcome | None] = []
    for run in runs(files, most):
        with rooms.ingest.memory.share() as share:
            await share.grow(min(most, sum(file.size for file in run)))
            outcomes += await rooms.ingest.store_files(run, actor(request), "http")
    return answer({"outcomes": [each and outcome_json(each) for each in outcomes]})


def runs(files: Iterable[NamedFile], most: int) -> Iterator[list[NamedFile]]:
    """Yield files in their order, as many at a time as have `most` bytes, or one that has more."""
    run: list[NamedFile] = []
    room = most
    for file in files:
        if run and file.size > room:
            yield run
            run, room = [], most
        run.append(file)
        room -= file.size
    if run:
        yield run


def outcome_json(outcome: Outcome) -> dict[str, object]:
    """Return what became of an instance."""
    found: dict[str, object] = {
        "status": outcome.status,
        "code": outcome.code,
        "reason": outcome.reason,
        "study_instance_uid": outcome.study_instance_uid,
        "sop_instance_uid": outcome.sop_instance_uid,
        "sop_class_uid": outcome.sop_class_uid,
    }
    if outcome.status == "refused":
        found["error"] = {"code": outcome.code, "reason": outcome.reason, "remedy": ""}
    return found


async def known(request: web.Request) -> web.StreamResponse:
    """Return which of these instances are here already, so that an import can skip them."""
    asked = await body(request, KnownBody)
    found = await services(request).db.read(lambda tx: contents.studies(tx, asked.content_hashes))
    return answer(
        {
            "known": [each for each in asked.content_hashes if each in found],
            "studies": {each.hex(): study for each, study in found.items()},
        }
    )


async def settle(request: web.Request) -> web.StreamResponse:
    """Take studies as complete without waiting, so that they are published now."""
    asked = await body(request, SettleBody)
    ingest = services(request).ingest
    settled: list[str] = []
    for study in (None,) if asked.study_instance_uids is None else asked.study_instance_uids:
        settled += await ingest.settle(study)
    return answer({"settled": settled})


ROUTES: Final = (
    Route("POST", "/api/v1/instances", store, CLINICIAN | OPERATOR),
    Route("POST", "/api/v1/instances/batch", store_batch, CLINICIAN | OPERATOR),
    Route("POST", "/api/v1/instances/files", store_files, CLINICIAN | OPERATOR),
    Route("POST", "/api/v1/instances/known", known, CLINICIAN | OPERATOR),
    Route("POST", "/api/v1/studies/settle", settle, CLINICIAN | OPERATOR),
)
