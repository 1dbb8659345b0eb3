"""Each node key signs the part of the journal that the root gave it, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.entries import SignedBatch, SignedHeader
from protocol.errors import BadSignature, Forked, Malformed, RemoteProtocolError, Replayed
from protocol.forks import ForkProof, verify_fork
from protocol.identifiers import PeerId
from protocol.journal import Publish, append, follow
from protocol.keyrecord import KeyRecord, SignedKeyRecord, follow_record, sign_record, verify_record
from protocol.limits import BATCH_BYTES, NODE_KEYS
from protocol.messages import Kind, NewKeyRecord, encode
from protocol.nodekeys import NodeKey, check_keys, check_succession, key_at, only_key, succeed
from protocol.records import from_bytes, to_bytes
from protocol.signing import public_key, sign
from tests.simulation.memory import Facility, publish, withdraw

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/key-records.json").read_text("utf-8"))
ROOT, FIRST, SECOND = bytes([1]) * 32, b"first" + bytes(27), b"second" + bytes(26)
K1, K2, K3 = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
THREE = (NodeKey(0, 0, K1), NodeKey(0, 7, K2), NodeKey(1, 5, K3))


@pytest.mark.parametrize(
    ("epoch", "batch", "key"),
    [(0, 0, K1), (0, 6, K1), (0, 7, K2), (0, 900, K2), (1, 0, K2), (1, 4, K2), (1, 5, K3)],
)
def test_the_position_says_which_key(epoch, batch, key):
    assert key_at(THREE, epoch, batch) == key


@pytest.mark.parametrize(
    "keys",
    [
        (),
        (NodeKey(0, 1, K1),),
        (NodeKey(0, 0, K1), NodeKey(0, 0, K2)),
        (NodeKey(0, 0, K1), NodeKey(1, 3, K2), NodeKey(0, 9, K3)),
        (NodeKey(0, 0, K1), NodeKey(0, 4, K1)),
    ],
)
def test_lists_that_no_journal_can_have(keys):
    with pytest.raises(Malformed):
        check_keys(keys)


def test_a_key_that_signed_nothing_leaves_no_trace():
    once = succeed(only_key(K1), NodeKey(0, 4, K2))
    assert once == (NodeKey(0, 0, K1), NodeKey(0, 4, K2))
    assert succeed(once, NodeKey(0, 4, K3)) == (NodeKey(0, 0, K1), NodeKey(0, 4, K3))
    with pytest.raises(Malformed):
        succeed(once, NodeKey(0, 3, K3))


@pytest.mark.parametrize(
    "newer",
    [
        THREE,
        (*THREE, NodeKey(1, 6, bytes(32))),
        (*THREE[:2], NodeKey(1, 5, bytes(32))),
        (*THREE[:2], NodeKey(1, 5, bytes(32)), NodeKey(1, 9, K3)),
    ],
)
def test_a_newer_record_may_end_the_last_key_or_replace_it(newer):
    check_succession(THREE, newer)


@pytest.mark.parametrize(
    "newer",
    [
        THREE[:2],
        only_key(K1),
        (NodeKey(0, 0, K2), *THREE[1:]),
        (THREE[0], NodeKey(0, 6, K2), THREE[2]),
        (*THREE[:2], NodeKey(1, 4, K3)),
    ],
)
def test_a_newer_record_does_not_change_the_past(newer):
    with pytest.raises(Forked):
        check_succession(THREE, newer)


def test_a_record_holds_no_more_keys_than_fit():
    keys = tuple(NodeKey(0, each, bytes([each]) * 32) for each in range(NODE_KEYS + 1))
    full = from_bytes(KeyRecord, bytes.fromhex(VECTORS["records"][0]["record"]), 6144)
    fields = {name: getattr(full, name) for name in KeyRecord.__slots__}
    longest = "https://" + "a" * 240 + ":65535"
    fields |= {"federation_url": longest, "pairing_url": longest, "tls_certificate": bytes(600)}
    largest = sign_record(ROOT, KeyRecord(**fields | {"node_keys": keys[:-1]}))
    assert verify_record(largest).node_keys == keys[:-1]
    with pytest.raises(Malformed):
        verify_record(sign_record(ROOT, KeyRecord(**fields | {"node_keys": keys})))


# -- a journal across a rotation -------------------------------------------------------------------


def test_old_batches_verify_and_new_ones_follow():
    alice, bob = Facility("alice"), Facility("bob")
    alice.append(publish(1))
    alice.append(publish(2))
    alice.rotate(SECOND)
    alice.append(withdraw(1))
    run = bob.follow(alice, alice.batches())
    assert run.error is None
    assert bob.live(alice) == alice.live(alice)


def test_a_reader_with_the_older_record_waits_for_the_newer():
    alice, bob = Facility("alice"), Facility("bob")
    before = alice.node_keys
    alice.append(publish(1))
    alice.rotate(SECOND)
    alice.append(publish(2))
    now, alice.node_keys = alice.node_keys, before
    assert isinstance(bob.follow(alice, alice.batches()).error, BadSignature)
    alice.node_keys = now
    assert bob.follow(alice, alice.batches(1)).error is None
    assert bob.held(alice).head() == alice.head()


def test_a_fork_is_proved_on_either_side_of_a_rotation_and_across_it():
    alice, twin = Facility("alice"), Facility("alice")
    for each in (alice, twin):
        each.append(publish(1))
    alice.append(publish(2))
    twin.append(publish(3))
    for each in (alice, twin):
        each.rotate(SECOND)
        each.append(publish(4))
    ours, theirs = ([batch.signed_header for batch in each.batches()] for each in (alice, twin))
    for first, second, at in (
        (ours[1], theirs[1], (0, 1)),
        (ours[2], theirs[2], (0, 2)),
        (ours[1], theirs[2], (0, 1)),
    ):
        assert verify_fork(ForkProof(first, second), alice.peer_id, alice.node_keys) == at


# -- golden vectors --------------------------------------------------------------------------------


class Empty:
    def find(self, entry_id):
        return None

    def live_below(self, seq):
        return 0

    def live(self):
        return ()

    def bare_through(self):
        return 0

    def header(self, batch):
        return None


def records():
    """A facility's first record, and the one after it took a new node key for batch 1 and on."""
    peer_id = public_key(ROOT)
    keys = only_key(public_key(FIRST))
    after = succeed(keys, NodeKey(0, 1, public_key(SECOND)))
    for revision, node_keys in ((1, keys), (2, after)):
        record = KeyRecord(
            version=1,
            peer_id=peer_id,
            revision=revision,
            facility_name="Hospital A",
            node_keys=node_keys,
            seal_public=bytes([9 + revision]) + bytes(31),
            tls_certificate=b"certificate %d" % revision,
            federation_url="https://a.example:8441",
            pairing_url="https://a.example:8442",
            issued_at=1_800_000_000 + revision,
            renew_by=1_900_000_000 + revision,
        )
        yield sign_record(ROOT, record)


