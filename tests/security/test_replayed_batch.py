"""Attack: a validly signed batch of the past is sent again, to bring back what was withdrawn.

Against a node over mutual TLS, and then rule by rule in memory.
"""

from __future__ import annotations

import pytest

from protocol.entries import Header
from protocol.events import HeldJournal, Received, Refuse, Store, Stored
from protocol.exchange import Exchange
from protocol.frontier import is_fresh
from protocol.journal import follow
from protocol.messages import Batches
from protocol.records import from_bytes
from tests.simulation.memory import LEASE_S, Facility, publish, withdraw
from tests.whole_nodes import until

NOW = 1_800_000_000


async def test_a_node_answers_a_replay_with_a_refusal_and_changes_nothing(scene):
    recorded = list(scene.history.batches)
    async with scene.link() as mallory:
        await mallory.send(*recorded)
        assert await mallory.refusal() == "replayed"
        assert await scene.bob.finds() == scene.all_found, "a replay alone takes nothing away"

        await mallory.send(scene.withdraw_all())
        await until(lambda: scene.held.live_count == 0)
        held = scene.held
        for number, batch in enumerate(recorded, start=1):
            await mallory.send(batch)
            assert await mallory.refusal(number) == "replayed"
        assert scene.held == held
        assert await scene.bodies() == []
        assert await scene.bob.finds() == scene.alices
    assert await scene.bob.faults(scene.mallory) == ["replayed"], "once an hour is enough to see it"


@pytest.fixture
def alice():
    return Facility("alice")


@pytest.fixture
def bob():
    return Facility("bob")


def receive(reader, author, batches):
    """Send batches over a link and return the codes of the refusals they meet."""
    held = reader.held(author)
    exchange = Exchange(
        reader.peer_id,
        author.peer_id,
        HeldJournal(reader.head(), reader.node_keys),
        HeldJournal(held.head(), author.node_keys, held.incomplete_from()),
        lambda _: bytes(64),
    )
    codes = []
    for effect in exchange.handle(Received(Batches(author.peer_id, batches, more=False)), NOW):
        assert isinstance(effect, Store)
        run = reader.follow(author, effect.batches)
        outcome = Stored(
            author.peer_id, run.head, run.through, False, run.incomplete_from, run.error
        )
        codes += [e.error.code for e in exchange.handle(outcome, NOW) if isinstance(e, Refuse)]
    return codes


def test_a_replayed_publication_does_not_bring_back_what_was_withdrawn(alice, bob):
    alice.append(publish(1))
    alice.append(withdraw(1))
    old = Facility("alice")
    old.append(publish(1))
    recorded = old.batches()
    assert recorded[0].header == alice.batches()[0].header, "Eve has recorded the true batch"
    bob.follow(alice, alice.batches())
    before = bob.images()

    assert receive(bob, alice, recorded) == ["replayed"]
    assert bob.live(alice) == {}
    assert bob.images() == before, "not a byte has changed"
    assert publish(1).body not in bob.images()


def test_a_replayed_renewal_does_not_lengthen_a_lease(alice, bob):
    alice.append(publish(1), now=NOW)
    for hours in (6, 12):
        alice.append(now=NOW + hours * 3600)
    bob.follow(alice, alice.batches())
    assert receive(bob, alice, alice.batches(1)[:1]) == ["replayed"]
    head = bob.held(alice).head()
    assert head.batch == 2
    assert not is_fresh(head, NOW + 12 * 3600 + LEASE_S)


def test_an_old_batch_is_not_taken_for_the_next_one(alice, bob):
    """Its content fits: nothing was live before it and nothing is now. Its position does not."""
    alice.append()
    alice.append(publish(1), withdraw(1))
    bob.follow(alice, alice.batches())
    for batch in alice.batches():
        header = from_bytes(Header, batch.header, 512)
        assert header.live_count == bob.held(alice).head().live_count
        assert receive(bob, alice, (batch,)) == ["replayed"]


def test_batches_in_another_order_are_refused(alice, bob):
    for number in range(3):
        alice.append(publish(number))
    first, second, third = alice.batches()
    assert receive(bob, alice, (second, first, third)) == []
    assert bob.held(alice).head() is None, "a gap is asked for, and nothing of it is kept"
    assert receive(bob, alice, (first, third)) == []
    assert bob.held(alice).head().batch == 0


def test_a_batch_for_one_journal_does_not_enter_another(alice, bob):
    eve = Facility("eve")
    alice.append(publish(1))
    assert receive(bob, eve, alice.batches()) == ["bad-signature"]
    assert bob.held(eve).head() is None


def test_the_verifier_itself_names_a_replay(alice):
    from protocol.errors import Replayed

    alice.append(publish(1))
    held = alice.held(alice)
    with pytest.raises(Replayed):
        follow(held.head(), alice.batches()[0], alice.peer_id, alice.node_keys, held)
