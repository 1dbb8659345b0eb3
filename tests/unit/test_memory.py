"""The common memory of instances on their way in: bounded, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.ingest import Memory
from protocol.errors import Refusal


def memory_of(total=100, largest=40, wait_s=0.05):
    return Memory(SimpleNamespace(memory_bytes=total, largest_held=largest, memory_wait_s=wait_s))


async def test_whoever_finds_no_room_waits_and_is_refused_in_the_end():
    memory = memory_of()
    with memory.share() as common, memory.share() as eldest, memory.share() as third:
        await common.grow(60)
        await eldest.grow(1)
        with pytest.raises(Refusal) as caught:
            await third.grow(1)
        assert caught.value.code == "busy"
        assert caught.value.remedy
        assert not third.grow_at_once(1)
        await eldest.grow(39)  # It always may, or nobody could end.
        common.give_back()
        await third.grow(60)


async def test_room_that_is_given_back_wakes_those_who_wait_in_their_order():
    memory, served = memory_of(wait_s=30), []
    with memory.share() as common, memory.share() as eldest:
        await common.grow(60)
        await eldest.grow(1)

        async def wait(name, size):
            with memory.share() as share:
                await share.grow(size)
                served.append(name)

        tasks = []
        for name, size in (("large", 60), ("small", 1)):
            tasks.append(asyncio.create_task(wait(name, size)))
            await asyncio.sleep(0)
        assert not memory.share().grow_at_once(1), "nobody overtakes those who wait"
        assert not served
        common.give_back()
        await asyncio.gather(*tasks)
    assert served == ["large", "small"]


async def test_whoever_gives_up_makes_way_for_the_next():
    memory = memory_of(wait_s=30)
    with memory.share() as common, memory.share() as eldest, memory.share() as next_one:
        await common.grow(50)
        await eldest.grow(30)
        impatient = asyncio.create_task(memory.share().grow(40))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(next_one.grow(10))
        await asyncio.sleep(0)
        impatient.cancel()
        await waiting
        assert next_one.common == 10


async def test_threads_and_tasks_wait_in_one_queue():
    memory = memory_of(wait_s=30)
    common, eldest, other = memory.share(), memory.share(), memory.share()
    await common.grow(60)
    await eldest.grow(1)
    thread = asyncio.create_task(asyncio.to_thread(other.grow_blocking, 30))
    while not memory._waiting:  # noqa: ASYNC110 - a thread sets no event of ours
        await asyncio.sleep(0.01)
    task = asyncio.create_task(memory.share().grow(30))
    await asyncio.sleep(0)
    await asyncio.to_thread(common.give_back)
    await asyncio.gather(thread, task)


def test_nobody_waits_for_a_node_that_stops():
    memory = memory_of(wait_s=30)
    first, eldest, caught = memory.share(), memory.share(), []
    first.grow_blocking(60)
    eldest.grow_blocking(1)

    def wait():
        try:
            memory.share().grow_blocking(1)
        except Refusal as refusal:
            caught.append(refusal.code)

    thread = threading.Thread(target=wait)
    thread.start()
    while not memory._waiting and thread.is_alive():
        pass
    memory.close()
    thread.join(10)
    assert caught == ["busy"]
    assert not memory.share().grow_at_once(60)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=25),
    st.integers(40, 100),
    st.integers(1, 15),
    st.randoms(use_true_random=False),
)
async def test_all_end_and_never_hold_more_than_the_bound(sizes, total, piece, order):
    memory, held = memory_of(total, 40, wait_s=30), {}

    async def upload(number, size, jitter: random.Random):
        with memory.share() as share:
            for at in range(0, size, piece):
                part = min(piece, size - at)
                await share.grow(part)
                held[number] = held.get(number, 0) + part
                assert sum(held.values()) <= total
                for _ in range(jitter.randrange(3)):
                    await asyncio.sleep(0)
            held.pop(number)

    async with asyncio.timeout(60):
        await asyncio.gather(*(upload(n, size, order) for n, size in enumerate(sizes)))
    assert memory._room == total - 40, "all was given back"
    assert memory._eldest is None
