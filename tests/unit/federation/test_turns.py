"""What is small does not wait behind all that is large, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import random
from types import SimpleNamespace

import pytest
from aiohttp import WSMsgType

from peer.config import Link
from peer.link import NotConnected
from peer.link.connection import RANGES_AT_ONCE, Connection
from peer.link.turns import LARGE_BYTES, SMALL_IN_A_ROW, Turns
from protocol.messages import Kind, RangeBytes, ReadRange, Want, decode, encode


async def take(turns, size, name, order, gate=None):
    async with turns.turn(size):
        order.append(name)
        if gate is not None:
            await gate.wait()


async def rounds(count=20):
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_small_go_before_the_large_that_wait():
    turns, order, gate = Turns(), [], asyncio.Event()
    tasks = [asyncio.create_task(take(turns, LARGE_BYTES, "first", order, gate))]
    await rounds()
    for name, size in (("A", LARGE_BYTES), ("B", LARGE_BYTES), ("a", 10), ("b", 10)):
        tasks.append(asyncio.create_task(take(turns, size, name, order)))
    await rounds()
    gate.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "a", "b", "A", "B"]


async def test_the_large_have_their_turn_however_many_small_ones_come():
    turns, order, gate = Turns(), [], asyncio.Event()
    tasks = [asyncio.create_task(take(turns, 1, "first", order, gate))]
    await rounds()
    names = ["large", *(f"small {number}" for number in range(3 * SMALL_IN_A_ROW))]
    for name in names:
        size = LARGE_BYTES if name == "large" else 1
        tasks.append(asyncio.create_task(take(turns, size, name, order)))
    await rounds()
    gate.set()
    await asyncio.gather(*tasks)
    assert order.index("large") == SMALL_IN_A_ROW + 1


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_gives_up_waiting_takes_nobodys_turn(seed):
    chance = random.Random(seed)
    turns, order = Turns(), []

    async def use(name):
        async with turns.turn(chance.choice([1, LARGE_BYTES])):
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            order.append(name)

    tasks = [asyncio.create_task(use(number)) for number in range(30)]
    for task in chance.sample(tasks, 10):
        await rounds(chance.randrange(4))
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    finished = {number for number, task in enumerate(tasks) if not task.cancelled()}
    assert set(order) == finished
    async with asyncio.timeout(1), turns.turn(1):
        pass


# -- on a link ------------------------------------------------------------------------------------


class Slow:
    """A socket whose other side reads one frame whenever `read` is called."""

    def __init__(self):
        self.frames, self.sent, self._room = asyncio.Queue(), [], asyncio.Semaphore(0)
        self.writing = 0

    async def receive(self):
        return SimpleNamespace(type=WSMsgType.BINARY, data=await self.frames.get())

    async def send_bytes(self, frame):
        self.writing += 1
        assert self.writing == 1, "one frame at a time is handed to the socket"
        try:
            await self._room.acquire()
            self.sent.append(decode(frame)[1])
        finally:
            self.writing -= 1

    async def read(self):
        self._room.release()
        await rounds()

    async def close(self):
        pass


@contextlib.asynccontextmanager
async def served(dispatch, **settings):
    socket = Slow()
    connection = Connection(
        socket,
        b"b" * 32,
        b"a" * 32,
        b"",
        Link.model_construct(**{**Link().model_dump(), **settings}),
    )
    meter = SimpleNamespace(spend=lambda *_: asyncio.sleep(0), charge=lambda *_: None)
    task = asyncio.create_task(connection.serve(dispatch, meter))
    try:
        yield connection, socket
    finally:
        connection.drop("The test is over.")
        await task


async def test_images_hold_up_neither_the_exchange_nor_a_search():
    """Bob asks for 32 pieces at once over a slow line, and the journal has something to say."""
    read = []

    async def dispatch(message):
        if isinstance(message, ReadRange):
            read.append(message)
            return RangeBytes(bytes(1024 * 1024))
        return message

    async with served(dispatch) as (connection, socket):
        for number in range(32):
            socket.frames.put_nowait(
                encode(
                    ReadRange(bytes(16), bytes(16), number, 1024 * 1024), Kind.REQUEST, number + 1
                )
            )
        await rounds(200)
        assert len(read) == RANGES_AT_ONCE, "no piece is read long before it can be sent"
        tell = asyncio.create_task(connection.tell(Want(bytes(32), 0, 7)))
        socket.frames.put_nowait(encode(Want(bytes(32), 0, 8), Kind.REQUEST, 99))
        await rounds(50)
        for _ in range(4):
            await socket.read()
        await tell
        assert [type(each).__name__ for each in socket.sent[:4]] == [
            "RangeBytes",
            "Want",
            "Want",
            "RangeBytes",
        ]


async def test_a_partner_that_reads_nothing_loses_its_link():

    async def dispatch(message):
        return message

    async with served(dispatch, stall_s=0.05) as (connection, _):
        with pytest.raises(NotConnected):
            await connection.tell(Want(bytes(32), 0, 1))
        assert connection.closed.is_set()
        assert "take in nothing" in connection.reason


async def test_a_message_of_a_later_version_costs_a_refusal_and_no_link():
    heard = []

    async def dispatch(message):
        heard.append(message)
        return message

    async with served(dispatch) as (connection, socket):
        for kind, number in ((Kind.TELL, 0), (Kind.REQUEST, 5)):
            frame = encode(Want(bytes(32), 0, 1), kind, number).replace(b"\xa4want", b"\xa4wont")
            socket.frames.put_nowait(frame)
        socket.frames.put_nowait(encode(Want(bytes(32), 0, 2), Kind.TELL))
        await rounds(50)
        await socket.read()
        await socket.read()
        assert [each.code for each in socket.sent] == ["unknown-message"] * 2
        assert heard == [Want(bytes(32), 0, 2)]
        assert not connection.closed.is_set()
