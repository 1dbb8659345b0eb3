"""Attack: a partner takes and does not give.

It holds its head back, names one and never sends what is behind it, names the same old one for
ever, sends its journal with holes, or deals with nobody.  It keeps asking: its evaluations and its
requests for studies are refused, with the reason, and nothing of ours leaves.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from peer.index import alerts
from peer.index.frontiers import Frontier
from protocol.errors import Refusal
from protocol.journal import Head
from protocol.limits import EXCHANGED_S, LEASE_S
from protocol.messages import OriginHead
from protocol.reciprocity import Progress
from tests.facilities import ASK_JANE, CLINICIAN, START
from tests.transfers import STUDY, hospitals, ready

DAY = 24 * 3600


@pytest.fixture
async def pair(tmp_path):
    """Mallory has found a study of Bob's while the two were in step."""
    async with hospitals(tmp_path, "Mallory", "Bob") as (mallory, bob):
        await ready(mallory, bob, count=1, size=2_000)
        yield mallory, bob


def head(batch, issued_at):
    return Head(0, batch, batch, 1, b"h" * 32, batch, bytes(32), issued_at, issued_at + LEASE_S)


def announced(batch):
    return OriginHead(bytes(32), 0, batch, b"h" * 32, batch)


def held_back(now):
    """No HAVE names a head of its own journal."""
    return Frontier(progress=Progress().heard(None, None, now, whole=True))


def silent(now):
    """It was in step once, and has said nothing since."""
    then = now - EXCHANGED_S - 1
    return Frontier(head(3, then), progress=Progress(announced(3), completed_at=then))


def never_given(now):
    """It names a head every minute and answers no WANT."""
    progress = Progress()
    for minute in range(30):
        progress = progress.heard(announced(9), None, now - 60 * minute, whole=True)
    return Frontier(progress=progress)


def dripped(now):
    """It sends a batch every minute, and never the last."""
    progress, at = Progress().heard(announced(900), None, now - 2 * DAY, whole=True), head(40, now)
    return Frontier(at, progress=progress.stored(at, now, whole=True, advanced=True))


def grown_old(now):
    """It signs no fresh head."""
    old = head(3, now - LEASE_S)
    return Frontier(old, progress=Progress().heard(announced(3), old, now, whole=True))


def full_of_holes(now):
    """Its entries come without their bodies."""
    at = head(3, now)
    return Frontier(at, 1, Progress().heard(announced(3), at, now, whole=False))


def forked(now):
    """It shows another journal to others."""
    return Frontier(head(3, now), None, Progress(announced(3), completed_at=now), forked=True)


ATTACKS = {
    held_back: "exchange-stale",
    silent: "exchange-stale",
    never_given: "exchange-incomplete",
    dripped: "exchange-incomplete",
    grown_old: "lease-over",
    full_of_holes: "exchange-incomplete",
    forked: "journal-forked",
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
async def test_it_gets_no_evaluations_and_no_grants(pair, attack):
    mallory, bob = pair
    bob.frontiers[mallory.peer_id] = attack(START)
    (uncovered,) = (await mallory.find()).coverage.not_searched
    assert uncovered.code == "refused"
    ended = await mallory.retrieve.retrieve(bob.peer_id, STUDY, _clinician())
    status = await _settled(mallory, ended.retrieval_id)
    assert status.row.code == ATTACKS[attack]
    assert status.row.reason
    assert status.row.remedy
    assert await bob.actions("grant") == []
    assert mallory.links.ranges == []
    refused = [*await bob.actions("evaluate"), *await bob.actions("grant-refused")]
    codes = {each["detail"]["code"] for each in refused if each["outcome"] == "refused"}
    assert codes == {ATTACKS[attack]}


async def test_it_gets_in_kind_what_it_refuses_by_policy(pair):
    mallory, bob = pair

    async def nothing_to_do_with_you(message, partner):
        raise Refusal("not-a-partner", "We do not deal with you.")

    mallory.links.handlers = dict.fromkeys(mallory.links.handlers, nothing_to_do_with_you)
    await bob.find()
    (uncovered,) = (await mallory.find()).coverage.not_searched
    assert "does not answer this one" in uncovered.reason
    later = Progress(completed_at=START + 1)
    bob.frontiers[mallory.peer_id] = Frontier(head(1, START), progress=later)
    assert (await mallory.find()).coverage.not_searched == ()


@pytest.mark.parametrize("code", ["busy", "not-ready", "exchange-stale", "quota", "failed"])
async def test_what_it_refuses_for_a_moment_is_not_held_against_it(pair, code):
    mallory, bob = pair

    async def later(message, partner):
        raise Refusal(code, "Not now.")

    mallory.links.handlers = dict.fromkeys(mallory.links.handlers, later)
    await bob.find()
    assert (await mallory.find()).coverage.not_searched == ()


async def test_breaking_the_glass_lets_it_in_and_tells_everyone(pair):
    mallory, bob = pair
    bob.frontiers[mallory.peer_id] = never_given(START)
    answer = await mallory.search.search(ASK_JANE, _clinician("BTG"), "unconscious, no records")
    assert answer.coverage.not_searched == ()
    done = await mallory.retrieve.retrieve(
        bob.peer_id, STUDY, _clinician("BTG"), "unconscious, no records"
    )
    assert (await mallory.retrieve.finished(done.retrieval_id)).state == "complete"
    (here,) = await mallory.alerts.list(open_only=True)
    assert here["reason"] == "unconscious, no records"
    assert here["times"] == 2
    (there,) = await bob.alerts.list(open_only=True)
    assert (there["name"], there["times"], there["reason"]) == ("Mallory", 2, "")
    assert len(await mallory.actions("break-glass")) == 2
    assert len(await bob.actions("break-glass")) == 2


async def test_it_cannot_fill_the_alerts_with_made_up_people(pair):
    _, bob = pair

    def many(tx):
        for number in range(3 * alerts.OPEN_FOR_EACH):
            alerts.put(tx, "break-glass", b"m" * 32, f"pseudonym {number}", "", START)
        return alerts.latest(tx, 1000, open_only=True)

    rows = await bob.db.write(many)
    assert len(rows) == alerts.OPEN_FOR_EACH + 1
    assert sum(row.times for row in rows) == 3 * alerts.OPEN_FOR_EACH


def _clinician(purpose="TREAT"):
    return replace(CLINICIAN, purpose=purpose)


async def _settled(facility, retrieval_id):
    """Return a retrieval once the origin has said no, whether it then waits or has ended."""
    for _ in range(2000):
        status = await facility.retrieve.status(retrieval_id)
        if status.row.code:
            return status
        await asyncio.sleep(0.01)
    raise AssertionError("the origin has said nothing")
