"""Attack: an old node key has leaked, and its thief signs batches in the facility's name."""

from __future__ import annotations

import pytest

from peer.index.frontiers import drop_void
from protocol.errors import BadSignature
from tests.simulation.memory import Facility, publish, withdraw

NEW = b"new node key of alice" + bytes(11)


@pytest.fixture
def alice():
    alice = Facility("alice")
    alice.append(publish(1), publish(2))
    return alice


@pytest.fixture
def thief():
    """Holds the node key that Alice had when she published first."""
    thief = Facility("alice")
    thief.append(publish(1), publish(2))
    return thief


def test_a_leaked_key_signs_nothing_after_the_rotation(alice, thief):
    bob = Facility("bob")
    bob.follow(alice, alice.batches())
    alice.rotate(NEW)
    thief.append(withdraw(1))
    assert isinstance(bob.follow(alice, thief.batches(1)).error, BadSignature)
    assert bob.live(alice) == alice.live(alice)


def test_what_a_thief_signed_before_the_rotation_was_known_is_void(alice, thief):
    """Bob has followed the thief; Alice's record ends the old key where she left off."""
    bob = Facility("bob")
    thief.append(withdraw(1))
    thief.append(publish(9))
    bob.follow(thief, thief.batches())
    assert not drop_void(bob.partners, alice.peer_id, alice.node_keys), "nobody knows it yet"
    alice.rotate(NEW)
    alice.append(publish(3))
    assert drop_void(bob.partners, alice.peer_id, alice.node_keys)
    assert bob.live(alice) == {}
    bob.follow(alice, alice.batches())
    assert bob.live(alice) == alice.live(alice), "what the thief withdrew is back"
    assert not drop_void(bob.partners, alice.peer_id, alice.node_keys)


def test_a_rotation_alone_makes_nothing_void(alice):
    bob = Facility("bob")
    bob.follow(alice, alice.batches())
    alice.rotate(NEW)
    assert not drop_void(bob.partners, alice.peer_id, alice.node_keys)
    assert bob.live(alice) == alice.live(alice)
