"""The node at a glance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

from aiohttp import web

from peer.index import Tx, alerts, studies
from peer.web.api.backups import backup_json
from peer.web.api.bodies import answer
from peer.web.api.journal import journal_json
from peer.web.api.partners import partner_json
from peer.web.routes import ANYONE, Route, services
from peer.web.services import Services
from protocol.identifiers import PeerId
from protocol.limits import CLOCK_SKEW_S, CLOCK_WARNING_S
from protocol.recovery import Pause


async def status(request: web.Request) -> web.StreamResponse:
    """Return what the node holds, whom it is connected to, and what needs attention."""
    return answer(await status_json(services(request)))


async def status_json(rooms: Services) -> dict[str, Any]:
    """Return the status of the node, ready to be written as JSON."""
    me = PeerId(rooms.keys.peer_id)

    def work(tx: Tx) -> tuple[tuple[int, int], int]:
        return studies.count(tx), alerts.count_open(tx)

    (held, instances), waiting = await rooms.db.read(work)
    journal = await journal_json(rooms)
    return {
        "facility": {"peer_id": me, "name": rooms.settings.facility.name},
        "version": version("openpriors"),
        "started_at": rooms.health.started_at,
        "studies": held,
        "instances": instances,
        "partners": [partner_json(rooms, each) for each in rooms.partners.all()],
        "journal": {each: journal[each] for each in ("epoch", "batch", "seq", "live", "state")},
        "last_backup": backup_json(await rooms.backups.last()),
        "warnings": [
            *rooms.health.warnings,
            *_about_journal(journal),
            *await _unconfirmed(rooms),
            *_warnings(rooms, waiting),
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


def _about_journal(journal: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each reason why our journal is not as it should be."""
    waiting = ", ".join(each["name"] for each in journal["partners"] if not each["answered"])
    lacking = ", ".join(each["name"] for each in journal["partners"] if each["lacking"])
    match journal["state"]:
        case Pause.CLAIMED:
            yield (
                "A partner says that it holds a later part of our own journal than this node; it "
                "was asked to show it. Nothing is published meanwhile."
            )
        case Pause.BEHIND:
            yield (
                "This node is older than what it has told its partners: it was restored from a "
                "backup or copied. Nothing is published until its journal is whole again; searching"
                f" goes on. Still to answer: {waiting or 'none'}. Still to give back what they name"
                f" of it: {lacking or 'none'}. If it stays so: openpriors journal recover"
            )
        case Pause.FORKED:
            yield (
                "Two copies of this node have written its journal: partners hold one history, this "
                "node another. Nothing is published any more. Make sure that only one copy runs."
            )
        case _:
            pass
    if journal["held_patients"]:
        yield (
            f"{journal['held_patients']} patient(s) were withdrawn from partners after the backup "
            "from which this node was restored, and are not published until someone has looked: "
            "openpriors journal holds"
        )


def _warnings(rooms: Services, alerts_open: int) -> Iterator[str]:
    """Yield a sentence for each thing that an operator should look at now."""
    if alerts_open:
        yield (
            f"{alerts_open} {'alert waits' if alerts_open == 1 else 'alerts wait'} for someone to "
            "look: openpriors alerts, or the page of the node's status."
        )
    if rooms.keys.are_retired:
        yield (
            "This node was restored from a backup that is older than its keys: partners know later "
            "ones. It signs nothing and has no links until it has new ones: openpriors keys rotate "
            "--root-key FILE, and then openpriors journal recover --root-key FILE"
        )
    yield from rooms.ingest.warnings()
    yield from rooms.scrub.warnings()
    yield from rooms.expiry.warnings()
    yield from rooms.hl7.warnings()
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
