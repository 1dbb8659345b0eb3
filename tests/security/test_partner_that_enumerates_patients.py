"""Attack: a partner guesses persons, one search each, as fast as it can, to learn an origin's list.

Each guess costs it one of the searches that its agreement allows in a day.  It keeps no record of
its own, or a false one; it comes back after a restart of the origin; it asks for studies past its
figures.  The origin counts durably, refuses the rest, puts that on record once a day, and alerts.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from peer.clock import ManualClock
from peer.index.reciprocity import Period
from protocol.agreement import Terms
from protocol.errors import Refusal
from protocol.evaluation import QUESTION_RANDOM_BYTES, ask
from protocol.messages import Evaluate
from protocol.quota import DAY_S, opens_at
from tests.facilities import ASK_JANE, CLINICIAN, START, everyone_shares
from tests.transfers import STUDY, Hospital

TERMS = Terms(daily_searches=3, daily_studies=1)
EMERGENCY = replace(CLINICIAN, purpose="BTG")


@pytest.fixture
async def pair(tmp_path):
    """Mallory may search Bob three times a day and fetch one study."""
    clock = ManualClock(START)
    mallory, bob = Hospital("Mallory", clock), Hospital("Bob", clock)
    async with AsyncExitStack() as stack:
        for one in (mallory, bob):
            await stack.enter_async_context(one.open(tmp_path / one.name))
        bob.meet(mallory, TERMS)
        await everyone_shares(mallory, bob)
        yield mallory, bob


def guess(number, purpose="TREAT"):
    """A question that is made without any node's own counting."""
    random = (number + 1).to_bytes(2, "big") * (QUESTION_RANDOM_BYTES // 2)
    points = ask((f"guess {number}",), random).points
    return Evaluate(number.to_bytes(16, "big"), "someone", "clinician", purpose, points, points)


async def guesses(mallory, bob, numbers, purpose="TREAT"):
    """Return how each guess is answered: '' or the code of the refusal."""
    found = []
    for number in numbers:
        try:
            await mallory.links.request(bob.peer_id, guess(number, purpose), 5)
            found.append("")
        except Refusal as refusal:
            found.append(refusal.code if refusal.reason and refusal.remedy else "says nothing")
    return found


async def test_it_gets_as_many_answers_as_agreed_and_no_more(pair):
    mallory, bob = pair
    assert await guesses(mallory, bob, range(10)) == [""] * 3 + ["quota"] * 7


async def test_a_restart_of_the_origin_forgets_nothing(pair, tmp_path):
    mallory, bob = pair
    await guesses(mallory, bob, range(2))
    again = Hospital("Bob", bob.clock)
    again.partners, again.knows = bob.partners, bob.knows
    await bob.db.close()
    await bob.partners_db.close()
    async with again.open(tmp_path / "Bob"):
        mallory.knows[bob.peer_id] = again
        assert await guesses(mallory, again, range(3)) == ["", "quota", "quota"]


async def test_the_next_day_it_is_answered_again(pair):
    mallory, bob = pair
    await guesses(mallory, bob, range(5))
    bob.clock.time_s = opens_at(START) - 1
    assert await guesses(mallory, bob, range(1)) == ["quota"]
    bob.clock.time_s = opens_at(START)
    assert await guesses(mallory, bob, range(5)) == [""] * 3 + ["quota"] * 2


async def test_it_is_on_record_once_a_day_alerted_to_and_counted(pair):
    mallory, bob = pair
    await guesses(mallory, bob, range(50))
    refused = [each for each in await bob.actions("evaluate") if each["outcome"] == "refused"]
    assert [each["detail"]["code"] for each in refused] == ["quota"]
    (alert,) = await bob.alerts.list(open_only=True)
    assert "Mallory asked for more in a day" in alert["sentence"]
    balance = await bob.reciprocity.balances([mallory.peer_id], _month())
    assert balance[mallory.peer_id].given.refused == {"quota": 47}
    assert balance[mallory.peer_id].given.searches == 3
    bob.clock.advance(DAY_S)
    await guesses(mallory, bob, range(50))
    refused = [each for each in await bob.actions("evaluate") if each["outcome"] == "refused"]
    assert len(refused) == 2


async def test_it_gets_as_many_studies_as_agreed_and_the_same_again(pair):
    mallory, bob = pair
    await bob.scan()
    await bob.scan(uid=STUDY + "1")
    await bob.consent()
    await everyone_shares(mallory, bob)
    assert len(await mallory.finds()) == 2
    assert (await mallory.fetch(bob)).state == "complete"
    mallory.reciprocity.quotas.study_objection = _no_record
    second = await mallory.retrieve.retrieve(bob.peer_id, STUDY + "1", CLINICIAN)
    waiting = await _coded(mallory, second)
    assert (waiting.state, waiting.row.code) == ("waiting", "quota")
    assert (await mallory.fetch(bob)).state == "complete", "not a study more"
    assert len(await bob.actions("grant")) == 2
    refused = await bob.actions("grant-refused")
    assert {each["detail"]["code"] for each in refused} == {"quota"}


async def test_breaking_the_glass_passes_is_counted_and_alerted_to(pair):
    mallory, bob = pair
    await guesses(mallory, bob, range(3))
    assert await guesses(mallory, bob, range(2), "BTG") == ["", ""]
    assert await guesses(mallory, bob, range(1)) == ["quota"]
    kinds = {each["kind"]: each["times"] for each in await bob.alerts.list(open_only=True)}
    assert kinds == {"break-glass": 2, "quota": 1}
    assert (await bob.reciprocity.quotas.today(_as(bob, mallory)))["given"]["searches"] == {
        "used": 5,
        "agreed": 3,
    }


async def test_another_partner_does_not_pay_for_it(pair, tmp_path):
    mallory, bob = pair
    await guesses(mallory, bob, range(10))
    alice = Hospital("Alice", bob.clock)
    async with alice.open(tmp_path / "Alice"):
        bob.meet(alice, TERMS)
        await everyone_shares(alice, bob)
        assert (await alice.find()).coverage.not_searched == ()


async def test_what_is_refused_for_the_day_is_not_answered_in_kind(pair):
    mallory, bob = pair
    for _ in range(5):
        await mallory.find()
    await guesses(mallory, bob, range(1))
    assert (await bob.find(ASK_JANE)).coverage.not_searched == ()


def _as(one, other):
    return next(each for each in one.partners if each.peer_id == other.peer_id)


def _month():
    today = START // DAY_S * DAY_S
    return Period(today - 29 * DAY_S, today + DAY_S)


async def _no_record(*_):
    """What a node that keeps no record says."""


async def _coded(facility, started):
    """Return a retrieval once the origin has said no."""
    for _ in range(2000):
        status = await facility.retrieve.status(started.retrieval_id)
        if status.row.code:
            return status
        await asyncio.sleep(0.01)
    raise AssertionError("the origin has said nothing")
