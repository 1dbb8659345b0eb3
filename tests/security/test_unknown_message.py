"""Attack: messages that this version does not speak, or that are not what they claim to be."""

from __future__ import annotations

import msgpack
import pytest

from protocol.errors import Malformed, RemoteProtocolError, UnknownMessage
from protocol.events import HeldJournal, Received, Refuse
from protocol.exchange import Exchange
from protocol.messages import Gone, Kind, decode, registered
from tests.simulation.memory import Facility


def frame(name, body, kind=Kind.TELL):
    return msgpack.packb([int(kind), 0, name, body])


@pytest.mark.parametrize("name", ["no-such-message", "Have", "have ", "__class__", "x" * 64])
def test_an_unknown_message_is_refused_by_name(name):
    with pytest.raises(UnknownMessage) as refused:
        decode(frame(name, b""))
    assert refused.value.code == "unknown-message"
    assert name not in str(refused.value), "what a stranger sends is not repeated"


@pytest.mark.parametrize(
    "data",
    [
        [3, 0, "want"],
        [3, 0, "want", b"", b""],
        [4, 0, "want", b""],
        [-1, 0, "want", b""],
        [True, 0, "want", b""],
        [3, -1, "want", b""],
        [3, 0, b"want", b""],
        [3, 0, "", b""],
        [3, 0, "x" * 65, b""],
        [3, 0.0, "want", b""],
        {"kind": 3},
        None,
    ],
    ids=repr,
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(Malformed):
        decode(msgpack.packb(data))


def test_every_message_refuses_another_shape():
    for name in registered():
        for body in (b"", b"\xc0", b"\x80", msgpack.packb([None] * 30), b"\xc1"):
            with pytest.raises(RemoteProtocolError):
                decode(frame(name, body))


def test_only_a_refusal_travels_as_one():
    with pytest.raises(Malformed, match="this kind"):
        decode(frame("want", msgpack.packb([bytes(32), 0, 0]), Kind.REFUSAL))


def test_a_known_message_in_the_wrong_place_is_refused():
    alice, bob = Facility("alice"), Facility("bob")
    exchange = Exchange(
        alice.peer_id,
        bob.peer_id,
        HeldJournal(None, alice.node_keys),
        HeldJournal(None, bob.node_keys),
        lambda _: bytes(64),
    )
    (effect,) = exchange.handle(Received(Gone("")), 0)
    assert isinstance(effect, Refuse)
    assert effect.error.code == "unknown-message"
