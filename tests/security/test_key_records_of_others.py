"""Attack: key records that would put other keys in a partner's place, at the open listener.

Anybody can reach it and post a record; only the root key pinned at the pairing is believed.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer import keys as node_keys
from peer.partners.calls import PairingCalls
from protocol.errors import Refusal, UnknownMessage
from protocol.keyrecord import KEY_RECORD_DOMAIN, SignedKeyRecord, sign_record, verify_record
from protocol.messages import NewKeyRecord
from protocol.nodekeys import only_key
from protocol.signing import public_key, sign
from tests.unit.federation.facility import OPERATOR, SETTINGS, Facility, linked, pair, until


@pytest.fixture
async def alice(tmp_path):
    async with Facility.open("alice", tmp_path) as alice:
        yield alice


@pytest.fixture
async def bob(tmp_path):
    async with Facility.open("bob", tmp_path) as bob:
        yield bob


@pytest.fixture
async def eve(tmp_path):
    async with Facility.open("eve", tmp_path) as eve:
        yield eve


async def post(facility, record):
    """Post a key record to a facility's open listener; return the code of its refusal, or ''."""
    url = f"https://127.0.0.1:{facility.pairing_port}"
    try:
        await PairingCalls(10).swap_records(url, facility.peer_id, record)
    except Refusal as refusal:
        return refusal.code
    return ""


def next_record(facility, **changes):
    """A record of the facility that its root has signed, with keys that nobody has seen yet."""
    record = facility.keys.key_record
    changed = replace(record, revision=record.revision + 1, **changes)
    return sign_record(facility.root_seed(), changed)


def unchanged(facility, partner):
    assert facility.knows(partner).record == partner.keys.key_record
    certificate = partner.keys.tls_certificate_der
    assert facility.partners.by_certificate(certificate).peer_id == partner.peer_id


async def test_a_strangers_record_is_not_taken(alice, bob, eve):
    await pair(alice, bob)
    assert await post(alice, eve.keys.record) == "not-a-partner"
    assert alice.knows(eve) is None
    unchanged(alice, bob)


async def test_a_record_in_a_partners_name_by_another_root_is_not_taken(alice, bob, eve):
    await pair(alice, bob)
    data = next_record(bob, tls_certificate=eve.keys.tls_certificate_der).record
    forged = SignedKeyRecord(data, sign(eve.root_seed(), KEY_RECORD_DOMAIN, data))
    assert await post(alice, forged) == "bad-signature"
    unchanged(alice, bob)


async def test_an_older_record_is_not_taken(alice, bob):
    await pair(alice, bob)
    old = bob.keys.record
    await linked(alice, bob)
    await bob.rotate()
    await until(lambda: alice.knows(bob).record.revision == 2, 15)
    url = f"https://127.0.0.1:{alice.pairing_port}"
    answered, _ = await PairingCalls(10).swap_records(url, alice.peer_id, old)
    assert answered == bob.keys.record, "whoever brings it is shown the later one"
    unchanged(alice, bob)


async def test_a_later_record_of_ones_own_by_another_root_retires_nothing(alice, bob):
    data = next_record(alice, seal_public=bob.keys.seal_public).record
    forged = SignedKeyRecord(data, sign(bob.root_seed(), KEY_RECORD_DOMAIN, data))
    assert await post(alice, forged) == "bad-signature"
    assert not alice.keys.are_retired


async def test_a_second_record_of_one_revision_is_not_taken(alice, bob):
    """Bob's root has signed twice for one revision: somebody else has it, or a copy of it."""
    await pair(alice, bob)
    twin = sign_record(
        bob.root_seed(), replace(bob.keys.key_record, federation_url="https://127.0.0.1:1")
    )
    assert await post(alice, twin) == "forked"
    unchanged(alice, bob)


async def test_a_record_that_rewrites_the_past_of_the_node_keys_is_not_taken(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    position = (0, 4)
    await bob.stop()
    bob.keys = node_keys.renew(
        bob.folder / "data", SETTINGS, bob.folder / "root.key", now=1, new_keys_from=position
    )
    await bob.start()
    await until(lambda: alice.knows(bob).record.revision == 2, 30)
    retold = next_record(bob, node_keys=only_key(public_key(bytes(32))))
    assert await post(alice, retold) == "forked"
    unchanged(alice, bob)


async def test_a_record_with_another_partners_certificate_is_not_taken(alice, bob, eve):
    await pair(alice, bob)
    await pair(alice, eve)
    stolen = next_record(eve, tls_certificate=bob.keys.tls_certificate_der)
    assert await post(alice, stolen) == "certificate-taken"
    unchanged(alice, bob)
    unchanged(alice, eve)


async def test_a_removed_partner_does_not_come_back_by_a_record(alice, bob):
    await pair(alice, bob)
    await alice.partners.remove(bob.peer_id, OPERATOR, "contract ended")
    assert await post(alice, next_record(bob)) == "not-a-partner"
    assert alice.knows(bob).state == "removed"
    assert alice.partners.by_certificate(bob.keys.tls_certificate_der) is None


async def test_a_partner_tells_no_other_facilitys_record_over_its_link(alice, bob, eve):
    await pair(alice, bob)
    await pair(alice, eve)
    await linked(alice, bob)
    with pytest.raises(Refusal) as refused:
        await bob.links.request(alice.peer_id, NewKeyRecord(next_record(eve)))
    assert refused.value.code == "wrong-addressee"
    unchanged(alice, eve)


async def test_a_record_of_another_version_is_not_followed(alice, bob):
    await pair(alice, bob)
    later = next_record(bob, version=2)
    with pytest.raises(UnknownMessage):
        verify_record(later)
    assert await post(alice, later) == "unknown-message"
    unchanged(alice, bob)
