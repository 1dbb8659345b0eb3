"""The node at a glance."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

from aiohttp import web

from peer.index import Tx, journal, studies
from peer.web.api.bodies import answer
from peer.web.api.partners import partner_json
from peer.web.routes import ANYONE, Route, services
from peer.web.services import Services
from protocol.identifiers import PeerId
from protocol.journal import Head


async def status(request: web.Request) -> web.StreamResponse:
    """Return what the node holds, whom it is connected to, and what needs attention."""
    return answer(await status_json(services(request)))


async def status_json(rooms: Services) -> dict[str, Any]:
    """Return the status of the node, ready to be written as JSON."""
    me = PeerId(rooms.keys.peer_id)

    def work(tx: Tx) -> tuple[tuple[int, int], Head | None]:
        return studies.count(tx), journal.head(tx, me)

    (held, instances), head = await rooms.db.read(work)
    return {
        "facility": {"peer_id": me, "name": rooms.settings.facility.name},
        "version": version("openpriors"),
        "started_at": rooms.health.started_at,
        "studies": held,
        "instances": instances,
        "partners": [partner_json(rooms, each) for each in rooms.partners.all()],
        "journal": {
            "epoch": 0 if head is None else head.epoch,
            "batch": 0 if head is None else head.batch,
            "seq": 0 if head is None else head.last_seq,
            "live": 0 if head is None else head.live_count,
        },
        "warnings": rooms.health.warnings,
    }


ROUTES: Final = (Route("GET", "/api/v1/status", status, ANYONE),)
