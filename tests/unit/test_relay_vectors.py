"""The golden vectors of relayed journals, read twice: by the code and from the document alone."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.errors import RemoteProtocolError
from protocol.identifiers import PeerId
from protocol.messages import Kind, decode, encode
from protocol.nodekeys import only_key
from protocol.relay import open_membership
from protocol.statements import Statement

VECTORS = Path(__file__).parents[1] / "vectors"
RELAY = json.loads((VECTORS / "journal-relay.json").read_text(encoding="utf-8"))
JOURNAL = json.loads((VECTORS / "journal-batches.json").read_text(encoding="utf-8"))
KEY, ORIGIN = (bytes.fromhex(JOURNAL[name]) for name in ("node_key", "origin"))
MEMBER, PASSES_ON = (bytes.fromhex(RELAY[name]) for name in ("addressee", "relay"))
NOW, SKEW_S, MOST_S = RELAY["now"], 600, 72 * 3600

cases = pytest.mark.parametrize("case", RELAY["memberships"], ids=lambda case: case["name"])


@cases
def test_we_judge_a_membership(case):
    shown = Statement(*(bytes.fromhex(case[name]) for name in ("payload", "signature")))
    arguments = shown, only_key(KEY), PeerId(ORIGIN), PeerId(MEMBER), NOW
    if case["refused"] is None:
        assert open_membership(*arguments).addressee == MEMBER
        return
    with pytest.raises(RemoteProtocolError) as refused:
        open_membership(*arguments)
    assert refused.value.code == case["refused"]


def test_we_speak_the_very_frames():
    for name, text in RELAY["frames"].items():
        frame, message = decode(bytes.fromhex(text))
        assert frame.name == name
        assert encode(message, Kind.TELL).hex() == text


# -- a second reader, from the document alone -----------------------------------------------------


def judged(payload, signature, member):
    try:
        signed = b"openpriors/1 membership\0" + payload
        Ed25519PublicKey.from_public_bytes(KEY).verify(signature, signed)
    except InvalidSignature:
        return "bad-signature"
    author, addressee, issued_at, until = msgpack.unpackb(payload)
    if (author, addressee) != (ORIGIN, member):
        return "wrong-addressee"
    if issued_at > NOW + SKEW_S:
        return "expired"
    if not 0 < until - issued_at <= MOST_S:
        return "malformed"
    return None if until > NOW else "expired"


@cases
def test_the_second_reader_judges_alike(case):
    payload, signature = (bytes.fromhex(case[name]) for name in ("payload", "signature"))
    assert judged(payload, signature, MEMBER) == case["refused"]


def test_the_second_reader_understands_question_and_answer():
    *_, body = msgpack.unpackb(bytes.fromhex(RELAY["frames"]["want-relayed"]))
    origin, epoch, from_batch, shown = msgpack.unpackb(body)
    assert (origin, epoch, from_batch) == (ORIGIN, 0, 1)
    assert judged(*shown, MEMBER) is None
    *_, body = msgpack.unpackb(bytes.fromhex(RELAY["frames"]["relayed"]))
    origin, batches, more, newest, shown = msgpack.unpackb(body)
    assert (origin, more, newest) == (ORIGIN, False, None)
    assert [msgpack.packb(batch).hex() for batch in batches] == [JOURNAL["batches"][1]["batch"]]
    assert judged(*shown, PASSES_ON) is None
