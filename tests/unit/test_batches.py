"""Journals in their tables: what a run of batches leaves behind, and what erasure leaves behind."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from peer.index import batches, forks, journal, labels, witnesses
from peer.index.frontiers import Frontier, read
from peer.index.journal import Halt
from protocol.entries import Header, hole
from protocol.errors import Malformed, Refusal
from protocol.forks import ForkProof
from protocol.limits import ANSWER_BATCHES, BATCH_ENTRIES
from protocol.reciprocity import Progress
from protocol.records import from_bytes, to_bytes
from protocol.signing import sign
from protocol.statements import Statement
from tests.simulation.memory import Facility, live_entries, publish, withdraw

NOW = 1_800_000_000


@pytest.fixture
def alice():
    return Facility("alice")


@pytest.fixture
def bob():
    return Facility("bob")


# -- our own --------------------------------------------------------------------------------------


def test_entries_beyond_one_batch_become_several_in_one_transaction(alice):
    head = alice.append(*[publish(n, b".") for n in range(BATCH_ENTRIES + 1)])
    assert head.batch == 1
    assert [len(batch.entries) for batch in alice.batches()] == [BATCH_ENTRIES, 1]


def test_no_entries_begin_the_journal_and_renew_its_lease(alice):
    assert alice.head() is None
    assert alice.append(now=NOW).batch == 0
    assert alice.append(now=NOW + 60).fresh_until == NOW + 60 + 72 * 3600


def test_a_halted_journal_signs_nothing(alice):
    alice.append(publish(1))
    journal.halt(alice.index, Halt.BEHIND)
    assert journal.halted(alice.index) is Halt.BEHIND
    with pytest.raises(Refusal) as refused:
        alice.append(publish(3))
    assert refused.value.code == "journal-halted"
    assert refused.value.remedy
    journal.resume(alice.index)
    alice.append(publish(3))


def test_what_is_regained_later_does_not_cover_up_a_fork(alice):
    journal.halt(alice.index, Halt.FORKED)
    journal.halt(alice.index, Halt.REGAINED)
    assert journal.halted(alice.index) is Halt.FORKED


# -- reading --------------------------------------------------------------------------------------


def test_batches_are_loaded_until_the_answer_is_full(alice):
    for number in range(5):
        alice.append(publish(number, bytes(1000)))
    loaded = batches.load(alice.index, alice.peer_id, 1, max_bytes=3500)
    assert [b.entries[0].seq for b in loaded.batches] == [2, 3]
    assert (loaded.through, loaded.more) == (2, True)
    rest = batches.load(alice.index, alice.peer_id, 3, max_bytes=10**6)
    assert (len(rest.batches), rest.through, rest.more) == (2, 4, False)
    least = batches.load(alice.index, alice.peer_id, 0, max_bytes=1)
    assert (len(least.batches), least.more) == (1, True)
    nothing = batches.load(alice.index, alice.peer_id, 9)
    assert (nothing.batches, nothing.more) == ((), False)


def test_an_answer_has_a_number_of_batches_that_may_travel(alice):
    for _ in range(ANSWER_BATCHES + 1):
        alice.append()
    loaded = batches.load(alice.index, alice.peer_id, 0)
    assert (len(loaded.batches), loaded.more) == (ANSWER_BATCHES, True)


def test_a_run_says_what_changed(alice, bob):
    alice.append(publish(1), publish(2))
    alice.append(withdraw(1), publish(3))
    run = bob.follow(alice, alice.batches())
    assert run.head == alice.head()
    assert bob.live(alice).keys() == {publish(2).entry_id, publish(3).entry_id}
    assert run.withdrawn == (withdraw(1).entry_id,)
    assert (run.erased, run.error, run.incomplete_from, run.through) == (True, None, None, 1)


def test_what_comes_before_a_fault_is_kept(alice, bob):
    alice.append(publish(1))
    alice.append(publish(2))
    first, second = alice.batches()
    run = bob.follow(alice, [first, replace(second, entries=())])
    assert run.error.code == "wrong-content"
    assert run.head.batch == 0
    assert bob.live(alice).keys() == {publish(1).entry_id}


def test_what_is_held_already_is_passed_over_on_the_way_to_what_is_new(alice, bob):
    alice.append(publish(1))
    bob.follow(alice, alice.batches())
    alice.append(publish(2))
    run = bob.follow(alice, alice.batches())
    assert run.error is None
    assert run.head == alice.head()
    assert bob.follow(alice, alice.batches()).error.code == "replayed"


def test_a_partner_can_be_asked_for_what_it_holds(alice, bob):
    alice.append(publish(1), publish(2))
    alice.append(withdraw(1))
    bob.follow(alice, alice.batches())
    carol = Facility("carol")
    relayed = batches.load(bob.partners, alice.peer_id, 0).batches
    assert carol.follow(alice, relayed).error is None
    assert carol.live(alice) == alice.live(alice)


# -- labels ---------------------------------------------------------------------------------------


def found(facility, number, origin=None):
    return [e.body for e in labels.find(facility.partners, publish(number).body[:16], origin)]


def test_entries_are_found_by_their_labels_while_they_live(alice, bob):
    carol = Facility("carol")
    for author in (alice, carol):
        author.append(publish(1), publish(2))
        bob.follow(author, author.batches())
    assert found(bob, 1) == [publish(1).body] * 2
    assert found(bob, 1, alice.peer_id) == [publish(1).body]
    alice.append(withdraw(1))
    bob.follow(alice, alice.batches(1))
    assert found(bob, 1, alice.peer_id) == []
    assert found(bob, 1) == [publish(1).body]
    assert found(bob, 3) == []


def test_labels_follow_an_entry_that_is_published_again(alice, bob):
    alice.append(publish(1))
    again = replace(publish(1), body=publish(2).body)
    alice.append(again)
    bob.follow(alice, alice.batches())
    assert found(bob, 1) == []
    assert found(bob, 2) == [again.body]


def test_labels_of_a_filled_hole_are_found(alice, bob):
    alice.append(publish(1))
    (batch,) = alice.batches()
    bob.follow(alice, [replace(batch, entries=(hole(batch.entries[0]),))])
    assert found(bob, 1) == []
    bob.follow(alice, [batch])
    assert found(bob, 1) == [publish(1).body]


def test_a_body_without_readable_labels_does_not_stop_the_journal(alice, bob):
    def unreadable(body):
        msg = "not a digest"
        raise Malformed(msg)

    alice.append(publish(1))
    run = batches.store(bob.partners, alice.peer_id, alice.node_keys, alice.batches(), unreadable)
    assert run.error is None
    assert run.head == alice.head()
    assert found(bob, 1) == []


# -- erasure --------------------------------------------------------------------------------------


def test_no_byte_of_what_was_withdrawn_stays_in_a_large_database(alice, bob):
    """SQLite leaves copies behind where it moves rows; ours must not be moved."""
    order = random.Random(1)
    numbers = list(range(1200))
    for start in range(0, 1200, 60):
        alice.append(
            *[
                publish(n, b"label%011d" % n + order.randbytes(order.randrange(24, 1500)))
                for n in numbers[start : start + 60]
            ]
        )
    bob.catch_up(alice)
    gone = order.sample(numbers, 700)
    lived = bob.live(alice)
    traces = [lived[publish(n).entry_id] for n in gone]
    for start in range(0, 700, 50):
        alice.append(*[withdraw(n) for n in gone[start : start + 50]])
        bob.catch_up(alice)
    for image in (alice.images(), bob.images()):
        for _, salt, body in traces:
            assert salt not in image
            assert body[16:40] not in image
    assert bob.live(alice) == alice.live(alice)
    assert len(bob.live(alice)) == 500


def test_a_removed_partner_leaves_no_body_behind_and_the_others_alone(alice, bob):
    carol = Facility("carol")
    alice.append(publish(1), publish(2))
    carol.append(publish(3))
    bob.follow(alice, alice.batches())
    bob.follow(carol, carol.batches())
    assert batches.purge(bob.partners, alice.peer_id)
    for number in (1, 2):
        assert publish(number).body not in bob.images()
        assert publish(number).salt not in bob.images()
    assert bob.live(alice) == {}
    assert bob.held(alice).head() is None
    assert found(bob, 1) == []
    assert found(bob, 3) == [publish(3).body]
    assert not batches.purge(bob.partners, alice.peer_id)
    assert bob.follow(alice, alice.batches()).error is None, "a new pairing begins anew"
    assert bob.live(alice) == alice.live(alice)


def test_what_is_below_a_raised_floor_is_dropped_and_its_headers_stay(alice, bob):
    alice.append(publish(1), publish(2))
    alice.append(withdraw(1), publish(2))
    bob.catch_up(alice)
    alice.append()
    raised = resign(alice, alice.batches(2)[0], floor=4)
    run = bob.follow(alice, [raised])
    assert run.error is None
    held = bob.held(alice)
    assert [entry.seq for entry in held.entries(1, 9)] == [3, 4], "the batch at the floor is whole"
    assert held.find(publish(1).entry_id) is None, "its withdrawal is forgotten by everyone"
    assert [entry.seq for entry in live_entries(held)] == [4]
    assert all(held.header(batch) for batch in range(3))


def resign(facility, batch, **changes):
    """The batch with another header, validly signed: what a later version of an origin writes."""
    signed = to_bytes(replace(from_bytes(Header, batch.header, 512), **changes))
    return replace(batch, header=signed, signature=sign(facility.node_seed, "header", signed))


# -- witnesses ------------------------------------------------------------------------------------


def hear(facility, partner, last_seq, now, *, in_step=True):
    statement = Statement(b"said at %d" % now, bytes(64))
    witnesses.record(
        facility.partners,
        partner.peer_id,
        statement,
        last_seq=last_seq,
        in_step=in_step,
        now=now,
    )


def test_an_acknowledgement_keeps_the_time_at_which_it_first_came(alice, bob):
    hear(alice, bob, None, NOW)
    hear(alice, bob, 3, NOW + 1)
    hear(alice, bob, 3, NOW + 2)
    hear(alice, bob, 7, NOW + 3)
    assert witnesses.acknowledged(alice.partners, 2) == {bob.peer_id: NOW + 1}
    assert witnesses.acknowledged(alice.partners, 4) == {bob.peer_id: NOW + 3}
    assert witnesses.acknowledged(alice.partners, 8) == {}


def test_the_last_time_without_anything_outstanding_is_remembered(alice, bob):
    hear(alice, bob, None, NOW)
    hear(alice, bob, None, NOW + 9, in_step=False)
    assert witnesses.heard(alice.partners)[bob.peer_id] == witnesses.Heard(NOW + 9, NOW)


def test_one_proof_of_a_fork_is_kept_for_each_origin(alice, bob):
    alice.append(publish(1))
    signed = alice.batches()[0].signed_header
    proof = ForkProof(signed, signed)
    assert forks.record(bob.partners, alice.peer_id, proof, NOW, None)
    assert not forks.record(bob.partners, alice.peer_id, proof, NOW + 1, None)
    assert forks.all_of(bob.partners)[alice.peer_id].proof == proof
    batches.purge(bob.partners, alice.peer_id)
    assert forks.all_of(bob.partners)[alice.peer_id].proof == proof, "evidence stays"


def test_a_frontier_gathers_all_of_it(alice, bob):
    assert read(bob.partners) == {}
    alice.append(publish(1))
    (batch,) = alice.batches()
    bob.follow(alice, [replace(batch, entries=(hole(batch.entries[0]),))])
    hear(bob, alice, None, NOW)
    assert read(bob.partners) == {
        alice.peer_id: Frontier(alice.head(), 0, Progress(completed_at=NOW), forked=False)
    }
