"""From an address to the instances it names, with leave to read them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from peer.access import Permit
from peer.errors import NodeError, NotFound
from peer.index import studies
from peer.index.studies import InstanceRow
from peer.retrieve import Arriving
from peer.web.errors import Problem, RequestError
from peer.web.identity import actor
from peer.web.routes import services
from peer.web.streams import unless_abandoned
from protocol.errors import Refusal
from protocol.identifiers import is_uid
from protocol.limits import CHUNK_PLAIN_BYTES
from protocol.manifest import InstanceItem

ROOT: Final = "/dicom-web"
STUDY: Final = f"{ROOT}/studies/{{study}}"
SERIES: Final = f"{STUDY}/series/{{series}}"
INSTANCE: Final = f"{SERIES}/instances/{{instance}}"


EARLY_VIEW: Final = "view before its end"
"""On record for a look at a study that is still arriving; its origin stands beside it."""

STILL_ARRIVING: Final = web.RequestKey("still arriving", str)
"""The sentence that goes with the answer to a request for a study that is not all here."""

WHOLE_BYTES: Final = 8 * 1024 * 1024
"""An instance up to this size is sent in one piece, a larger one as it is decrypted."""

PIECE_BYTES: Final = 4 * CHUNK_PLAIN_BYTES
"""Decrypted and sent at a time."""


class Need(Enum):
    """What of a study that is still arriving has to be here before it is answered for."""

    NAMES = "names"
    """What its manifest says: of rows no more than UIDs, transfer syntax and length."""
    HEADERS = "headers"
    ONE_HEADER = "one header"
    """Of the instance that stands for the rest; it is the only row."""


@dataclass(frozen=True, slots=True)
class Resource:
    """The instances of a study, of a series, or a single one; with leave to read them.

    `arriving`: of a study that is not held yet, and arrives just now.
    """

    permit: Permit
    rows: Sequence[InstanceRow]
    arriving: Arriving | None = None

    @property
    def single(self) -> InstanceRow:
        """The instance, of an address that names one."""
        return self.rows[0]


def uid_of(request: web.Request, name: str) -> str | None:
    """Return a UID of the address, None if it has none there; raise RequestError if it is wrong."""
    uid = request.match_info.get(name)
    if uid is None or is_uid(uid):
        return uid
    raise bad_request(f"The {name} in the address is no UID: digits and dots, at most 64.")


def bad_request(reason: str) -> RequestError:
    """Return the answer to a request that is not as PS3.18 defines it."""
    return RequestError(Problem(HTTPStatus.BAD_REQUEST, "bad-request", reason))


async def resource(request: web.Request, need: Need = Need.HEADERS) -> Resource:
    """Return what the address names; raise NotFound, or Refusal if the asker may not see it.

    NodeError if it waits for its origin.  Of a study that is still arriving, what is needed of it
    is fetched first.
    """
    study, series, instance = (uid_of(request, each) for each in ("study", "series", "instance"))
    if study is None:
        raise NotFound("The address names no study.")
    try:
        permit = await _permit(request, study)
    except NotFound:
        arriving = await services(request).retrieve.arriving(study)
        if arriving is not None:
            return await _arriving(request, arriving, arriving.items(series, instance), need)
        permit = await _permit_or_why(request, study)
    rows = await services(request).db.read(
        lambda tx: studies.list_instances(tx, study, series, instance)
    )
    if not rows:
        what = "series" if instance is None else "instance"
        raise NotFound(f"This study is held here, but it has no such {what}.")
    return Resource(permit, rows)


async def _permit(request: web.Request, study: str) -> Permit:
    """Return leave for a study that is held; raise NotFound if it is not."""
    return await services(request).access.permit_local(study, actor(request), "view")


async def _permit_or_why(request: web.Request, study: str) -> Permit:
    """Return leave for a study that has come just now; raise NodeError if it waits to come."""
    try:
        return await _permit(request, study)
    except NotFound:
        reason = await services(request).retrieve.waiting(study)
        if reason is None:
            raise
        raise NodeError(f"This study is not here yet. {reason}") from None


async def _arriving(
    request: web.Request, arriving: Arriving, items: Sequence[InstanceItem], need: Need
) -> Resource:
    study = arriving.manifest.study_instance_uid
    permit = await services(request).access.permit_local(
        study, actor(request), EARLY_VIEW, arriving.origin
    )
    if not items:
        raise NotFound("This study is arriving, but it has no such series or instance.")
    if need is Need.NAMES:
        rows = [arriving.unread(item) for item in items]
    elif need is Need.HEADERS:
        rows = await unless_abandoned(request, arriving.rows(items))
    else:
        rows = [await unless_abandoned(request, arriving.representative(items))]
    request[STILL_ARRIVING] = arriving.progress.sentence
    return Resource(permit, rows, arriving)


async def say_still_arriving(request: web.Request, response: web.StreamResponse) -> None:
    """Say with an answer that its study is not all here (RFC 7234 section 5.5, as QIDO-RS does)."""
    if (sentence := request.get(STILL_ARRIVING)) is not None:
        response.headers.add("Warning", f'299 {request.host} "{sentence}"')


async def read_instance(
    request: web.Request, wanted: Resource, row: InstanceRow, most: int | None = None
) -> bytes:
    """Return the bytes of an instance exactly as they were stored; the first `most` of them."""
    permit, uid = wanted.permit, row.sop_instance_uid
    if wanted.arriving is None:
        return await services(request).retrieve.read_instance(permit, uid, most)
    return await unless_abandoned(request, wanted.arriving.read(permit, uid, most))


async def read_in_pieces(
    request: web.Request, wanted: Resource, row: InstanceRow
) -> AsyncIterator[bytes]:
    """Yield the bytes of an instance as they were stored; little of it is in memory at a time."""
    permit, uid = wanted.permit, row.sop_instance_uid
    if wanted.arriving is None:
        instance = await services(request).retrieve.open_instance(permit, uid)
    else:
        instance = await unless_abandoned(request, wanted.arriving.open(permit, uid))
    try:
        for at in range(0, len(instance), PIECE_BYTES):
            yield await asyncio.to_thread(instance.__getitem__, slice(at, at + PIECE_BYTES))
    finally:
        instance.close()


@contextmanager
def unrenderable() -> Iterator[None]:
    """Answer 406 for what has no images, or none that can be decoded here (10.4.3.2)."""
    try:
        yield
    except Refusal as refusal:
        if refusal.code not in ("no-pixel-data", "not-decodable"):
            raise
        problem = Problem(HTTPStatus.NOT_ACCEPTABLE, refusal.code, refusal.reason, refusal.remedy)
        raise RequestError(problem) from None


def service_url(request: web.Request) -> str:
    """Return the address of the DICOMweb service as the client sees it: behind a proxy, too.

    Some clients leave the port out of the Host header, so an address of ours goes before it.
    """
    rooms = services(request)
    asked = urlsplit(f"//{request.host}").hostname
    for ours in (rooms.settings.local.public_url, rooms.addresses.local_url):
        if ours and urlsplit(ours).hostname == asked:
            return ours.rstrip("/") + ROOT
    return f"{request.scheme}://{request.host}{ROOT}"


def instance_url(request: web.Request, row: InstanceRow) -> str:
    """Return the address of an instance."""
    return (
        f"{service_url(request)}/studies/{row.study_instance_uid}"
        f"/series/{row.series_instance_uid}/instances/{row.sop_instance_uid}"
    )
