"""A facility with new keys is followed by every partner, however long it was away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer import keys as node_keys
from peer.audit import Audit
from peer.errors import Conflict
from peer.index import batches
from protocol.entries import HEADER_DOMAIN
from protocol.errors import BadSignature, Refusal
from protocol.journal import append
from protocol.keyrecord import KEY_RECORD_DOMAIN, SignedKeyRecord, sign_record
from protocol.nodekeys import key_at
from protocol.signing import sign
from tests.simulation.memory import labels_of, publish, withdraw
from tests.unit.federation.facility import NOW, OPERATOR, SETTINGS, linked, pair, until
from tests.unit.federation.node import Node, meet_again


@pytest.fixture
async def alice(tmp_path):
    async with Node.open("alice", tmp_path) as alice:
        yield alice


@pytest.fixture
async def bob(tmp_path):
    async with Node.open("bob", tmp_path) as bob:
        yield bob


async def test_a_connected_partner_is_told_over_the_link(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.follows(alice)
    before = alice.keys.tls_certificate_der
    await bob.pairing.stop()  # There is no other way to learn it than the link.
    await alice.pairing.stop()
    await alice.rotate()
    assert alice.keys.tls_certificate_der != before
    await alice.publish(publish(2))
    await meet_again(alice, bob)
    assert bob.knows(alice).record.revision == 2
    assert alice.knows(bob).holds == 2
    assert bob.partners.by_certificate(before) is None


async def test_the_journal_changes_hands_between_two_batches(alice, bob):
    await pair(alice, bob)
    await alice.publish(publish(2))
    old, head = alice.keys.node_public, await alice.head()
    await alice.rotate()
    await alice.publish(withdraw(1))
    keys = alice.keys.node_keys
    assert key_at(keys, 0, head.batch) == old
    assert key_at(keys, 0, head.batch + 1) == alice.keys.node_public != old
    await meet_again(alice, bob)


async def test_a_partner_that_was_down_follows_when_it_is_back(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.stop()
    await alice.rotate()
    await alice.publish(publish(2))
    await bob.start()
    await meet_again(alice, bob)


async def test_a_partner_that_missed_two_rotations_follows(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.stop()
    for number in (2, 3):
        await alice.rotate()
        await alice.publish(publish(number))
        for each in (alice, bob):
            each.clock.advance(90 * 24 * 3600)
    await bob.start()
    await meet_again(alice, bob)
    assert bob.knows(alice).record.revision == 3
    assert len(alice.keys.node_keys) == 3


async def test_two_that_rotated_apart_meet_again(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await alice.rotate_while_stopped()
    await bob.rotate_while_stopped()
    await alice.start()
    await bob.start()
    await alice.publish(publish(2))
    await bob.publish(publish(3))
    await meet_again(alice, bob)
    assert alice.knows(bob).record.revision == bob.knows(alice).record.revision == 2


async def test_a_node_that_only_dials_out_brings_its_record_itself(alice, tmp_path):
    async with Node.open("carol", tmp_path, reachable=False) as carol:
        await pair(alice, carol)
        await linked(alice, carol)
        await carol.rotate_while_stopped()
        await carol.start()
        await carol.publish(publish(2))
        await meet_again(alice, carol)


async def test_the_partner_of_a_node_that_only_dials_out_rotates(alice, tmp_path):
    async with Node.open("carol", tmp_path, reachable=False) as carol:
        await pair(alice, carol)
        await linked(alice, carol)
        await alice.rotate_while_stopped()
        await alice.start()
        await meet_again(alice, carol)


async def test_a_new_address_is_told_without_new_keys(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await alice.rotate(new_keys=False)
    await until(lambda: bob.knows(alice).record.revision == 2, 15)
    await until(lambda: alice.knows(bob).holds == 2, 15)
    assert len(alice.keys.node_keys) == 1


async def test_who_was_not_told_of_an_address_is_told_at_the_next_hello(alice, bob):
    """The certificate is the same, so only the hello shows that Bob has an older record."""
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.stop()
    await alice.stop()
    alice.keys = node_keys.renew(
        alice.folder / "data",
        SETTINGS,
        alice.folder / "root.key",
        now=NOW,
        facility_name="Alice's new name",
    )
    await alice.start()
    await bob.start()
    await until(lambda: bob.knows(alice).name == "Alice's new name", 15)
    await until(lambda: alice.knows(bob).holds == 2, 15)


async def test_what_is_published_between_draft_and_signature_makes_it_void(alice):
    record = await alice.rotation.begin(new_keys=True)
    await alice.publish(publish(2))
    signed = sign_record(alice.root_seed(), record)
    before = alice.keys.node_seed
    with pytest.raises(Refusal, match="published"):
        await alice.rotation.finish(signed, OPERATOR)
    assert alice.keys.node_seed == before
    assert node_keys.load(alice.folder / "data", SETTINGS).node_seed == before
    await alice.rotate()
    assert alice.keys.node_seed != before


async def test_no_new_keys_while_it_is_not_known_where_our_journal_ends(alice):
    """Partners may hold batches beyond it, which the old key has signed."""
    alice.may_write = False
    with pytest.raises(Refusal, match="how far"):
        await alice.rotation.begin(new_keys=True)
    await alice.rotation.begin(new_keys=False)
    alice.may_write = True
    drafted = await alice.rotation.begin(new_keys=True)
    alice.may_write = False
    with pytest.raises(Refusal, match="how far"):
        await alice.rotation.finish(sign_record(alice.root_seed(), drafted), OPERATOR)


async def test_another_root_key_changes_nothing(alice, bob):
    record = await alice.rotation.begin(new_keys=True)
    data = sign_record(alice.root_seed(), record).record
    forged = SignedKeyRecord(data, sign(bob.root_seed(), KEY_RECORD_DOMAIN, data))
    with pytest.raises(BadSignature):
        await alice.rotation.finish(forged, OPERATOR)
    assert alice.keys.key_record.revision == 1


async def test_another_record_than_the_drafted_one_is_not_installed(alice):
    first = await alice.rotation.begin(new_keys=True)
    await alice.rotation.begin(new_keys=True)
    with pytest.raises(Conflict):
        await alice.rotation.finish(sign_record(alice.root_seed(), first), OPERATOR)
    assert alice.keys.key_record.revision == 1


async def test_a_rotation_is_on_record_even_if_a_crash_came_in_between(alice):
    audit = await Audit.open(alice.db, alice.clock, alice.keys.audit_key)

    async def recorded():
        lines = [line async for line in audit.export(None, None)]
        return [line for line in lines if '"action":"keys"' in line.replace(": ", ":")]

    await alice.rotation.put_on_record()
    await alice.rotate()
    assert len(await recorded()) == 1
    await alice.rotate_while_stopped()  # The file is in place, and the index knows nothing of it.
    await alice.start()
    await alice.rotation.put_on_record()
    await alice.rotation.put_on_record()
    assert len(await recorded()) == 2


async def test_what_a_thief_of_the_old_key_had_signed_is_forgotten(alice, bob):
    """Bob has followed a thief's batch; the record of Alice's rotation makes it void."""
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.follows(alice)

    def forge(tx):
        held = batches.Held(tx, alice.peer_id)
        return append(
            held.head(),
            alice.peer_id,
            [withdraw(1)],
            held,
            now=NOW,
            lease_s=3600,
            sign=lambda header: sign(alice.keys.node_seed, HEADER_DOMAIN, header),
        ).batch

    forged = await alice.db.read(forge)
    keys = bob.knows(alice).record.node_keys
    run = await bob.partners_db.write(
        lambda tx: batches.store(tx, alice.peer_id, keys, [forged], labels_of)
    )
    assert run.withdrawn, "until then Bob cannot know better"
    await alice.rotate()
    await alice.publish(publish(5))
    await meet_again(alice, bob)

    def bodies(tx):
        return [entry.payload for entry in batches.Held(tx, alice.peer_id).entries(1, 2)]

    found = await bob.partners_db.read(bodies)
    assert found == [publish(1).body, publish(5).body], "what the thief withdrew is back"


async def test_noting_what_a_partner_holds_brings_no_older_record_back(alice, bob, monkeypatch):
    """Bob's newer record is followed while Alice is writing down what Bob holds."""
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.stop()
    record = sign_record(
        bob.root_seed(), replace(bob.keys.key_record, revision=2, facility_name="Bob's new name")
    )
    write = alice.db.write

    async def slow(work):
        monkeypatch.setattr(alice.db, "write", write)
        result = await write(work)
        await alice.partners.accept_record(record)
        return result

    monkeypatch.setattr(alice.db, "write", slow)
    await alice.partners.note_held(bob.peer_id, 7)
    assert alice.knows(bob).name == "Bob's new name"
    assert alice.knows(bob).holds == 7
    await bob.start()
