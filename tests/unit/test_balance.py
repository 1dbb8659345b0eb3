"""Given and received: what one side has given the other has received, and refusals are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.index.frontiers import Frontier
from peer.index.reciprocity import DAY_S, Offered, Period
from protocol.reciprocity import Progress
from tests.facilities import ASK_JANE, CLINICIAN, OFFICER, START, everyone_shares, named
from tests.transfers import hospitals, ready

TODAY = START // DAY_S * DAY_S
MONTH = Period(TODAY - 29 * DAY_S, TODAY + DAY_S)


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as opened:
        yield opened


async def balance(one, other, period=MONTH):
    return (await one.reciprocity.balances([other.peer_id], period))[other.peer_id]


async def test_nothing_yet(pair):
    alice, bob = pair
    found = await balance(alice, bob)
    assert found.given.entries == 0
    assert (found.given.searches, found.given.studies, found.given.bytes) == (0, 0, 0)
    assert (found.received.searches, found.received.studies, found.opened) == (0, 0, 0)
    assert found.offered == Offered(0, 0, 0)
    assert found.given.refused == found.received.refused == {}


async def test_what_one_has_given_the_other_has_received(pair):
    alice, bob = pair
    files = await ready(alice, bob)
    await alice.fetch(bob)
    ours, theirs = await balance(alice, bob), await balance(bob, alice)
    assert ours.received.searches == theirs.given.searches == 1
    assert ours.received.studies == theirs.given.studies == 1
    assert ours.received.bytes == theirs.given.bytes
    assert theirs.given.bytes > sum(map(len, files.values()))
    assert ours.given.studies == theirs.received.studies == 0
    assert theirs.offered == Offered(everyone=1, alone=0, others=0)
    assert (ours.opened, theirs.opened) == (1, 0)
    assert theirs.given.entries >= 2, "a patient and a study"


async def test_a_study_that_is_fetched_again_counts_once(pair):
    alice, bob = pair
    await ready(alice, bob)
    for _ in range(3):
        await alice.fetch(bob)
    ours, theirs = await balance(alice, bob), await balance(bob, alice)
    assert (ours.received.studies, theirs.given.studies) == (1, 1)
    assert ours.received.bytes == theirs.given.bytes


async def test_refusals_are_counted_by_code_on_both_sides(pair):
    alice, bob = pair
    await ready(alice, bob)
    bob.frontiers[alice.peer_id] = Frontier(progress=Progress())
    await alice.find()
    bob.frontiers.clear()
    (directive,) = await bob.consents.list()
    await bob.consents.revoke(directive.directive.directive_id, "", OFFICER)
    await alice.fetch(bob)
    ours, theirs = await balance(alice, bob), await balance(bob, alice)
    assert ours.received.refused == {"exchange-stale": 1, "revoked": 1}
    # The origin counts the question and its repetition.
    assert theirs.given.refused == {"exchange-stale": 2, "revoked": 1}


async def test_an_answer_that_does_not_come_is_no_refusal(pair):
    alice, bob = pair

    async def never(message, partner):
        raise TimeoutError

    bob.links.handlers = dict.fromkeys(bob.links.handlers, never)
    await alice.find()
    alice.links.offline.add(bob.peer_id)
    await alice.find()
    ours = await balance(alice, bob)
    assert (ours.unanswered, ours.received.searches, ours.received.refused) == (1, 0, {})


async def test_emergencies_are_counted(pair):
    alice, bob = pair
    await alice.search.search(ASK_JANE, replace(CLINICIAN, purpose="BTG"), "unconscious")
    assert (await balance(bob, alice)).emergencies == 1


async def test_only_what_lies_in_the_period_counts(pair):
    alice, bob = pair
    await ready(alice, bob)
    await alice.fetch(bob)
    later = Period(TODAY + DAY_S, TODAY + 2 * DAY_S)
    for one, other in ((alice, bob), (bob, alice)):
        found = await balance(one, other, later)
        assert (found.given.searches, found.given.studies) == (0, 0)
        assert (found.received.searches, found.received.studies) == (0, 0)


async def test_what_a_partner_holds_is_taken_from_the_head_that_it_names(pair):
    alice, bob = pair
    await bob.scan()
    await bob.consent()
    before = await balance(bob, alice)
    await everyone_shares(alice, bob)
    after = await balance(bob, alice)
    assert before.given.entries == 0
    assert after.given.entries > 0
    assert (await balance(alice, bob)).given.entries == 0


async def test_an_origin_that_shares_with_one_alone_looks_empty_to_the_others(tmp_path):
    """It shows the same entries to both; who may open them is known to it alone."""
    async with hospitals(tmp_path, "Alice", "Bob", "Carol") as (alice, bob, carol):
        await bob.scan()
        await bob.consent(recipients=named(alice))
        await everyone_shares(alice, bob, carol)
        assert await alice.finds()
        assert not await carol.finds()
        to_alice, to_carol = await balance(bob, alice), await balance(bob, carol)
        assert to_alice.offered == Offered(0, 1, 0)
        assert to_carol.offered == Offered(0, 0, 1)
        assert to_alice.given.entries == to_carol.given.entries > 0
        assert (await balance(alice, bob)).opened == 1
        assert (await balance(carol, bob)).opened == 0
