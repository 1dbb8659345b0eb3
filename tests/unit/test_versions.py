"""Both sides come to the same version, and without one each operator reads who must update."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Malformed, Refusal
from protocol.messages import Hello, Kind, Refused, Want, decode, encode
from protocol.versions import NO_COMMON_VERSION, Versions, common_version

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "hello.json").read_text("utf-8"))
ranges = st.tuples(st.integers(1, 9), st.integers(0, 4)).map(
    lambda drawn: Versions(drawn[0], drawn[0] + drawn[1])
)


def outcome(reader, other):
    try:
        return common_version(reader, other)
    except Refusal as refusal:
        return refusal


@given(ranges, ranges)
def test_both_sides_come_to_the_same(one, other):
    here, there = outcome(one, other), outcome(other, one)
    both = set(range(one.oldest, one.newest + 1)) & set(range(other.oldest, other.newest + 1))
    if both:
        assert here == there == max(both)
    else:
        older, newer = (here, there) if one.newest < other.oldest else (there, here)
        assert older.reason.startswith("This node is too old")
        assert older.remedy == "Update this node."
        assert {older.code, newer.code} == {NO_COMMON_VERSION}
        assert newer.reason.startswith("The partner's node is too old")
        assert "Ask their operator" in newer.remedy


@pytest.mark.parametrize("nonsense", [Versions(0, 1), Versions(3, 2), Versions(0, 0)])
def test_a_range_without_a_version_is_no_hello(nonsense):
    with pytest.raises(Malformed):
        common_version(Versions(1, 1), nonsense)


# -- the bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["frames"], ids=lambda case: case["name"])
def test_the_golden_frames_are_read_and_written(case):
    """A later version's fields behind the known ones are passed over, by every version."""
    frame, message = decode(bytes.fromhex(case["frame"]))
    shown = case["message"]
    if frame.name == "hello":
        expected = Hello(
            shown["oldest_version"],
            shown["newest_version"],
            bytes.fromhex(shown["peer_id"]),
            bytes.fromhex(shown["addressee"]),
            shown["record_held"],
            shown["now"],
        )
    else:
        expected = Refused(shown["code"], shown["reason"], shown["remedy"])
    assert (Kind(frame.kind).name, frame.id) == (case["kind"], 0)
    assert message == expected
    if not case["later"]:
        assert encode(expected, Kind[case["kind"]], 0).hex() == case["frame"]


def test_only_hello_and_refused_may_have_more_fields():
    for message in (Want(bytes(32), 0, 0),):
        kind, number, name, body = msgpack.unpackb(encode(message, Kind.TELL))
        longer = msgpack.packb([*msgpack.unpackb(body), 5])
        with pytest.raises(Malformed):
            decode(msgpack.packb([kind, number, name, longer]))


@pytest.mark.parametrize("body", [b"\x90", msgpack.packb([1, 1]), msgpack.packb({"a": 1}), b"\x05"])
def test_a_hello_that_is_too_short_is_none(body):
    with pytest.raises(Malformed):
        decode(msgpack.packb([0, 0, "hello", body]))
