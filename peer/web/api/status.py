"""The node at a glance."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final

from aiohttp import web

from peer.index import Tx, alerts, journal, studies
from peer.web.api.bodies import answer
from peer.web.api.partners import partner_json
from peer.web.routes import ANYONE, Route, services
from peer.web.services import Services
from protocol.identifiers import PeerId
from protocol.journal import Head
from protocol.limits import CLOCK_SKEW_S, CLOCK_WARNING_S


async def status(request: web.Request) -> web.StreamResponse:
    """Return what the node holds, whom it is connected to, and what needs attention."""
    return answer(await status_json(services(request)))


async def status_json(rooms: Services) -> dict[str, Any]:
    """Return the status of the node, ready to be written as JSON."""
    me = PeerId(rooms.keys.peer_id)

    def work(tx: Tx) -> tuple[tuple[int, int], Head | None, bool, int]:
        counted = studies.count(tx), journal.head(tx, me), journal.halted(tx)
        return *counted, alerts.count_open(tx)

    (held, instances), head, halted, waiting = await rooms.db.read(work)
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
        "warnings": [
            *rooms.health.warnings,
            *await _unconfirmed(rooms),
            *_warnings(rooms, waiting, halted=halted),
        ],
    }


async def _unconfirmed(rooms: Services) -> list[str]:
    """Say which partners have not confirmed a withdrawal for longer than a lease lasts."""
    found = await rooms.gossip.withdrawals(rooms.settings.lists.withdrawals)
    late = rooms.clock.now() - rooms.settings.journal.lease_s
    overdue = {
        peer_id for each in found if each.withdrawal.at < late for peer_id in each.outstanding
    }
    names = sorted(each.name for each in rooms.partners.active() if each.peer_id in overdue)
    if not names:
        return []
    said = ", ".join(names)
    sentence = (
        f"Not confirmed for longer than the lease that something was withdrawn: {said}. They list "
        "nothing of ours by now; call them, and see the page of consents."
    )
    return [sentence]


def _warnings(rooms: Services, alerts_open: int, *, halted: bool) -> Iterator[str]:
    """Yield a sentence for each thing that an operator should look at now."""
    if alerts_open:
        yield (
            f"{alerts_open} {'alert waits' if alerts_open == 1 else 'alerts wait'} for someone to "
            "look: openpriors alerts, or the page of the node's status."
        )
    if halted:
        yield (
            "A partner holds a later part of our own journal than this node: it was restored from "
            "an old copy. Nothing is published until that part is recovered; searching goes on."
        )
    yield from rooms.expiry.warnings()
    known = rooms.gossip.coverage()
    for partner in rooms.partners.active():
        link = rooms.links.state(partner.peer_id)
        if link.slowed_at is not None:
            yield (
                f"{partner.name} sends more than its budget and is read more slowly. Ask its "
                "operator what its node is doing; if that is its work, raise its budget in "
                "the section link of the settings."
            )
        offset = link.clock_offset_s
        if abs(offset) > CLOCK_WARNING_S:
            yield (
                f"The clock of {partner.name} is {abs(offset)} s "
                f"{'ahead of' if offset > 0 else 'behind'} this node's. Set both right: past "
                f"{CLOCK_SKEW_S} s what is signed by one is refused by the other."
            )
        freshness = known.get(partner.peer_id)
        if freshness is not None and freshness.forked:
            yield (
                f"{partner.name} has signed two histories of its journal. It is followed no "
                "further, and only what is common is listed: call its operator, and show the "
                f'evidence that this writes: openpriors partners fork "{partner.name}" --out FILE'
            )


ROUTES: Final = (Route("GET", "/api/v1/status", status, ANYONE),)
