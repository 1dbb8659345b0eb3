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


async def read(body, sizes, read_contents=True):
    async def pieces():
        at, turn = 0, 0
        while at < len(body):
            size = sizes[turn % len(sizes)]
            yield body[at : at + size]
            at, turn = at + size, turn + 1

    found = []
    async for part in parts(pieces(), BOUNDARY):
        content = [bytes(piece) async for piece in part.content] if read_contents else []
        found.append((part.headers, content))
    return found


@given(contents, st.lists(st.integers(1, 60), min_size=1, max_size=5))
async def test_parts_come_out_as_they_went_in(bodies, sizes):
    found = await read(written(bodies), sizes)
    assert [b"".join(content) for _, content in found] == bodies
    assert all(headers == {"content-type": "a/b"} for headers, _ in found)


@given(st.integers(1, 60), st.integers(0, 300), st.integers(0, 300))
async def test_a_part_that_nobody_reads_does_not_hide_the_next(size, first, second):
    found = await read(written([b"x" * first, b"y" * second]), [size], read_contents=False)
    assert len(found) == 2


async def test_a_part_comes_in_the_pieces_in_which_it_arrives():
    ((_, content),) = await read(written([b"x" * 100_000]), [1000])
    assert sum(map(len, content)) == 100_000
    assert max(map(len, content)) < 1000 + 2 * len(BOUNDARY) + 10


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
