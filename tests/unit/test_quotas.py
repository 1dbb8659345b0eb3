"""A node that goes by its own record does not ask for what is used up, and says until when."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from peer.clock import ManualClock
from protocol.agreement import Terms
from protocol.errors import Refusal
from protocol.quota import opens_at
from tests.facilities import ASK_JANE, CLINICIAN, START, everyone_shares
from tests.transfers import STUDY, Hospital, ready

EMERGENCY = replace(CLINICIAN, purpose="BTG")


@pytest.fixture
async def world(tmp_path):
    """Make Alice and Bob, who offers her the terms that are given."""
    clock = ManualClock(START)
    alice, bob = Hospital("Alice", clock), Hospital("Bob", clock)
    async with AsyncExitStack() as stack:
        for one in (alice, bob):
            await stack.enter_async_context(one.open(tmp_path / one.name))

        async def meet(**terms):
            bob.meet(alice, Terms(**terms))
            await everyone_shares(alice, bob)
            return alice, bob

        yield meet


async def test_a_search_past_the_figure_is_not_sent_and_says_until_when(world):
    alice, bob = await world(daily_searches=2)
    for _ in range(2):
        assert (await alice.find()).coverage.not_searched == ()
    sent = len(alice.links.sent)
    answer = await alice.find()
    (uncovered,) = answer.coverage.not_searched
    assert len(alice.links.sent) == sent
    assert uncovered.code == "quota"
    assert "2 searches a day" in uncovered.reason
    assert "2026-11-19 00:00 UTC" in answer.coverage.sentence
    assert await bob.alerts.list(open_only=True) == []


async def test_who_was_opened_before_is_found_all_the_same(world):
    alice, bob = await world(daily_searches=1)
    await ready(alice, bob, count=1, size=2_000)
    assert await alice.finds() == {("Bob", STUDY)}
    assert (await alice.find()).coverage.not_searched[0].code == "quota"


async def test_emergency_access_is_sent(world):
    alice, _ = await world(daily_searches=1)
    await alice.find()
    answer = await alice.search.search(ASK_JANE, EMERGENCY, "unconscious")
    assert answer.coverage.not_searched == ()


async def test_the_next_day_it_asks_again(world):
    alice, bob = await world(daily_searches=1)
    await alice.find()
    assert (await alice.find()).coverage.not_searched
    alice.clock.time_s = opens_at(START)
    await bob.publish.renew()
    await everyone_shares(alice, bob)
    assert (await alice.find()).coverage.not_searched == ()


async def test_an_origin_that_counts_more_is_believed_until_the_next_day(world):
    alice, bob = await world()
    asked = []

    async def used_up(message, partner):
        asked.append(message)
        raise Refusal("quota", "Used up.")

    bob.links.handlers = dict.fromkeys(bob.links.handlers, used_up)
    for _ in range(3):
        (uncovered,) = (await alice.find()).coverage.not_searched
        assert uncovered.code == "quota"
    assert len(asked) == 1
    await alice.search.search(ASK_JANE, EMERGENCY, "unconscious")
    assert len(asked) == 2
    alice.clock.time_s = opens_at(START) + 3600
    alice.note(bob.peer_id, replace(alice.freshness[bob.peer_id].head, issued_at=START + 3600))
    await alice.find()
    assert len(asked) == 3


async def test_a_study_past_the_figure_waits_and_goes_on_by_itself(world):
    alice, bob = await world(daily_studies=1)
    await ready(alice, bob, count=1, size=2_000)
    await bob.scan(STUDY + "1", count=1, size=2_000)
    await everyone_shares(alice, bob)
    assert len(await alice.finds()) == 2
    assert (await alice.fetch(bob)).state == "complete"
    assert (await alice.fetch(bob)).state == "complete", "the same one is not one more"
    requests = alice.links.requests.count("GrantRequest")
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY + "1", CLINICIAN)
    waiting = await _coded(alice, started)
    assert (waiting.state, waiting.row.code) == ("waiting", "quota")
    assert "1 study a day" in waiting.row.reason
    assert alice.links.requests.count("GrantRequest") == requests
    alice.clock.time_s = opens_at(START)
    alice.links.connect(bob)
    assert (await alice.retrieve.finished(started.retrieval_id)).state == "complete"


async def test_a_study_that_waits_for_the_next_day_is_fetched_at_once_in_an_emergency(world):
    alice, bob = await world(daily_bytes=1)
    await ready(alice, bob, count=1, size=2_000)
    await bob.scan(STUDY + "1", count=1, size=2_000)
    await everyone_shares(alice, bob)
    await alice.finds()
    assert (await alice.fetch(bob)).state == "complete", "larger than a day allows, and the first"
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY + "1", CLINICIAN)
    assert "images of 1 bytes a day" in (await _coded(alice, started)).row.reason
    await alice.retrieve.retrieve(bob.peer_id, STUDY + "1", EMERGENCY, "bleeding")
    assert (await alice.retrieve.finished(started.retrieval_id)).state == "complete"


async def test_both_sides_show_the_same_use(world):
    alice, bob = await world(daily_searches=10, daily_studies=5)
    await ready(alice, bob, count=1, size=2_000)
    await alice.fetch(bob)
    ours = await alice.reciprocity.quotas.today(_as(alice, bob))
    theirs = await bob.reciprocity.quotas.today(_as(bob, alice))
    assert ours["received"] == theirs["given"]
    assert ours["received"]["searches"] == {"used": 1, "agreed": 10}
    assert ours["received"]["studies"] == {"used": 1, "agreed": 5}
    assert ours["received"]["bytes"]["used"] > 0
    assert ours["given"] == theirs["received"]
    assert ours["given"]["searches"] == {"used": 0, "agreed": None}
    assert ours["opens_at"] == opens_at(START)


def _as(one, other):
    return next(each for each in one.partners if each.peer_id == other.peer_id)


async def _coded(facility, started):
    """Return a retrieval once it says what it waits for."""
    for _ in range(2000):
        status = await facility.retrieve.status(started.retrieval_id)
        if status.row.code:
            return status
        await asyncio.sleep(0.01)
    raise AssertionError("the retrieval says nothing")
