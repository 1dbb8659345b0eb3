"""A partner whose bytes are wrong, short, too many, late or cut off: partial is never whole."""

from __future__ import annotations

import asyncio
import random

import pytest

from peer.index import studies
from peer.link import NotConnected
from tests.facilities import CLINICIAN
from tests.transfers import STUDY, hospitals, ready

FAULTY_SHARE = 0.3
COUNT = 6
ENDS = {"complete", "failed"}


def meddler(chance, seen):
    """Return what spoils some of the ranges, each in one way."""

    async def meddle(_path, _start, data):
        if chance.random() > FAULTY_SHARE:
            return data
        how = chance.choice(("wrong", "zeros", "short", "none", "long", "late", "cut off"))
        seen.add(how)
        at = chance.randrange(len(data))
        match how:
            case "wrong":
                return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            case "zeros":
                return bytes(len(data))
            case "short":
                return data[:at]
            case "none":
                return b""
            case "long":
                return data + chance.randbytes(1 + at)
            case "late":
                await asyncio.sleep(0)
                return data
            case _:
                raise NotConnected("the line broke")

    return meddle


async def at_its_end(alice, bob, started):
    """Return the retrieval at its end; the line comes back as often as it breaks."""
    async with asyncio.timeout(60):
        while (now := await alice.retrieve.status(started.retrieval_id)).state not in ENDS:
            if now.state == "waiting":
                assert not await alice.db.read(lambda tx: studies.get(tx, STUDY)), "shown partial"
                alice.links.connect(bob)
            await asyncio.sleep(0.005)
        return now


@pytest.mark.parametrize("rounds", [2, pytest.param(200, marks=pytest.mark.deep)])
async def test_whatever_a_partner_sends_only_what_is_whole_is_held(tmp_path, rounds):
    chance, ways, ended = random.Random(20260105), set(), set()
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with hospitals(folder, "Alice", "Bob", transfer={"parallel_ranges": 2}) as pair:
            alice, bob = pair
            files = await ready(alice, bob, count=COUNT, size=700_000)
            alice.links.meddle = meddler(chance, ways)
            started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
            done = await at_its_end(alice, bob, started)
            ended.add(done.state)
            if done.state == "complete":
                assert await alice.kept() == files
                assert done.receipt.outcome == "verified"
            else:
                assert done.receipt.outcome == "incomplete"
                assert done.receipt.verified + len(done.receipt.missing) == COUNT
                assert not await alice.db.read(lambda tx: studies.get(tx, STUDY)), "shown partial"
                assert alice.store.sizes() == alice.store.incoming() == {}
    assert "complete" in ended
    assert ways
