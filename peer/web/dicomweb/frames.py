"""WADO-RS frames and bulk data (PS3.18 sections 10.4.1.1.6 and 10.4.1.1.5).

A frame leaves as it is encoded; only a client that insists on native pixels (which is what no
transfer syntax means, section 8.7.3.5.2) gets a compressed one decoded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from peer.dicom.frames import Frame, decoded_frame, encoded_frame
from peer.dicom.metadata import bulk_data
from peer.dicom.part10 import is_encapsulated
from peer.index.studies import InstanceRow
from peer.web.dicomweb.accept import ANY, accepted, not_acceptable
from peer.web.dicomweb.metadata import pixel_tag
from peer.web.dicomweb.multipart import Outgoing, send
from peer.web.dicomweb.resource import (
    INSTANCE,
    bad_request,
    instance_url,
    read_instance,
    resource,
    unrenderable,
)
from peer.web.routes import CLINICIAN, Route, services

OCTETS: Final = "application/octet-stream"
NATIVE: Final = "1.2.840.10008.1.2.1"
"""Explicit VR Little Endian: what native frames are sent as."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How frames are to be sent; `media_type` is '' for that of their encoding."""

    decoded: bool
    media_type: str
    multipart: bool


async def retrieve_frames(request: web.Request) -> web.StreamResponse:
    """Send frames by their numbers, which count from 1."""
    numbers = frame_numbers(request)
    wanted = await resource(request)
    row = wanted.single
    form = _choose(request, row)
    content = await read_instance(request, wanted, row)
    return await _send_frames(request, row, content, numbers, form)


def frame_numbers(request: web.Request) -> Sequence[int]:
    """Return the frame numbers of the address; raise RequestError."""
    parts = request.match_info["frames"].split(",")
    most = services(request).settings.dicomweb.max_frames
    if len(parts) > most:
        raise bad_request(f"One request is for at most {most} frames.")
    if not all(p.isascii() and p.isdigit() and int(p[:9]) for p in parts):
        raise bad_request("Frames are named by their numbers, from 1, with commas between them.")
    return [int(part[:9]) for part in parts]


def _choose(request: web.Request, row: InstanceRow) -> _Form:
    stored = row.transfer_syntax_uid
    encapsulated = is_encapsulated(stored)
    for each in accepted(request):
        syntax = each.transfer_syntax
        named = "" if each.media_type.startswith("*") else each.media_type
        multipart = each.multipart or not named
        as_stored = syntax in (ANY, stored) or (not syntax and not (named and encapsulated))
        if each.covers(OCTETS):
            if as_stored:
                return _Form(False, OCTETS if named == OCTETS else "", multipart)
            if syntax in ("", NATIVE):
                return _Form(encapsulated, OCTETS, multipart)
        elif encapsulated and named.startswith("image/") and syntax in ("", ANY, stored):
            return _Form(False, named if "*" not in named else "", multipart)
    raise not_acceptable(
        f'multipart/related; type="{OCTETS}"; transfer-syntax=*; it is stored as {stored}'
    )


async def _send_frames(
    request: web.Request, row: InstanceRow, content: bytes, numbers: Sequence[int], form: _Form
) -> web.StreamResponse:
    first = await _frame(request, content, numbers[0], form)
    if form.media_type.startswith("image/") and form.media_type != first.media_type:
        raise not_acceptable(f"{first.media_type}: that is how it is stored")
    media_type = form.media_type or first.media_type
    if len(numbers) == 1 and not form.multipart:
        return web.Response(body=first.data, content_type=media_type)

    async def parts() -> AsyncIterator[Outgoing]:
        for index, number in enumerate(numbers):
            frame = await _frame(request, content, number, form) if index else first
            syntax = f"{media_type}; transfer-syntax={frame.transfer_syntax_uid}"
            yield Outgoing(syntax, frame.data, f"{instance_url(request, row)}/frames/{number}")

    return await send(request, media_type, parts())


async def _frame(request: web.Request, content: bytes, number: int, form: _Form) -> Frame:
    with unrenderable():
        if form.decoded:
            decoders = services(request).pictures.decoders
            return await asyncio.to_thread(decoded_frame, content, number, decoders)
        return await asyncio.to_thread(encoded_frame, content, number)


async def retrieve_bulk_data(request: web.Request) -> web.StreamResponse:
    """Send one value of an instance that its metadata refers to; of pixel data, every frame."""
    wanted = await resource(request)
    row, path = wanted.single, request.match_info["path"]
    content = await read_instance(request, wanted, row)
    if is_encapsulated(row.transfer_syntax_uid) and path == f"{pixel_tag(content, row):08X}":
        numbers = range(1, row.number_of_frames + 1)
        return await _send_frames(request, row, content, numbers, _choose(request, row))
    choice = next((each for each in accepted(request) if each.covers(OCTETS)), None)
    if choice is None:
        raise not_acceptable(OCTETS)
    value = await asyncio.to_thread(bulk_data, content, path)
    if choice.media_type == OCTETS and not choice.multipart:
        return web.Response(body=value, content_type=OCTETS)

    async def parts() -> AsyncIterator[Outgoing]:
        yield Outgoing(OCTETS, value, f"{instance_url(request, row)}/bulkdata/{path}")

    return await send(request, OCTETS, parts())


ROUTES: Final = (
    Route("GET", f"{INSTANCE}/frames/{{frames:[^/]+}}", retrieve_frames, CLINICIAN),
    Route("GET", f"{INSTANCE}/bulkdata/{{path:.+}}", retrieve_bulk_data, CLINICIAN),
)
