"""Frames and their messages: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.entries import Entry, SignedBatch
from protocol.errors import BadSignature, LocalProtocolError, Malformed, Oversized
from protocol.limits import MESSAGE_BYTES
from protocol.messages import (
    Batches,
    Frame,
    Have,
    Kind,
    Refused,
    Want,
    decode,
    encode,
    message,
    name_of,
    read_frame,
    read_message,
    registered,
)
from protocol.signing import public_key
from protocol.statements import Statement, open_statement, sign_statement

SEED = bytes(range(32))
naturals = st.integers(0, 2**63 - 1)
keys = st.binary(min_size=32, max_size=32)
entries = st.builds(
    Entry,
    seq=naturals,
    entry_id=st.binary(min_size=16, max_size=16),
    kind=st.integers(0, 2),
    salt=st.binary(max_size=16),
    payload=st.binary(max_size=64),
)
signed_batches = st.builds(
    SignedBatch,
    header=st.binary(min_size=1, max_size=512),
    signature=st.binary(min_size=64, max_size=64),
    entries=st.lists(entries, max_size=3).map(tuple),
)
messages = st.one_of(
    st.builds(Want, origin=keys, epoch=naturals, from_batch=naturals),
    st.builds(
        Batches,
        origin=keys,
        batches=st.lists(signed_batches, min_size=1, max_size=3).map(tuple),
        more=st.booleans(),
    ),
    st.builds(
        Have,
        statement=st.builds(
            Statement,
            payload=st.binary(min_size=1, max_size=64),
            signature=st.binary(min_size=64, max_size=64),
        ),
    ),
    st.builds(
        Refused,
        code=st.text(min_size=1, max_size=64),
        reason=st.text(max_size=64),
        remedy=st.text(max_size=64),
    ),
)


@given(messages, naturals)
def test_what_is_encoded_is_decoded(content, number):
    frame, decoded = decode(encode(content, Kind.TELL, number))
    assert decoded == content
    assert (frame.kind, frame.id, frame.name) == (Kind.TELL, number, name_of(type(content)))


@given(st.binary(max_size=64))
def test_noise_is_refused(data):
    with pytest.raises((Malformed, Oversized)):
        decode(data)


def test_a_frame_is_read_before_its_message():
    """So that the asker's number is known even of a message that cannot be read."""
    data = encode(Want(bytes(32), 0, 0), Kind.REQUEST, 7)
    frame = read_frame(data)
    assert frame.id == 7
    with pytest.raises(Malformed):
        read_message(Frame(frame.kind, frame.id, frame.name, frame.body[:-1]))


def test_a_refusal_travels_as_one_or_is_told():
    refusal = Refused("gap", "Batches are missing.", "")
    for kind in (Kind.REFUSAL, Kind.TELL):
        assert decode(encode(refusal, kind))[1] == refusal
    with pytest.raises(LocalProtocolError, match="REFUSAL"):
        encode(Want(bytes(32), 0, 0), Kind.REFUSAL)


def test_a_class_that_is_not_registered_does_not_travel():
    with pytest.raises(LocalProtocolError, match="not registered"):
        encode(SEED, Kind.TELL)


@pytest.mark.parametrize(("name", "limit"), [("want", 10), ("enormous", MESSAGE_BYTES)])
def test_a_name_or_bound_that_cannot_be_is_refused_at_once(name, limit):
    with pytest.raises(LocalProtocolError):
        message(name, limit)(Statement)
    assert Statement not in [kind for kind, _ in registered().values()]


@dataclass(frozen=True, slots=True)
class Note:
    number: int


def test_a_statement_opens_under_its_key_and_domain_alone():
    statement = sign_statement(SEED, "note", Note(7))
    assert open_statement(public_key(SEED), "note", Note, statement) == Note(7)
    with pytest.raises(BadSignature):
        open_statement(public_key(SEED), "have", Note, statement)
    with pytest.raises(BadSignature):
        open_statement(public_key(bytes(32)), "note", Note, statement)
    with pytest.raises(Oversized):
        open_statement(public_key(SEED), "note", Note, statement, limit=1)
