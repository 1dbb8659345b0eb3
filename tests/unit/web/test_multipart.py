"""Whatever the pieces in which a body arrives, its parts are the ones that were sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.web.dicomweb.multipart import MalformedBody, parts

BOUNDARY = b"b0undary"
contents = st.lists(
    st.binary(max_size=200) | st.sampled_from([b"", b"\r\n", b"--b0undar", b"\r\n--b0undar"]),
    max_size=5,
)


def written(bodies):
    between = [b"--b0undary\r\nContent-Type: a/b\r\n\r\n" + each + b"\r\n" for each in bodies]
    return b"".join(between) + b"--b0undary--\r\n"


class Room:
    """Counts what a reader holds, and whether it holds more than it may."""

    def __init__(self):
        self.held = self.most = 0

    async def grow(self, size):
        self.held += size
        self.most = max(self.most, self.held)

    def give_back(self):
        self.held = 0


async def read(body, sizes, limit=10_000, room=None):
    async def pieces():
        at, turn = 0, 0
        while at < len(body):
            size = sizes[turn % len(sizes)]
            yield body[at : at + size]
            at, turn = at + size, turn + 1

    return [part async for part in parts(pieces(), BOUNDARY, limit, room or Room())]


@given(contents, st.lists(st.integers(1, 60), min_size=1, max_size=5))
async def test_parts_come_out_as_they_went_in(bodies, sizes):
    found = await read(written(bodies), sizes)
    assert [part.content for part in found] == bodies
    assert all(part.headers == {"content-type": "a/b"} for part in found)


@given(st.integers(1, 60), st.integers(0, 300), st.integers(0, 300))
async def test_a_part_that_is_too_long_does_not_hide_the_next(size, first, second):
    found = await read(written([b"x" * first, b"y" * second]), [size], limit=100)
    assert [part.oversized for part in found] == [first > 100, second > 100]
    assert [len(part.content) for part in found] == [n if n <= 100 else 0 for n in (first, second)]


async def test_of_a_part_that_is_dropped_nothing_is_held():
    room = Room()
    (part,) = await read(written([b"x" * 100_000]), [100], limit=1000, room=room)
    assert part.oversized
    assert room.most < 1500


@given(st.integers(0, 70), st.integers(1, 60))
async def test_a_body_that_is_cut_is_noticed(missing, size):
    whole = written([b"one", b"two"]).rstrip()
    with pytest.raises(MalformedBody):
        await read(whole[: len(whole) - 1 - missing], [size])


@pytest.mark.parametrize(
    "body", [b"--b0undaryX\r\n\r\n\r\n--b0undary--", b"--b0undary\r\n" + b"A: b\r\n" * 9000]
)
async def test_what_is_no_message_is_refused(body):
    with pytest.raises(MalformedBody):
        await read(body, [4096])
