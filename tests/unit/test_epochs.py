"""A new epoch of a journal: what a root key says, and what whoever follows the journal makes of
it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from peer.index import epochs, forks, journal, labels
from peer.index.batches import load, store
from protocol.entries import NO_PREVIOUS, Header, SignedBatch
from protocol.epochs import EpochRecord, SignedEpoch, sign_epoch, verify_epoch
from protocol.errors import BadSignature, Forked, Gap, Malformed, Replayed
from protocol.forks import ForkFound, ForkProof
from protocol.frontier import origin_head
from protocol.identifiers import PeerId
from protocol.limits import BATCH_BYTES, EPOCH_RECORD_BYTES
from protocol.nodekeys import only_key
from protocol.records import from_bytes, to_bytes
from tests.simulation.memory import Facility, label, publish, withdraw

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/journal-epochs.json").read_text("utf-8"))
NOW = 1_800_000_000


def root_of(facility):
    return facility.node_seed[::-1]


def epoch_of(facility, number, head, **changes):
    record = EpochRecord(
        version=1,
        origin=facility.peer_id,
        epoch=number,
        first_batch=0 if head is None else head.batch + 1,
        previous=NO_PREVIOUS if head is None else head.header_hash,
        issued_at=NOW,
    )
    return sign_epoch(root_of(facility), replace(record, **changes))


def begin(holder, origin, *signed):
    own = holder.peer_id == origin.peer_id
    tx = holder.index if own else holder.partners
    return epochs.begin(tx, origin.peer_id, signed, labelled=not own)


@pytest.fixture
def alice():
    return Facility("alice")


@pytest.fixture
def bob():
    return Facility("bob")


# -- the record -----------------------------------------------------------------------------------


def test_only_the_root_key_begins_an_epoch(alice, bob):
    signed = epoch_of(alice, 1, None)
    assert verify_epoch(signed, alice.peer_id).epoch == 1
    with pytest.raises(BadSignature):
        verify_epoch(signed, bob.peer_id)
    with pytest.raises(BadSignature):
        sign_epoch(root_of(bob), from_bytes(EpochRecord, signed.record, EPOCH_RECORD_BYTES))
    with pytest.raises(BadSignature):
        begin(bob, alice, SignedEpoch(signed.record, bytes(64)))


def test_a_root_key_that_begins_one_epoch_twice_is_noticed(alice, bob):
    begin(bob, alice, epoch_of(alice, 1, None))
    with pytest.raises(Forked):
        begin(bob, alice, epoch_of(alice, 1, None, issued_at=NOW + 1))


# -- following ------------------------------------------------------------------------------------


def test_an_epoch_is_followed_where_it_begins(alice, bob):
    alice.append(publish(1))
    alice.append(publish(2))
    bob.catch_up(alice)
    signed = epoch_of(alice, 1, alice.head())
    begin(alice, alice, signed)
    head = alice.append(publish(3))
    assert (head.epoch, head.batch, head.last_seq) == (1, 2, 3)

    assert isinstance(bob.follow(alice, alice.batches(2)).error, Gap), "the record is lacking"
    assert not begin(bob, alice, signed).rewound
    bob.catch_up(alice)
    assert bob.live(alice) == alice.live(alice)
    assert alice.append(publish(4)).epoch == 1
    bob.catch_up(alice)


def test_whoever_holds_none_of_it_reads_through_all_epochs(alice, bob):
    alice.append(publish(1))
    begin(alice, alice, epoch_of(alice, 1, alice.head()))
    alice.append(publish(2), withdraw(1))
    begin(alice, alice, epoch_of(alice, 3, alice.head()))
    alice.append(publish(3))
    loaded = load(alice.index, alice.peer_id, 0)
    assert [verify_epoch(each, alice.peer_id).epoch for each in loaded.epochs] == [1, 3]
    begin(bob, alice, *loaded.epochs)
    bob.catch_up(alice)
    assert bob.live(alice) == alice.live(alice)
    assert [
        verify_epoch(each, alice.peer_id).epoch
        for each in load(alice.index, alice.peer_id, 0, epoch=1).epochs
    ] == [3]


def test_what_an_ended_epoch_signed_beyond_it_is_void(alice, bob):
    """Alice loses batch 2, which withdrew 1 and published 3; Bob holds it."""
    alice.append(publish(1))
    alice.append(publish(2))
    old = alice.index.serialize()
    alice.append(withdraw(1), publish(3))
    bob.catch_up(alice)
    lost = alice.batches(2)

    alice.index.deserialize(old)
    signed = epoch_of(alice, 1, alice.head())
    begin(alice, alice, signed)
    alice.append(publish(4))
    begun = begin(bob, alice, signed)
    assert begun.rewound
    assert begun.head == alice.held(alice).head() or begun.head.batch == 1
    assert set(begun.dropped) == {publish(1).entry_id, publish(3).entry_id}
    assert begun.incomplete_from == 0, "the body of 1 is gone here, and live again there"
    run = bob.follow(alice, alice.batches(0))
    assert run.error is None
    assert bob.live(alice) == alice.live(alice)
    assert {each[2] for each in bob.live(alice).values()} == {
        publish(1).body,
        publish(2).body,
        publish(4).body,
    }
    assert publish(3).body not in bob.images()
    assert isinstance(bob.follow(alice, lost).error, Replayed | Gap)
    kept = bob.partners.execute("SELECT epoch, batch FROM journal_superseded").fetchall()
    assert [tuple(row) for row in kept] == [(0, 2)], "the header stays as evidence"


def test_what_is_void_is_not_taken_back_though_somebody_still_holds_it(alice, bob):
    """Bob has not heard of the epoch, and gives back to Alice what it has made void."""
    alice.append(publish(1))
    before = alice.head()
    alice.append(publish(2))
    alice.append(publish(3))
    bob.catch_up(alice)
    lost = load(bob.partners, alice.peer_id, 1, to_origin=True)
    begin(alice, alice, epoch_of(alice, 1, before))
    assert alice.head() == before

    run = store(alice.index, alice.peer_id, alice.node_keys, lost.batches, None)
    assert run.head.batch == 2
    run = epochs.drop_void(alice.index, alice.peer_id, run)
    assert (run.head, run.error, run.erased) == (before, None, True)
    assert epochs.drop_void(alice.index, alice.peer_id, run) is run
    following = epochs.following(alice.index, alice.peer_id, ())
    assert (following.epoch, following.first_batch) == (2, before.batch + 1)
    begin(alice, alice, sign_epoch(root_of(alice), following))
    begin(bob, alice, *epochs.epochs_after(alice.index, alice.peer_id, 0))
    alice.append(publish(4))
    bob.catch_up(alice)
    assert bob.live(alice) == alice.live(alice)


def test_another_history_is_read_anew_from_the_beginning(alice, bob):
    other = Facility("alice")
    other.append(publish(1))
    other.append(publish(2))
    bob.catch_up(other)
    alice.append(publish(5))
    alice.append(publish(6))
    alice.append(publish(7))
    signed = epoch_of(alice, 1, alice.head())
    begin(alice, alice, signed)
    alice.append()
    begun = begin(bob, alice, signed)
    assert begun.head is not None, "a record beyond what is held changes nothing yet"
    run = bob.follow(alice, alice.batches(0))
    assert isinstance(run.error, ForkFound)
    run = epochs.drop_forked(bob.partners, alice.peer_id, run)
    assert (run.head, type(run.error)) == (None, Gap), "asked for anew"
    bob.catch_up(alice)
    assert bob.live(alice) == alice.live(alice)
    assert publish(1).body not in bob.images()


def test_a_record_right_behind_another_history_voids_all_of_it(alice, bob):
    other = Facility("alice")
    other.append(publish(1))
    other.append(publish(2))
    bob.catch_up(other)
    alice.append(publish(5))
    alice.append(publish(6))
    signed = epoch_of(alice, 1, alice.head())
    begin(alice, alice, signed)
    alice.append()
    assert begin(bob, alice, signed).head is None
    bob.catch_up(alice)
    assert bob.live(alice) == alice.live(alice)
    assert publish(1).body not in bob.images()


def test_labels_of_what_is_void_find_nothing_and_those_of_what_stands_again_do(alice, bob):
    alice.append(publish(1))
    old = alice.index.serialize()
    alice.append(withdraw(1), publish(3))
    bob.catch_up(alice)
    alice.index.deserialize(old)
    signed = epoch_of(alice, 1, alice.head())
    begin(alice, alice, signed)
    alice.append(publish(4))
    begin(bob, alice, signed)
    bob.follow(alice, alice.batches(0))

    def found(number):
        return [each.body for each in labels.find(bob.partners, publish(number).body[:16])]

    assert (found(1), found(3), found(4)) == ([publish(1).body], [], [publish(4).body])


def test_a_batch_that_contradicts_its_epochs_record_is_malformed(alice, bob):
    alice.append(publish(1))
    alice.append(publish(2))
    bob.catch_up(alice)
    begin(alice, alice, epoch_of(alice, 1, alice.head()))
    alice.append(publish(3))
    begin(bob, alice, epoch_of(alice, 1, alice.head(), first_batch=9))
    assert isinstance(bob.follow(alice, alice.batches(2)).error, Malformed)


def test_a_fork_ends_with_its_epoch(alice, bob):
    alice.append(publish(1))
    bob.catch_up(alice)
    other = Facility("alice")
    other.append(publish(2))
    proof = ForkProof(alice.batches()[0].signed_header, other.batches()[0].signed_header)
    assert forks.record(bob.partners, alice.peer_id, proof, NOW, None)
    assert alice.peer_id in forks.all_of(bob.partners)
    begin(bob, alice, epoch_of(alice, 1, alice.head()))
    assert alice.peer_id not in forks.all_of(bob.partners)
    assert not forks.record(bob.partners, alice.peer_id, proof, NOW, None), "it is kept"


def test_a_proof_against_an_epoch_that_has_ended_changes_nothing(alice, bob):
    """A partner may tell of it long after."""
    alice.append(publish(1))
    other = Facility("alice")
    other.append(publish(2))
    bob.catch_up(alice)
    begin(alice, alice, epoch_of(alice, 1, alice.head()))
    begin(bob, alice, epoch_of(alice, 1, alice.head()))
    proof = ForkProof(alice.batches()[0].signed_header, other.batches()[0].signed_header)
    assert not forks.record(bob.partners, alice.peer_id, proof, NOW, None)
    assert forks.all_of(bob.partners) == {}
    assert found(bob, 1)


def found(facility, number):
    return bool(labels.find(facility.partners, label(number)))


def test_what_a_fork_had_made_unlisted_is_listed_once_the_epoch_has_come(alice, bob):
    alice.append(publish(1))
    alice.append(publish(2))
    bob.catch_up(alice)
    other = Facility("alice")
    other.append(publish(1))
    other.append(publish(9))
    proof = ForkProof(alice.batches()[1].signed_header, other.batches()[1].signed_header)
    forks.record(bob.partners, alice.peer_id, proof, NOW, None)
    assert (found(bob, 1), found(bob, 2)) == (True, False)
    begin(alice, alice, epoch_of(alice, 1, alice.head()))
    begin(bob, alice, epoch_of(alice, 1, alice.head()))
    assert not found(bob, 2), "not before it is known to be the history that goes on"
    alice.append(publish(3))
    bob.catch_up(alice)
    assert (found(bob, 1), found(bob, 2), found(bob, 3)) == (True, True, True)


def test_our_own_claims_of_an_ended_epoch_are_answered_for(alice):
    alice.append(publish(1))
    old = alice.index.serialize()
    lost = alice.append(publish(2))
    alice.index.deserialize(old)
    claim = origin_head(alice.peer_id, lost)
    assert not journal.holds(alice.index, alice.peer_id, claim)
    begin(alice, alice, epoch_of(alice, 1, alice.head()))
    assert journal.holds(alice.index, alice.peer_id, claim)
    assert journal.begins_epoch(alice.index, alice.peer_id)
    alice.append()
    assert not journal.begins_epoch(alice.index, alice.peer_id)


# -- golden vectors -------------------------------------------------------------------------------


def test_the_record_is_the_very_bytes():
    root = bytes.fromhex(VECTORS["root_seed"])
    for each in VECTORS["epochs"]:
        signed = SignedEpoch(bytes.fromhex(each["record"]), bytes.fromhex(each["signature"]))
        record = verify_epoch(signed, bytes.fromhex(VECTORS["origin"]))
        assert sign_epoch(root, record) == signed
        assert record.epoch == each["epoch"]


def test_a_second_reader_verifies_the_record_and_the_first_batch():
    """Written from the document, without `protocol`."""
    origin = bytes.fromhex(VECTORS["origin"])
    headers = {}
    for each in VECTORS["batches"]:
        header, _, _ = msgpack.unpackb(bytes.fromhex(each["batch"]))
        fields = msgpack.unpackb(header)
        headers[fields[2], fields[3]] = (header, fields)
    for each in VECTORS["epochs"]:
        record = bytes.fromhex(each["record"])
        Ed25519PublicKey.from_public_bytes(origin).verify(
            bytes.fromhex(each["signature"]), b"openpriors/1 journal-epoch\x00" + record
        )
        version, who, epoch, first_batch, previous, _ = msgpack.unpackb(record)
        assert (version, who) == (1, origin)
        _, fields = headers[epoch, first_batch]
        assert fields[7] == previous
        before = max(key for key in headers if key[1] == first_batch - 1)
        assert previous == blake3(b"\x04" + headers[before][0]).digest()


def test_we_follow_the_vectors():
    author, reader = Facility("vectors"), Facility("reader")
    author.peer_id = PeerId(bytes.fromhex(VECTORS["origin"]))
    author.node_keys = only_key(bytes.fromhex(VECTORS["node_key"]))
    batches = [
        from_bytes(SignedBatch, bytes.fromhex(each["batch"]), BATCH_BYTES)
        for each in VECTORS["batches"]
    ]
    signed = [
        SignedEpoch(bytes.fromhex(each["record"]), bytes.fromhex(each["signature"]))
        for each in VECTORS["epochs"]
    ]
    void = [each for each in VECTORS["batches"] if each["void"]]
    ended = [b for b, each in zip(batches, VECTORS["batches"], strict=True) if not each["void"]]
    old = [b for b in batches if from_bytes(Header, b.header, 512).epoch == 0]
    assert reader.follow(author, old).error is None
    assert void, "the old epoch went on"
    assert begin(reader, author, *signed).rewound
    assert reader.follow(author, ended).error is None
    head = reader.held(author).head()
    assert head.header_hash.hex() == VECTORS["head"]
    assert to_bytes(ended[-1]) == bytes.fromhex(VECTORS["batches"][-1]["batch"])
