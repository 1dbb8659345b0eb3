"""Attack: a neighbour, or a thief of the disk, alters what an origin has signed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.entries import Entry, EntryKind, Header, hole
from protocol.records import from_bytes, to_bytes
from protocol.signing import sign
from tests.simulation.memory import Facility, publish, withdraw


@pytest.fixture
def alice():
    facility = Facility("alice")
    facility.append(publish(1), publish(2), publish(3))
    return facility


@pytest.fixture
def bob():
    return Facility("bob")


def refused(bob, alice, batch):
    run = bob.follow(alice, [batch])
    assert run.head is None, "nothing of an altered batch may be kept"
    assert bob.live(alice) == {}
    return run.error.code


@pytest.mark.parametrize(
    "change",
    [
        {"payload": b"another body of the same id" + b"." * 24},
        {"salt": b"another salt...."},
        {"entry_id": b"another id......"},
        {"seq": 9},
        {"kind": EntryKind.WITHDRAWAL, "salt": b"", "payload": b""},
        {"kind": EntryKind.HOLE, "salt": b"", "payload": bytes(32)},
    ],
    ids=["body", "salt", "id", "seq", "made a withdrawal", "made a hole"],
)
def test_an_altered_entry_is_refused(alice, bob, change):
    (batch,) = alice.batches()
    altered = (replace(batch.entries[0], **change), *batch.entries[1:])
    assert refused(bob, alice, replace(batch, entries=altered)) == "wrong-content"


@pytest.mark.parametrize(
    "pick", [(1, 0, 2), (0, 1), (0, 1, 2, 2), ()], ids=["swapped", "lost", "doubled", "emptied"]
)
def test_entries_that_were_moved_lost_or_doubled_are_refused(alice, bob, pick):
    (batch,) = alice.batches()
    entries = tuple(batch.entries[which] for which in pick)
    assert refused(bob, alice, replace(batch, entries=entries)) == "wrong-content"


def test_renumbered_entries_are_refused(alice, bob):
    (batch,) = alice.batches()
    one, two, three = batch.entries
    swapped = (replace(two, seq=1), replace(one, seq=2), three)
    assert refused(bob, alice, replace(batch, entries=swapped)) == "wrong-content"


def test_an_entry_that_was_added_is_refused_even_with_a_header_to_match(alice, bob):
    (batch,) = alice.batches()
    added = Entry(4, bytes(16), EntryKind.PUBLISHED, bytes(16), b"planted")
    header = replace(from_bytes(Header, batch.header, 512), last_seq=4)
    eve = sign(b"eve".ljust(32, b"."), "header", to_bytes(header))
    planted = replace(
        batch, header=to_bytes(header), signature=eve, entries=(*batch.entries, added)
    )
    assert refused(bob, alice, planted) == "bad-signature"


def test_an_unsigned_header_is_refused(alice, bob):
    (batch,) = alice.batches()
    assert refused(bob, alice, replace(batch, signature=bytes(64))) == "bad-signature"


def test_hiding_entries_as_holes_leaves_the_journal_incomplete(alice, bob):
    """A hole verifies, but without a signed withdrawal it is asked for until it is filled."""
    (batch,) = alice.batches()
    run = bob.follow(alice, [replace(batch, entries=tuple(map(hole, batch.entries)))])
    assert run.incomplete_from == 0
    assert bob.live(alice) == {}
    forged = replace(batch.entries[0], payload=b"forged")
    run = bob.follow(alice, [replace(batch, entries=(forged, *batch.entries[1:]))])
    assert run.error.code == "wrong-content"
    assert bob.live(alice) == {}
    run = bob.follow(alice, [batch])
    assert run.incomplete_from is None
    assert bob.live(alice) == alice.live(alice)


def test_a_withdrawn_body_cannot_be_filled_in_again(alice, bob):
    recorded = alice.batches()
    bob.follow(alice, recorded)
    alice.append(withdraw(1))
    bob.follow(alice, alice.batches(1))
    bob.follow(alice, recorded)
    assert publish(1).body not in bob.images()
    assert publish(1).salt not in bob.images()
