"""A facility signs two histories and shows both to one partner; anybody can convict it."""

from __future__ import annotations

import json

import msgpack
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from peer.gossip.evidence import evidence
from peer.index import forks, labels
from peer.index.frontiers import read
from peer.web.api.bodies import answer
from protocol.events import Freeze, HeldJournal, Received, Refuse, Store, Stored
from protocol.exchange import Exchange
from protocol.keyrecord import KeyRecord, sign_record
from protocol.messages import Batches
from tests.simulation.memory import Facility, publish, withdraw

NOW = 1_800_000_000


def two_stories():
    """One journal up to batch 1, two from batch 2 on."""
    stories = Facility("mallory"), Facility("mallory")
    for story in stories:
        story.append(publish(1), publish(2))
        story.append(publish(3))
    stories[0].append(publish(4), withdraw(1))
    stories[0].append(publish(5))
    stories[1].append(publish(6))
    stories[1].append(publish(7))
    return stories


def convicted():
    """Alice follows one story and is shown the other; return her, and the proof."""
    one, other = two_stories()
    alice = Facility("alice")
    alice.follow(one, one.batches())
    run = alice.follow(one, other.batches(2))
    assert run.error.code == "forked"
    proof = run.error.proof
    assert forks.record(alice.partners, one.peer_id, proof, NOW, None)
    return alice, one, proof


def listed(facility, number):
    return [e.body for e in labels.find(facility.partners, publish(number).body[:16])]


def test_nothing_beyond_the_last_common_batch_is_listed():
    alice, one, _ = convicted()
    assert listed(alice, 2)
    assert listed(alice, 3)
    assert listed(alice, 4) == listed(alice, 5) == [], "one history's, and not the other's"
    assert listed(alice, 1) == [], "what either has withdrawn stays withdrawn"
    assert publish(1).body not in alice.images()
    assert read(alice.partners)[one.peer_id].forked


def test_the_origin_is_followed_no_further():
    alice, one, proof = convicted()
    held = alice.held(one)
    exchange = Exchange(
        alice.peer_id,
        one.peer_id,
        HeldJournal(None, alice.node_keys),
        HeldJournal(held.head(), one.node_keys, forked=True),
        lambda _: bytes(64),
    )
    more = Batches(one.peer_id, one.batches(), more=False)
    assert exchange.handle(Received(more), NOW) == []
    fresh = Exchange(
        alice.peer_id,
        one.peer_id,
        HeldJournal(None, alice.node_keys),
        HeldJournal(held.head(), one.node_keys),
        lambda _: bytes(64),
    )
    (store,) = fresh.handle(Received(more), NOW)
    assert isinstance(store, Store)
    from protocol.forks import ForkFound

    failed = Stored(one.peer_id, held.head(), 3, more=False, error=ForkFound(proof))
    effects = fresh.handle(failed, NOW)
    assert Freeze(one.peer_id, proof) in effects
    assert any(isinstance(each, Refuse) and each.error.code == "forked" for each in effects)
    assert fresh.handle(Received(more), NOW) == []


def test_the_evidence_convicts_without_our_code():
    """Everything below is written from docs/protocol, with other libraries."""
    alice, one, _ = convicted()
    root = one.name.encode().ljust(32, b".")[::-1]
    record = KeyRecord(
        version=1,
        peer_id=one.peer_id,
        revision=1,
        facility_name="Mallory",
        node_keys=one.node_keys,
        seal_public=_an_exchange_key(),
        tls_certificate=b"certificate",
        federation_url="",
        pairing_url="",
        issued_at=NOW,
        renew_by=NOW + 86_400,
    )
    row = forks.all_of(alice.partners)[one.peer_id]
    said = evidence(row, sign_record(root, record))
    exported = json.loads(answer(said).text)

    def signed_by(key, domain, data, signature):
        Ed25519PublicKey.from_public_bytes(key).verify(
            signature, b"openpriors/1 " + domain + b"\0" + data
        )

    origin = bytes.fromhex(exported["origin"])
    data, signature = (bytes.fromhex(exported["key_record"][n]) for n in ("record", "signature"))
    signed_by(origin, b"key-record", data, signature)
    fields = msgpack.unpackb(data)
    assert fields[1] == origin
    ((_, _, node_key),) = fields[4]
    headers = []
    for which in ("first", "second"):
        signed, by = (bytes.fromhex(exported[which][n]) for n in ("header", "signature"))
        signed_by(node_key, b"header", signed, by)
        headers.append(msgpack.unpackb(signed))
    first, second = headers
    assert first[1] == second[1] == origin
    assert first[2] == second[2] == exported["epoch"]
    hashed = blake3(b"\x04" + bytes.fromhex(exported["first"]["header"])).digest()
    same = first[3] == second[3] and exported["first"]["header"] != exported["second"]["header"]
    unlinked = second[3] == first[3] + 1 and second[7] != hashed
    assert same or unlinked
    assert exported["batch"] == first[3] == 2


def _an_exchange_key():
    from nacl.public import PrivateKey

    return bytes(PrivateKey(b"k" * 32).public_key)
