"""A facility shows one partner another journal than the next; the two meet, and compare."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from peer.index import batches, forks, labels
from protocol.comparison import listed_as
from protocol.entries import Header
from protocol.forks import verify_fork
from protocol.messages import Fork, Have, HeldHeader, Origins, Refused
from protocol.records import from_bytes
from tests.simulation.memory import Facility, labels_of, publish
from tests.unit.test_gossip import NOW, acquainted, running, until

COMMON = 3
"""Batches that Mallory shows to everyone before she tells two stories."""


def mallory(story, length):
    facility = Facility("mallory")
    for number in range(COMMON):
        facility.append(publish(number), now=NOW)
    for number in range(length):
        facility.append(publish(1000 * story + number), now=NOW)
    return facility


async def show(node, facility):
    """Let `node` list Mallory and follow what `facility` says in her name."""
    record = SimpleNamespace(node_keys=facility.node_keys)
    node.book[facility.peer_id] = SimpleNamespace(
        peer_id=facility.peer_id, record=record, since=NOW
    )
    shown = facility.batches()
    await node.partners_db.write(
        lambda tx: batches.store(tx, facility.peer_id, facility.node_keys, shown, labels_of)
    )


def refusals(node):
    return [message for message in node.links.told if isinstance(message, Refused)]


async def proof_at(node, origin):
    return (await node.gossip.forks()).get(origin)


async def found(node, number):
    label = publish(number).body[:16]
    return await node.partners_db.read(lambda tx: labels.find(tx, label))


@asynccontextmanager
async def town(folder, lengths=(25, 18)):
    """Alice and Bob are told different stories, Carol the same as Bob; Dave knows no Mallory."""
    one, two = (mallory(story, length) for story, length in enumerate(lengths, 1))
    async with acquainted(folder, "alice", "bob", "carol", "david") as nodes:
        alice, bob, carol, dave = nodes
        await show(alice, one)
        await show(bob, two)
        await show(carol, two)
        for node in (alice, bob, carol):
            await dave.publish()
            await node.publish()
        async with running(*nodes):
            yield one, two, nodes


@pytest.mark.parametrize("lengths", [(25, 18), (1, 1), (40, 1), (1, 40)])
async def test_two_partners_find_the_first_batch_that_differs(tmp_path, lengths):
    async with town(tmp_path, lengths) as (one, _, (alice, bob, carol, dave)):
        for node in (alice, carol, dave):
            bob.links.connect(node)

        async def known_to_all():
            rows = [await proof_at(node, one.peer_id) for node in (alice, bob, carol)]
            return all(row and row.batch == COMMON for row in rows)

        await until(known_to_all)
        for node in (alice, bob, carol):
            row = await proof_at(node, one.peer_id)
            assert verify_fork(row.proof, one.peer_id, one.node_keys) == (0, COMMON)
            assert node.gossip.coverage()[one.peer_id].forked
            assert len(await found(node, COMMON - 1)) == 1, "what is common stays listed"
        assert await found(alice, 1000) == []
        assert await found(carol, 2000) == []
        assert await proof_at(dave, one.peer_id) is None
        told = [type(m) for m in bob.links.told if isinstance(m, Fork)]
        assert told, "the proof is passed on"


async def test_who_does_not_list_a_facility_hears_nothing_of_it(tmp_path):
    async with town(tmp_path) as (one, _, (alice, bob, carol, dave)):
        bob.links.connect(alice)

        async def known():
            return await proof_at(bob, one.peer_id)

        await until(known)
        dave.links.connect(bob)
        name = listed_as(bob.peer_id, dave.peer_id, one.peer_id)

        def names():
            return {n for m in bob.links.told if isinstance(m, Origins) for n in m.names}

        await until(lambda: name in names())
        await until(lambda: any(isinstance(m, Have) for m in dave.links.told))
        assert one.peer_id[:16] not in names(), "named to who would know it, and to nobody else"
        assert dave.gossip.coverage().keys() == {alice.peer_id, bob.peer_id, carol.peer_id}
        assert await dave.gossip.forks() == {}


async def test_the_proof_reaches_a_partner_that_comes_later(tmp_path):
    async with town(tmp_path) as (one, _, (alice, bob, carol, _)):
        alice.links.connect(bob)

        async def known():
            row = await proof_at(bob, one.peer_id)
            return row and row.batch == COMMON

        await until(known)
        alice.links.cut(bob)
        carol.links.connect(bob)

        async def known_to_carol():
            row = await proof_at(carol, one.peer_id)
            return row and row.batch == COMMON

        await until(known_to_carol)
        row = await proof_at(carol, one.peer_id)
        assert row.told_by == bob.peer_id


async def test_a_forged_header_accuses_nobody(tmp_path):
    """Bob sends Alice headers and proofs that Mallory never signed."""
    async with town(tmp_path, (5, 5)) as (one, two, (alice, bob, _, _)):
        header = one.batches()[0].signed_header
        forged = type(header)(header.header, bytes(64))
        alice.links.connect(bob)
        for message in (
            Fork(one.peer_id, header, forged),
            Fork(one.peer_id, header, header),
            Fork(one.peer_id, header, one.batches()[1].signed_header),
        ):
            refused = len(refusals(alice))
            await alice.links.handlers[Fork](message, alice.book[bob.peer_id])
            await until(lambda before=refused: len(refusals(alice)) > before)
        unasked = HeldHeader(one.peer_id, forged)
        await alice.links.handlers[HeldHeader](unasked, alice.book[bob.peer_id])
        alice.links.cut(bob)  # A comparison that the forged header met begins again.
        alice.links.connect(bob)

        async def known():
            return await proof_at(alice, one.peer_id)

        await until(known)
        row = await proof_at(alice, one.peer_id)
        both = {row.proof.first.header, row.proof.second.header}
        signed = {b.header for b in (*one.batches(), *two.batches())}
        assert both <= signed, "the true one is found all the same"
        assert {
            ("fault", bob.peer_id, "bad-signature"),
            ("fault", bob.peer_id, "malformed"),
        } <= set(alice.seen)


def test_an_early_header_is_kept_until_it_can_be_compared():
    """Alice hears the end of one story while she follows the other."""
    one, two = mallory(1, 4), mallory(2, 4)
    alice = Facility("alice")
    early = two.batches()[-1]
    run = alice.follow(one, [early])
    assert run.error.code == "gap"
    run = alice.follow(one, one.batches())
    assert run.error.code == "forked"
    assert {run.error.proof.first, run.error.proof.second} == {
        one.batches()[-1].signed_header,
        early.signed_header,
    }
    assert verify_fork(run.error.proof, one.peer_id, one.node_keys) == (0, COMMON + 3)


def test_two_early_headers_for_one_place_are_a_fork_at_once():
    one, two = mallory(1, 4), mallory(2, 4)
    alice = Facility("alice")
    assert alice.follow(one, [one.batches()[-1]]).error.code == "gap"
    assert alice.follow(one, [one.batches()[-1]]).error.code == "gap"
    assert alice.follow(one, [two.batches()[-1]]).error.code == "forked"


def test_early_headers_are_bounded_and_leave_with_their_place():
    from peer.index.orphans import ORPHANS

    one = mallory(1, ORPHANS + 20)
    alice = Facility("alice")
    shown = one.batches()
    for batch in shown[5:]:
        alice.follow(one, [batch])
    count = "SELECT count(*) FROM orphan_headers"
    assert alice.partners.execute(count).fetchone()[0] == ORPHANS
    assert alice.follow(one, shown).error is None
    assert alice.partners.execute(count).fetchone()[0] == 0


def test_a_worse_proof_never_replaces_a_better_one():
    one, two = mallory(1, 4), mallory(2, 4)
    alice = Facility("alice")
    alice.follow(one, one.batches())
    pairs = [
        forks.ForkProof(a.signed_header, b.signed_header)
        for a, b in zip(one.batches(), two.batches(), strict=True)
    ]
    tx, peer_id = alice.partners, one.peer_id
    assert forks.record(tx, peer_id, pairs[COMMON + 2], NOW, None)
    assert forks.record(tx, peer_id, pairs[COMMON], NOW, None)
    assert not forks.record(tx, peer_id, pairs[COMMON + 1], NOW, None)
    assert forks.all_of(tx)[peer_id].batch == COMMON
    last = from_bytes(Header, one.batches()[COMMON - 1].header, 512).last_seq
    row = tx.execute("SELECT common_seq FROM journals").fetchone()
    assert row["common_seq"] == last
