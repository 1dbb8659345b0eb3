"""The check of everything that is stored."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.scrub import Scrubbed
from peer.web.api.bodies import Empty, answer, body
from peer.web.identity import actor
from peer.web.routes import OPERATOR, Route, services


async def begin(request: web.Request) -> web.StreamResponse:
    """Begin to check everything that is stored, unless that is under way."""
    await body(request, Empty)
    return answer(_scrubbed_json(await services(request).scrub.begin(actor(request))))


async def state(request: web.Request) -> web.StreamResponse:
    """Return where the check stands, and what was found damaged."""
    return answer(_scrubbed_json(await services(request).scrub.state()))


def _scrubbed_json(found: Scrubbed) -> dict[str, object]:
    at = found.verification
    return {
        "began_at": at.began_at if at else None,
        "ended_at": at.ended_at if at else None,
        "packs": at.packs if at else 0,
        "packs_total": found.packs,
        "instances": at.instances if at else 0,
        "bytes": at.bytes if at else 0,
        "bytes_total": found.bytes,
        "damaged": [
            {
                "study_instance_uid": each.study_instance_uid,
                "sop_instance_uid": each.sop_instance_uid,
                "origin": each.origin.hex() if each.origin else None,
                "found_at": each.found_at,
                "reason": each.reason,
            }
            for each in found.damaged
        ],
    }


ROUTES: Final = (
    Route("POST", "/api/v1/store/verify", begin, OPERATOR),
    Route("GET", "/api/v1/store/verify", state, OPERATOR),
)
