"""What must still be available, and until when."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.retention import Lock
from peer.web.api.bodies import Body, Uid, answer, body
from peer.web.routes import ANYONE, Route, services


class CheckBody(Body):
    """The study in question."""

    study_instance_uid: Uid


async def list_locks(request: web.Request) -> web.StreamResponse:
    """Return every study of this facility with its retention lock."""
    found = await services(request).retention.list()
    return answer({"studies": [_lock_json(each) for each in found]})


async def check(request: web.Request) -> web.StreamResponse:
    """Return whether a study may be purged today, and why."""
    asked = await body(request, CheckBody)
    return answer(_lock_json(await services(request).retention.check(asked.study_instance_uid)))


def _lock_json(lock: Lock) -> dict[str, object]:
    return {
        "study_instance_uid": lock.study_instance_uid,
        "study_date": lock.study_date,
        "locked": lock.locked,
        "until": lock.until,
        "reason": lock.reason,
    }


ROUTES: Final = (
    Route("GET", "/api/v1/retention", list_locks, ANYONE),
    Route("POST", "/api/v1/retention/check", check, ANYONE),
)