def batches():
    head, made = None, []
    for seed in (FIRST, SECOND):
        entry = Publish(bytes([len(made)]) * 16, bytes(16), b"body")
        advance = append(
            head,
            public_key(ROOT),
            [entry],
            Empty(),
            now=1_800_000_000,
            lease_s=3600,
            sign=lambda header, seed=seed: sign(seed, "header", header),
        )
        head = advance.head
        made.append(advance.batch)
    return made


def frames():
    """The second record as it is told over a link."""
    _, newer = records()
    return {"key_record": encode(NewKeyRecord(newer), Kind.REQUEST, 7).hex()}


def test_the_golden_vectors_are_what_this_side_signs():
    made = [{"record": r.record.hex(), "signature": r.signature.hex()} for r in records()]
    assert made == VECTORS["records"]
    assert [to_bytes(batch).hex() for batch in batches()] == VECTORS["batches"]
    assert frames() == VECTORS["frames"]
    assert VECTORS["root_seed"] == ROOT.hex()
    assert VECTORS["node_seeds"] == [FIRST.hex(), SECOND.hex()]


def test_the_golden_vectors_are_followed():
    held, newer = (
        SignedKeyRecord(*(bytes.fromhex(each[name]) for name in ("record", "signature")))
        for each in VECTORS["records"]
    )
    keys = follow_record(held, newer).node_keys
    origin, head = PeerId(public_key(ROOT)), None
    for text in VECTORS["batches"]:
        batch = from_bytes(SignedBatch, bytes.fromhex(text), BATCH_BYTES)
        head = follow(head, batch, origin, keys, Empty()).head
    assert head.batch == 1


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_what_the_golden_vectors_refuse(case):
    held, newer = (
        SignedKeyRecord(*(bytes.fromhex(case[which][name]) for name in ("record", "signature")))
        for which in ("held", "newer")
    )
    with pytest.raises(RemoteProtocolError) as refused:
        follow_record(held, newer)
    assert refused.value.code == case["code"]


def test_a_second_reader_finds_the_key_by_the_text_alone():
    """Written from docs/protocol/pairing.md, with other libraries."""
    newest = VECTORS["records"][1]
    record = bytes.fromhex(newest["record"])
    root = Ed25519PublicKey.from_public_bytes(bytes.fromhex(VECTORS["root_public"]))
    root.verify(bytes.fromhex(newest["signature"]), b"openpriors/1 key-record\0" + record)
    node_keys = msgpack.unpackb(record)[4]
    for text in VECTORS["batches"]:
        header, signature, _ = msgpack.unpackb(bytes.fromhex(text))
        position = msgpack.unpackb(header)[2:4]
        public = [key for *begins, key in node_keys if begins <= position][-1]
        Ed25519PublicKey.from_public_bytes(public).verify(
            signature, b"openpriors/1 header\0" + header
        )


def refused():
    """Pairs of records of which the second may not replace the first."""
    held, newer = records()

    def pair(name, first, second, error):
        return {"name": name, "held": first, "newer": second, "code": error.code}

    record = from_bytes(KeyRecord, newer.record, 6144)
    fields = {name: getattr(record, name) for name in KeyRecord.__slots__}
    retold = sign_record(ROOT, KeyRecord(**fields | {"node_keys": only_key(K3), "revision": 3}))
    twin = sign_record(ROOT, KeyRecord(**fields | {"facility_name": "Hospital B"}))
    forged = SignedKeyRecord(newer.record, sign(FIRST, "key-record", newer.record))
    return [
        pair("older", newer, held, Replayed),
        pair("same-revision", newer, twin, Forked),
        pair("another-past", newer, retold, Forked),
        pair("another-root", held, forged, BadSignature),
    ]


def test_the_refused_vectors_are_what_they_say():
    def written(signed):
        return {"record": signed.record.hex(), "signature": signed.signature.hex()}

    made = [
        {**case, "held": written(case["held"]), "newer": written(case["newer"])}
        for case in refused()
    ]
    assert made == VECTORS["refused"]


def test_a_forged_header_names_no_key_of_its_own():
    """A header that claims an old position is judged by the old key."""
    alice = Facility("alice")
    alice.append(publish(1))
    alice.rotate(SECOND)
    signed = alice.batches()[0].signed_header
    again = SignedHeader(signed.header, sign(SECOND, "header", signed.header))
    with pytest.raises(BadSignature):
        verify_fork(ForkProof(signed, again), alice.peer_id, alice.node_keys)
