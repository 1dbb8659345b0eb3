"""A node that is asked to exchange first does so and asks once more, without anyone's doing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from peer.index.frontiers import Frontier
from protocol.errors import Refusal
from protocol.limits import EVALUATION_BYTES
from protocol.messages import Evaluate
from protocol.reciprocity import Progress
from tests.facilities import ASK_JANE, CLINICIAN
from tests.transfers import STUDY, hospitals, ready


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as (alice, bob):
        await ready(alice, bob, count=1, size=2_000)
        yield alice, bob


def forget_exchange(bob, alice):
    """Let Bob not have heard of Alice for long; return what a completed exchange does."""
    bob.frontiers[alice.peer_id] = Frontier(progress=Progress())
    times = []

    async def exchange(peer_id):
        times.append(peer_id)
        bob.frontiers.pop(alice.peer_id)

    return exchange, times


def emergency():
    return replace(CLINICIAN, purpose="BTG")


async def test_a_search_exchanges_and_is_put_once_more(pair):
    alice, bob = pair
    alice.exchange_now, exchanges = forget_exchange(bob, alice)
    assert await alice.finds() == {("Bob", STUDY)}
    assert exchanges == [bob.peer_id]
    outcomes = [each["outcome"] for each in await bob.actions("evaluate")]
    assert outcomes[-2:] == ["refused", "success"]


async def test_it_is_put_once_more_and_not_again(pair):
    alice, bob = pair
    forget_exchange(bob, alice)
    exchanges = []

    async def in_vain(peer_id):
        exchanges.append(peer_id)

    alice.exchange_now = in_vain
    before = len(await bob.actions("evaluate"))
    (uncovered,) = (await alice.find()).coverage.not_searched
    assert "No exchange with your facility" in uncovered.reason
    assert exchanges == [bob.peer_id]
    assert len(await bob.actions("evaluate")) == before + 2


async def test_if_the_exchange_fails_the_refusal_says_why(pair):
    alice, bob = pair
    forget_exchange(bob, alice)

    async def breaks_off(peer_id):
        raise Refusal("exchange-incomplete", "Not all has come.")

    alice.exchange_now = breaks_off
    before = len(await bob.actions("evaluate"))
    (uncovered,) = (await alice.find()).coverage.not_searched
    assert "No exchange with your facility" in uncovered.reason
    assert len(await bob.actions("evaluate")) == before + 1


async def test_an_exchange_that_takes_too_long_leaves_time_to_say_so(pair):
    alice, bob = pair
    forget_exchange(bob, alice)

    async def never(peer_id):
        await asyncio.Event().wait()

    alice.exchange_now = never
    refusal = await _refusal(alice.reciprocity.ask(bob.peer_id, *await _question(alice, bob)))
    assert refusal.code == "exchange-stale"


async def test_a_retrieval_exchanges_first(pair):
    alice, bob = pair
    alice.exchange_now, exchanges = forget_exchange(bob, alice)
    assert (await alice.fetch(bob)).state == "complete"
    assert exchanges == [bob.peer_id]


async def test_a_retrieval_that_is_refused_for_want_of_an_exchange_goes_on_by_itself(pair):
    alice, bob = pair
    forget_exchange(bob, alice)
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
    waiting = await _coded(alice, started)
    assert (waiting.state, waiting.row.code) == ("waiting", "exchange-stale")
    bob.frontiers.clear()
    alice.links.connect(bob)
    assert (await alice.retrieve.finished(started.retrieval_id)).state == "complete"


async def test_a_retrieval_that_waits_goes_on_as_the_emergency_that_it_has_become(pair):
    alice, bob = pair
    forget_exchange(bob, alice)
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
    await _coded(alice, started)
    again = await alice.retrieve.retrieve(bob.peer_id, STUDY, emergency(), "bleeding")
    assert again.retrieval_id == started.retrieval_id
    assert (await alice.retrieve.finished(started.retrieval_id)).state == "complete"
    (grant,) = await bob.actions("grant")
    assert grant["actor"]["purpose"] == "BTG"


@pytest.mark.parametrize(
    ("purpose", "reason", "code"),
    [
        ("BTG", "", "reason-needed"),
        ("BTG", "  ", "reason-needed"),
        ("TREAT", "x", "not-an-emergency"),
    ],
)
async def test_emergency_access_and_its_reason_go_together(pair, purpose, reason, code):
    alice, bob = pair
    actor = replace(CLINICIAN, purpose=purpose)
    sent = len(alice.links.sent)
    for asking in (
        alice.search.search(ASK_JANE, actor, reason),
        alice.retrieve.retrieve(bob.peer_id, STUDY, actor, reason),
    ):
        assert (await _refusal(asking)).code == code
    assert len(alice.links.sent) == sent, "nobody was asked"
    assert await alice.alerts.list(open_only=False) == []


async def test_an_alert_is_acknowledged_once_and_stays_on_record(pair):
    alice, _ = pair
    await alice.search.search(ASK_JANE, emergency(), "unconscious")
    (alert,) = await alice.alerts.list(open_only=True)
    done = await alice.alerts.acknowledge(alert["alert"], CLINICIAN)
    again = await alice.alerts.acknowledge(alert["alert"], emergency())
    assert done["acknowledged_by"] == again["acknowledged_by"] == CLINICIAN.name
    assert len(await alice.actions("alert-acknowledged")) == 1
    assert await alice.alerts.list(open_only=True) == []
    await alice.search.search(ASK_JANE, emergency(), "unconscious")
    assert len(await alice.alerts.list(open_only=False)) == 2, "a new one is not hidden by the old"


async def _refusal(asking):
    with pytest.raises(Refusal) as refused:
        await asking
    return refused.value


async def _question(alice, bob):
    points = bytes(EVALUATION_BYTES)
    return Evaluate(b"s" * 16, "someone", "clinician", "TREAT", points, points), 0.2


async def _coded(alice, started):
    for _ in range(2000):
        status = await alice.retrieve.status(started.retrieval_id)
        if status.row.code:
            return status
        await asyncio.sleep(0.01)
    raise AssertionError("the origin has said nothing")
