"""A study that is still arriving, with what can be looked at of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from peer.dicom import Header
from peer.errors import NotFound
from peer.index.studies import SeriesRow
from peer.retrieve import Arriving
from peer.web.dicomweb import EARLY_VIEW
from peer.web.identity import actor
from peer.web.pages.page import render
from peer.web.pages.series import Series
from peer.web.routes import services
from peer.web.streams import unless_abandoned
from protocol.manifest import InstanceItem

SINGLE_FRAME: Final = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{end}"
    for end in ("1", "1.1", "1.2", "1.3", "2", "4", "6.1", "7", "128")
)
"""Images of one frame by their SOP class (PS3.3 section A.1.4): CR, DX, MG, IO, CT, MR, US, SC, PT.
Of the others the header says how many they have, so it is fetched before they are listed."""


async def show(request: web.Request, arriving: Arriving) -> web.StreamResponse:
    """Show the study as far as it is here; that a clinician looks at it goes on record."""
    rooms, uid = services(request), arriving.manifest.study_instance_uid
    await rooms.access.permit_local(uid, actor(request), EARLY_VIEW, arriving.origin)
    described = await unless_abandoned(request, _all_described(arriving))
    if not described:
        raise NotFound("This study is arriving, but it has no instances.")
    (header, _), *_ = described
    return await render(
        request,
        "arriving.html",
        study=header.study,
        study_instance_uid=uid,
        patient=header.patient,
        modalities=sorted({each.series.modality for each, _ in described if each.series.modality}),
        series=[each for _, each in described],
        origin=rooms.partners.name(arriving.origin),
        retrieval_id=arriving.retrieval_id.hex(),
        progress=arriving.progress,
    )


async def _all_described(arriving: Arriving) -> Sequence[tuple[Header, Series]]:
    series = arriving.series().items()
    return await asyncio.gather(*(_described(arriving, uid, items) for uid, items in series))


async def _described(
    arriving: Arriving, series_instance_uid: str, items: Sequence[InstanceItem]
) -> tuple[Header, Series]:
    """Return the first header of a series, and the series as the viewer takes it."""
    header = await arriving.header(items[0])
    plain = header.instance.number_of_frames == 1 and all(
        each.sop_class_uid in SINGLE_FRAME for each in items
    )
    if plain:
        images = [(each.sop_instance_uid, 1) for each in items]
    else:
        rows = await arriving.rows(items)
        images = [(row.sop_instance_uid, row.number_of_frames) for row in rows]
    pictured = [each for each in images if each[1]]
    said = header.series
    row = SeriesRow(
        study_instance_uid=arriving.manifest.study_instance_uid,
        series_instance_uid=series_instance_uid,
        modality=said.modality,
        series_number=said.series_number,
        description=said.description,
        body_part=said.body_part,
        laterality=said.laterality,
        protocol_name=said.protocol_name,
        step_date=said.step_date,
        step_time=said.step_time,
        station_name=said.station_name,
        manufacturer=said.manufacturer,
        instances=len(items),
    )
    return header, Series(row, json.dumps(pictured), sum(count for _, count in images))
