"""STOW-RS: instances come in, each with its own result (PS3.18 section 10.5)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import hdrs, web

from peer.ingest import Large, Outcome, Share, Taken
from peer.web.dicomweb.accept import MULTIPART
from peer.web.dicomweb.metadata import DICOM_JSON, json_type
from peer.web.dicomweb.multipart import MalformedBody, boundary_of, parts
from peer.web.dicomweb.resource import ROOT, STUDY, bad_request, service_url, uid_of
from peer.web.dicomweb.retrieve import DICOM
from peer.web.errors import Problem, RequestError
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, OPERATOR, Route, services
from peer.web.uploads import Arriving, pieces

TOGETHER: Final = 32
"""Instances that are stored together: one flush of the disk serves them all."""

TOGETHER_BYTES: Final = 8 * 1024 * 1024
"""Fewer, if they are so large: they are in memory until they are durable."""

_FAILURE_REASONS: Final = {
    "no-space": 0xA700,
    "disk-error": 0xA700,
    "oversized": 0xA700,
    "conflict": 0x0111,
    "other-study": 0xA900,
    "uid-mismatch": 0xA900,
    "not-dicom": 0xC000,
    "malformed": 0xC000,
    "truncated": 0xC000,
    "missing-transfer-syntax": 0xC000,
    "missing-uid": 0xC000,
}
"""PS3.18 table I.2-2 and PS3.4 table B.2-1; whatever else is 0110, processing failure."""

_PROCESSING_FAILURE: Final = 0x0110


class _Upload:
    """One request: the instances that came and wait to be stored together, and what became of each.

    Each has a share of the node's memory until it is durable, or refused.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._study = uid_of(request, "study") or ""
        self._ingest = services(request).ingest
        self._coming = self._ingest.memory.share()
        self._waiting: list[tuple[Taken, Share]] = []
        self._waiting_bytes = 0
        self.outcomes: list[Outcome] = []

    def __len__(self) -> int:
        return len(self.outcomes) + len(self._waiting)

    async def grow(self, size: int) -> None:
        """Make room for the instance that is coming; those before it have to be stored for that."""
        if not self._coming.grow_at_once(size):
            await self.store()
            await self._coming.grow(size)

    def give_back(self) -> None:
        """Take note that the instance that was coming is dropped."""
        self._coming.give_back()

    async def add(self, content: AsyncIterable[bytes | memoryview]) -> None:
        """Take an instance in as it comes, and store a group when there is one."""
        arriving = Arriving(self._ingest.incoming(), self)
        try:
            async for piece in content:
                await arriving.add(piece)
            taken = await arriving.take()
        finally:
            arriving.drop()
        self._waiting.append((taken, self._coming))
        self._waiting_bytes += self._coming.held
        self._coming = self._ingest.memory.share()
        if len(self._waiting) >= TOGETHER or self._waiting_bytes >= TOGETHER_BYTES:
            await self.store()

    async def store(self) -> None:
        """Store what waits; in the order in which it came."""
        group, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if not group:
            return
        try:
            self.outcomes += await self._ingest.store_instances(
                [taken for taken, _ in group], actor(self._request), "stow", study=self._study
            )
        finally:
            for _, share in group:
                share.give_back()

    def close(self) -> None:
        """Drop what was not stored."""
        for share in (self._coming, *(share for _, share in self._waiting)):
            share.give_back()
        for taken, _ in self._waiting:
            if isinstance(taken, Large):
                taken.discard()


async def store_instances(request: web.Request) -> web.StreamResponse:
    """Store every instance that can be stored; 200 all, 202 some, 409 none (table 10.5.3-1)."""
    media_type = json_type(request)
    most = services(request).settings.dicomweb.max_instances
    with contextlib.closing(_Upload(request)) as upload:
        try:
            async for content in _instances(request):
                if len(upload) >= most:
                    raise bad_request(f"One request stores at most {most} instances.")
                await upload.add(content)
        except MalformedBody as error:
            # What was stored before is kept; the sender learns nothing of it and sends it again.
            raise bad_request(str(error)) from None
        await upload.store()
    if not upload.outcomes:
        raise bad_request("The body holds no instances.")
    return web.Response(
        body=json.dumps(_answer(upload.outcomes, service_url(request))).encode(),
        status=_status(upload.outcomes),
        headers={hdrs.CONTENT_TYPE: media_type},
    )


async def _instances(request: web.Request) -> AsyncIterator[AsyncIterable[bytes | memoryview]]:
    settings = services(request).settings.ingest
    if request.content_type == DICOM:
        yield pieces(request, settings)
        return
    said = request.headers.get(hdrs.CONTENT_TYPE, "")
    if request.content_type != MULTIPART or DICOM_JSON in said or "dicom+xml" in said:
        raise RequestError(
            Problem(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "Instances are taken in as DICOM files only.",
                f'Send multipart/related; type="{DICOM}", or one instance as {DICOM}.',
            ),
            {"Accept": f'multipart/related; type="{DICOM}", {DICOM}'},
        )
    async for part in parts(pieces(request, settings), boundary_of(request)):
        yield part.content


# -- the answer -----------------------------------------------------------------------------
def _status(outcomes: Sequence[Outcome]) -> HTTPStatus:
    failed = [each for each in outcomes if each.status == "refused"]
    if not failed:
        return HTTPStatus.OK
    if len(failed) < len(outcomes):
        return HTTPStatus.ACCEPTED
    codes = {each.code for each in failed}
    if codes <= {"no-space", "disk-error"}:
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if codes == {"oversized"} else HTTPStatus.CONFLICT


def _answer(outcomes: Sequence[Outcome], service: str) -> dict[str, Any]:
    """Return the Store Instances Response Module (PS3.18 annex I)."""
    stored = [each for each in outcomes if each.status != "refused"]
    failed = [each for each in outcomes if each.status == "refused" and each.sop_instance_uid]
    unreadable = [
        each for each in outcomes if each.status == "refused" and not each.sop_instance_uid
    ]
    found: dict[str, Any] = {}
    studies = {each.study_instance_uid for each in stored}
    if len(studies) == 1:
        found["00081190"] = {"vr": "UR", "Value": [f"{service}/studies/{studies.pop()}"]}
    for tag, items in (
        ("00081198", [_failure(each) for each in failed]),
        ("00081199", [_stored(each, service) for each in stored]),
        ("0008119A", [_failure(each) for each in unreadable]),
    ):
        if items:
            found[tag] = {"vr": "SQ", "Value": items}
    return found


def _reference(outcome: Outcome) -> dict[str, Any]:
    if not outcome.sop_instance_uid:
        return {}
    return {
        "00081150": {"vr": "UI", "Value": [outcome.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [outcome.sop_instance_uid]},
    }


def _failure(outcome: Outcome) -> dict[str, Any]:
    reason = _FAILURE_REASONS.get(outcome.code, _PROCESSING_FAILURE)
    return {
        # Error Comment (PS3.7 table E.1-1): the module has no attribute for a sentence.
        "00000902": {"vr": "LO", "Value": [outcome.reason]},
        **_reference(outcome),
        "00081197": {"vr": "US", "Value": [reason]},
    }


def _stored(outcome: Outcome, service: str) -> dict[str, Any]:
    # The series is not known here; the study's address leads to the instance, too.
    url = f"{service}/studies/{outcome.study_instance_uid}"
    return {**_reference(outcome), "00081190": {"vr": "UR", "Value": [url]}}


ROUTES: Final = (
    Route("POST", f"{ROOT}/studies", store_instances, CLINICIAN | OPERATOR),
    Route("POST", STUDY, store_instances, CLINICIAN | OPERATOR),
)
