"""WADO-RS metadata: the headers of instances as DICOM JSON, bulk data by reference (10.4.1.1.2)."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from aiohttp import hdrs, web

from peer.dicom import metadata as header
from peer.errors import NodeError
from peer.index.studies import InstanceRow
from peer.web.dicomweb.accept import accepted, not_acceptable
from peer.web.dicomweb.multipart import cut_off
from peer.web.dicomweb.resource import (
    INSTANCE,
    SERIES,
    STUDY,
    Resource,
    instance_url,
    read_instance,
    resource,
)
from peer.web.routes import CLINICIAN, Route
from protocol.errors import Refusal

DICOM_JSON: Final = "application/dicom+json"

TAG_BYTES: Final = 4


async def retrieve_metadata(request: web.Request) -> web.StreamResponse:
    """Send the header of every instance, one after the other, compressed if the client can."""
    media_type = json_type(request)
    wanted = await resource(request)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: media_type})
    response.enable_compression()
    first = await _described(request, wanted, wanted.rows[0])
    await response.prepare(request)
    await response.write(b"[" + first)
    try:
        for row in wanted.rows[1:]:
            await response.write(b"," + await _described(request, wanted, row))
    except (NodeError, Refusal) as error:
        return cut_off(request, response, error)
    await response.write(b"]")
    await response.write_eof()
    return response


def json_type(request: web.Request) -> str:
    """Return the media type of an answer in DICOM JSON; raise RequestError if it is not wanted."""
    for each in accepted(request):
        for offered in (DICOM_JSON, "application/json"):
            if not each.multipart and each.covers(offered):
                return offered
    raise not_acceptable(DICOM_JSON)


async def _described(request: web.Request, wanted: Resource, row: InstanceRow) -> bytes:
    # The pixel data's tag stands behind the header; the pixels themselves are not read.
    most = row.header_length + TAG_BYTES
    content = await read_instance(request, wanted, row, most)
    uri = f"{instance_url(request, row)}/bulkdata"
    return await asyncio.to_thread(_to_json, content, row, uri)


def _to_json(content: bytes, row: InstanceRow, uri: str) -> bytes:
    described = header.metadata(
        content[: row.header_length], row.transfer_syntax_uid, pixel_tag(content, row), uri
    )
    return json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()


def pixel_tag(content: bytes, row: InstanceRow) -> int:
    """Return the tag of an instance's pixel data, 0 if it has none."""
    if not row.number_of_frames:
        return 0
    # A deflated instance shows no tag here; float pixels in one are unheard of.
    return _PIXEL_TAGS.get(content[row.header_length : row.header_length + TAG_BYTES], 0x7FE00010)


_PIXEL_TAGS: Final = {
    b"\xe0\x7f\x08\x00": 0x7FE00008,
    b"\x7f\xe0\x00\x08": 0x7FE00008,
    b"\xe0\x7f\x09\x00": 0x7FE00009,
    b"\x7f\xe0\x00\x09": 0x7FE00009,
}

ROUTES: Final = tuple(
    Route("GET", f"{path}/metadata", retrieve_metadata, CLINICIAN)
    for path in (STUDY, SERIES, INSTANCE)
)
