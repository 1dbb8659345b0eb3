"""WADO-RS: studies, series and instances as they were stored (PS3.18 section 10.4).

Instances are never transcoded: what was stored is what leaves, byte for byte.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from peer.web.dicomweb.accept import ANY, Accepted, accepted, not_acceptable
from peer.web.dicomweb.multipart import Outgoing, send
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

DICOM: Final = "application/dicom"


async def retrieve(request: web.Request) -> web.StreamResponse:
    """Send the instances of a study or a series, or one, as parts of one message."""
    wanted = await resource(request)
    choice = _choose(request, wanted)
    if choice.media_type == DICOM and not choice.multipart and len(wanted.rows) == 1:
        content = await read_instance(request, wanted.permit, wanted.single)
        return web.Response(body=content, content_type=DICOM)
    return await send(request, DICOM, _parts(request, wanted))


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
        content = await read_instance(request, wanted.permit, row)
        media_type = f"{DICOM}; transfer-syntax={row.transfer_syntax_uid}"
        yield Outgoing(media_type, content, instance_url(request, row))


ROUTES: Final = tuple(Route("GET", path, retrieve, CLINICIAN) for path in (STUDY, SERIES, INSTANCE))
