"""WADO-RS rendered images and thumbnails (PS3.18 sections 10.4.1.1.3 and 10.4.1.1.4).

For finding one's way, not for primary diagnosis.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final, get_args

from aiohttp import web

from peer.dicom.display import Window
from peer.dicom.frames import THUMBNAIL_PIXELS, MediaType
from peer.index.studies import InstanceRow
from peer.web.dicomweb.accept import accepted, not_acceptable
from peer.web.dicomweb.frames import frame_numbers
from peer.web.dicomweb.multipart import Outgoing, send
from peer.web.dicomweb.resource import (
    INSTANCE,
    SERIES,
    STUDY,
    Need,
    Resource,
    bad_request,
    instance_url,
    read_instance,
    resource,
    unrenderable,
)
from peer.web.pictures import Look
from peer.web.routes import CLINICIAN, Route, services
from peer.web.streams import unless_abandoned

_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}


async def _picture(
    request: web.Request, wanted: Resource, row: InstanceRow, number: int, look: Look
) -> bytes:
    """Return frame `number` (from 1) of an instance as a picture.

    What is still arriving is fetched first: no picture waits for the line in another's turn.
    """
    if wanted.arriving is not None:
        await unless_abandoned(request, wanted.arriving.fetch(wanted.permit, row.sop_instance_uid))
    with unrenderable():
        return await services(request).pictures.picture(
            row.content_hash, partial(read_instance, request, wanted, row), number, look
        )


async def retrieve_rendered(request: web.Request) -> web.StreamResponse:
    """Send pictures: one of a single frame, else all of them as parts, if parts are accepted."""
    numbers = frame_numbers(request) if "frames" in request.match_info else None
    media_type, multipart = _choose(request)
    look = Look(_window(request), _viewport(request), media_type)
    wanted = await resource(request, Need.HEADERS if multipart else Need.ONE_HEADER)
    if not multipart:
        row = _representative(wanted.rows)
        number = numbers[0] if numbers else _middle(row)
        picture = await _picture(request, wanted, row, number, look)
        return web.Response(body=picture, content_type=media_type)

    async def parts() -> AsyncIterator[Outgoing]:
        for row in wanted.rows:
            for number in numbers or range(1, row.number_of_frames + 1):
                picture = await _picture(request, wanted, row, number, look)
                location = f"{instance_url(request, row)}/frames/{number}/rendered"
                yield Outgoing(media_type, picture, location)

    return await send(request, media_type, parts())


async def retrieve_thumbnail(request: web.Request) -> web.StreamResponse:
    """Send one small picture that stands for all of the resource."""
    numbers = frame_numbers(request) if "frames" in request.match_info else None
    media_type, _ = _choose(request)
    side = min(_viewport(request) or THUMBNAIL_PIXELS, 4 * THUMBNAIL_PIXELS)
    wanted = await resource(request, Need.ONE_HEADER)
    row = _representative(wanted.rows)
    number = numbers[0] if numbers else _middle(row)
    look = Look(None, side, media_type)
    picture = await _picture(request, wanted, row, number, look)
    return web.Response(body=picture, content_type=media_type)


def _representative(rows: Sequence[InstanceRow]) -> InstanceRow:
    """Return the instance in the middle of those that have images, of the first series that has."""
    pictured = [row for row in rows if row.number_of_frames]
    if not pictured:
        return rows[0]
    first = [r for r in pictured if r.series_instance_uid == pictured[0].series_instance_uid]
    return first[len(first) // 2]


def _middle(row: InstanceRow) -> int:
    return max(1, (row.number_of_frames + 1) // 2)


def _choose(request: web.Request) -> tuple[MediaType, bool]:
    offered: tuple[MediaType, ...] = get_args(MediaType)
    for each in accepted(request):
        for media_type in offered:
            if each.covers(media_type):
                return media_type, each.multipart
    raise not_acceptable(" or ".join(offered))


def _window(request: web.Request) -> Window | None:
    said = request.query.get("window")
    if not said:
        return None
    center, width, function, *_ = [*(each.strip() for each in said.split(",")), "linear", "", ""]
    try:
        window = Window(float(center), float(width), _FUNCTIONS[function.lower() or "linear"])
    except (KeyError, ValueError):
        raise _bad_window() from None
    if not (abs(window.center) < 1e9 and 0 < window.width < 1e9):  # noqa: PLR2004 - and no NaN
        raise _bad_window()
    return window


def _bad_window() -> Exception:
    functions = ", ".join(_FUNCTIONS)
    return bad_request(f"window is center, width and one of {functions}; the width is positive.")


def _viewport(request: web.Request) -> int | None:
    """Return the side of the square into which the picture has to fit, in pixels."""
    said = request.query.get("viewport")
    if not said:
        return None
    sides = said.split(",")[:2]
    try:
        smaller = min(int(each) for each in sides)
    except ValueError:
        smaller = 0
    most = services(request).settings.dicomweb.max_picture_side
    if not 0 < smaller <= most:
        raise bad_request(f"viewport is width and height in pixels, at most {most}.")
    return smaller


_FRAMES: Final = f"{INSTANCE}/frames/{{frames:[^/]+}}"
ROUTES: Final = tuple(
    route
    for path in (STUDY, SERIES, INSTANCE, _FRAMES)
    for route in (
        Route("GET", f"{path}/rendered", retrieve_rendered, CLINICIAN),
        Route("GET", f"{path}/thumbnail", retrieve_thumbnail, CLINICIAN),
    )
)
