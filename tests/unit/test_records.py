"""Records: what is written reads back, and nothing else is let in."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codec import pack, unpack
from protocol.errors import LocalProtocolError, Malformed, Oversized
from protocol.limits import NESTING_DEPTH
from protocol.records import Hash, Name, Natural, Range, Size, from_bytes, from_value, to_bytes


@dataclass(frozen=True, slots=True)
class Inner:
    name: Name
    small: Annotated[int, Range(0, 9)]


@dataclass(frozen=True, slots=True)
class Outer:
    root: Hash
    count: Natural
    flag: bool
    inner: Inner
    many: Annotated[tuple[Inner, ...], Size(0, 3)]
    maybe: Natural | None


inners = st.builds(Inner, st.text(max_size=256), st.integers(0, 9))
outers = st.builds(
    Outer,
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**63 - 1),
    st.booleans(),
    inners,
    st.lists(inners, max_size=3).map(tuple),
    st.none() | st.integers(0, 2**63 - 1),
)


@given(outers)
def test_what_is_written_reads_back(record):
    assert from_bytes(Outer, to_bytes(record), 1 << 20) == record


GOOD = [b"r" * 32, 7, True, ["n", 1], [], None]


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, b"r" * 31),
        (0, "r" * 32),
        (1, -1),
        (1, 2**63),
        (1, True),
        (2, 1),
        (3, ["n", 10]),
        (3, ["n"]),
        (3, ["n", 1, 1]),
        (3, None),
        (4, [["n", 1]] * 4),
        (4, {}),
        (5, "7"),
    ],
)
def test_a_field_out_of_its_bounds_is_malformed(index, value):
    assert from_value(Outer, GOOD).count == 7
    bad = [*GOOD[:index], value, *GOOD[index + 1 :]]
    with pytest.raises(Malformed):
        from_value(Outer, bad)


def test_the_error_names_the_field_but_not_its_value():
    with pytest.raises(Malformed, match=r"Outer\.inner: Inner\.small") as caught:
        from_value(Outer, [*GOOD[:3], ["Doe^Jane", 11], [], None])
    assert "Doe" not in str(caught.value)


def test_too_many_bytes_are_refused_before_parsing():
    with pytest.raises(Oversized):
        unpack(b"\xc1" * 11, 10)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x01\x01",
        b"\xcb" + bytes(8),
        b"\xd4\x01\x00",
        b"\xa1\xff",
        b"\x81\x01\x01",
        b"\x81\xc4\x01k\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * (NESTING_DEPTH + 1) + b"\xc0",
        b"\x91" * 5000,
    ],
    ids=lambda data: data[:6].hex(),
)
def test_bytes_that_are_not_one_plain_value_are_malformed(data):
    with pytest.raises(Malformed):
        unpack(data, 1 << 20)


@given(st.binary(max_size=300))
def test_no_bytes_at_all_raise_anything_but_malformed(data):
    try:
        value = unpack(data, 300)
    except Malformed:
        return
    assert unpack(pack(value), 1 << 12) == value


@pytest.mark.parametrize("value", [1 << 64, object(), {1: set()}])
def test_what_cannot_travel_is_our_own_fault(value):
    with pytest.raises(LocalProtocolError):
        pack(value)
