"""WADO-RS: studies, series and instances as they were stored (PS3.18 section 10.4).

Instances are never transcoded: what was stored is what leaves, byte for byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import hdrs, web

from peer.errors import NodeError
from peer.web.dicomweb.accept import ANY, Accepted, accepted, not_acceptable
from peer.web.dicomweb.multipart import Outgoing, cut_off, send
from peer.web.dicomweb.resource import (
    INSTANCE,
    SERIES,
    STUDY,
    WHOLE_BYTES,
    Need,
    Resource,
    instance_url,
    read_in_pieces,
    read_instance,
    resource,
)
from peer.web.routes import CLINICIAN, Route
from protocol.errors import Refusal

DICOM: Final = "application/dicom"


async def retrieve(request: web.Request) -> web.StreamResponse:
    """Send the instances of a study or a series, or one, as parts of one message."""
    wanted = await resource(request, Need.NAMES)
    choice = _choose(request, wanted)
    if choice.media_type == DICOM and not choice.multipart and len(wanted.rows) == 1:
        return await _send_alone(request, wanted)
    return await send(request, DICOM, _parts(request, wanted))


async def _send_alone(request: web.Request, wanted: Resource) -> web.StreamResponse:
    row = wanted.single
    if row.length <= WHOLE_BYTES:
        content = await read_instance(request, wanted, row)
        return web.Response(body=content, content_type=DICOM)
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: DICOM, hdrs.CONTENT_LENGTH: str(row.length)}
    )
    pieces = read_in_pieces(request, wanted, row)
    piece = await anext(pieces)  # What keeps the first one away can still be said.
    await response.prepare(request)
    try:
        await response.write(piece)
        async for piece in pieces:
            await response.write(piece)
    except (NodeError, Refusal) as error:
        return cut_off(request, response, error)
    await response.write_eof()
    return response


def _choose(request: web.Request, wanted: Resource) -> Accepted:
    stored = {row.transfer_syntax_uid for row in wanted.rows}
    for each in accepted(request):
        as_stored = each.transfer_syntax in ("", ANY) or stored == {each.transfer_syntax}
        if each.covers(DICOM) and as_stored:
            return each
    raise not_acceptable(
        f'multipart/related; type="{DICOM}"; transfer-syntax=*; '
        f"it is stored as {', '.join(sorted(stored))}"
    )


async def _parts(request: web.Request, wanted: Resource) -> AsyncIterator[Outgoing]:
    for row in wanted.rows:
        media_type = f"{DICOM}; transfer-syntax={row.transfer_syntax_uid}"
        location = instance_url(request, row)
        if row.length <= WHOLE_BYTES:
            content = await read_instance(request, wanted, row)
            yield Outgoing(media_type, content, location)
        else:
            pieces = read_in_pieces(request, wanted, row)
            yield Outgoing(media_type, pieces, location, row.length)


ROUTES: Final = tuple(Route("GET", path, retrieve, CLINICIAN) for path in (STUDY, SERIES, INSTANCE))
