"""A journal that is rewound, or taken back, where a raised floor has dropped what it needs."""

from __future__ import annotations

import pytest

from peer.index import epochs, journal
from peer.index.batches import load, store
from protocol.entries import NO_PREVIOUS
from tests.simulation.memory import LEASE_S, Facility, publish, withdraw
from tests.unit.test_epochs import NOW, begin, epoch_of


@pytest.fixture
def alice():
    return Facility("alice")


@pytest.fixture
def bob():
    return Facility("bob")


def compacted(alice, count=12):
    """A journal whose floor lies beyond its first batches."""
    for number in range(count):
        alice.append(publish(number))
    for number in range(count - 2):
        alice.append(withdraw(number))
    while journal.compact(alice.index, alice, NOW, LEASE_S, 4):
        pass
    assert alice.head().floor > 1
    return alice.head()


def test_what_a_void_floor_has_dropped_is_read_anew(alice, bob):
    """Bob let go of what Alice's root key now calls live."""
    for number in range(12):
        alice.append(publish(number))
    before, image = alice.head(), alice.index.serialize()
    bob.catch_up(alice)
    for number in range(10):
        alice.append(withdraw(number))
    while journal.compact(alice.index, alice, NOW, LEASE_S, 4):
        pass
    bob.catch_up(alice)
    assert bob.held(alice).floor > 1
    alice.index.deserialize(image)
    record = epoch_of(alice, 1, before)
    begin(alice, alice, record)
    alice.append(publish(50))
    begun = begin(bob, alice, record)
    assert (begun.head, begun.joining, bob.held(alice).floor) == (None, False, 1)
    bob.catch_up(alice)
    assert bob.live(alice) == alice.live(alice)
    erased = "SELECT count(*) FROM journal_bodies WHERE id NOT IN (SELECT body FROM"
    erased += " journal_entries WHERE body IS NOT NULL) AND id NOT IN (SELECT body FROM"
    erased += " journal_erased)"
    assert bob.partners.execute(erased).fetchone()[0] == 0, "rows that are never given back"


def test_a_rewind_above_the_floor_keeps_it(alice, bob):
    head = compacted(alice)
    bob.catch_up(alice)
    image = alice.index.serialize()
    alice.append(publish(40))
    bob.catch_up(alice)
    alice.index.deserialize(image)
    record = epoch_of(alice, 1, head)
    begin(alice, alice, record)
    alice.append(publish(41))
    begun = begin(bob, alice, record)
    assert (begun.head, bob.held(alice).floor) == (head, head.floor)
    bob.catch_up(alice)
    assert bob.live(alice) == alice.live(alice)


def test_our_own_journal_comes_back_above_a_floor_and_half_of_it_is_let_go_of(alice, bob):
    image = alice.index.serialize()
    head = compacted(alice)
    bob.catch_up(alice)
    alice.index.deserialize(image)
    loaded = load(bob.partners, alice.peer_id, 0, to_origin=True)
    me, keys = alice.peer_id, alice.node_keys
    store(alice.index, me, keys, loaded.batches[:3], None, loaded.newest)
    assert alice.held(alice).joining()
    record = epochs.following(alice.index, me, [])
    assert (record.first_batch, record.previous) == (0, NO_PREVIOUS)
    run = store(alice.index, me, keys, loaded.batches[3:], None, loaded.newest)
    assert (run.head, run.joining, run.error) == (head, False, None)
    assert alice.live(alice) == bob.live(alice)
    assert epochs.following(alice.index, me, [4]).epoch == 5


def test_nothing_is_lacking_once_half_of_a_journal_was_let_go_of(alice, bob):
    alice.append(publish(99))
    kept, image = alice.head(), alice.index.serialize()
    compacted(alice)
    bob.catch_up(alice)
    alice.index.deserialize(image)
    loaded = load(bob.partners, alice.peer_id, 1, to_origin=True)
    bare = [batch for batch in loaded.batches if not batch.entries][:2]
    store(alice.index, alice.peer_id, alice.node_keys, bare, None, loaded.newest)
    assert alice.held(alice).joining()
    record = epochs.following(alice.index, alice.peer_id, [])
    epochs.drop_bare(alice.held(alice))
    assert alice.head() == kept
    assert (record.first_batch, record.previous) == (1, kept.header_hash)
    assert not alice.held(alice).joining()
    alice.append(publish(100))
    assert len(alice.live(alice)) == 2


def test_an_origin_sees_what_it_has_signed_even_where_the_rest_never_came(alice, bob):
    compacted(alice)
    everything = load(alice.index, alice.peer_id, 0)
    store(
        bob.partners,
        alice.peer_id,
        alice.node_keys,
        everything.batches[:3],
        lambda body: [body[:16]],
        everything.newest,
    )
    assert bob.held(alice).joining()
    assert load(bob.partners, alice.peer_id, 0).batches == ()
    shown = load(bob.partners, alice.peer_id, 0, to_origin=True).batches
    assert [each.header for each in shown] == [each.header for each in everything.batches[:3]]
