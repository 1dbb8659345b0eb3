"""Retrievals are as fast as the operator lets them be, by the clock; emergencies are not slowed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from pydantic import ValidationError

from peer.clock import ManualClock
from peer.config import RateLimit
from peer.retrieve.pace import NotNow, Pace, covers
from protocol.identifiers import PeerId
from tests.facilities import CLINICIAN, START
from tests.transfers import STUDY, hospitals, ready

BOB, EVE = PeerId(b"b" * 32), PeerId(b"e" * 32)
NAMES = {BOB: "Bob", EVE: "Eve"}
NOON = START // 86_400 * 86_400 + 12 * 3600


class Virtual:
    """A clock of the day and a stopwatch that move by sleeping alone."""

    def __init__(self, *limits, at=NOON):
        self.slept = 0.0
        self.at = at
        self.pace = Pace(limits, self, NAMES.__getitem__, lambda: self.slept, self.sleep)

    def now(self):
        return int(self.at + self.slept)

    async def sleep(self, seconds):
        self.slept += seconds

    async def fetch(self, origin, parts, size=1000):
        """Return how long it takes to fetch so many parts."""
        begun = self.slept
        for _ in range(parts):
            await self.pace.take(origin, size)
        return self.slept - begun


async def test_without_a_limit_nothing_waits():
    virtual = Virtual()
    assert await virtual.fetch(BOB, 100) == 0
    assert virtual.pace.reason(BOB) == ""


async def test_a_limit_of_the_node_holds_for_all_partners_together():
    virtual = Virtual(RateLimit(bytes_per_s=1000))
    assert await virtual.fetch(BOB, 10) == pytest.approx(10, abs=0.01)
    assert await virtual.fetch(EVE, 10) == pytest.approx(10, abs=0.01)
    assert virtual.pace.reason(EVE) == "Slowed to 0.001 MB/s by this node's settings."


@pytest.mark.parametrize("named", ["bob", BOB.hex(), BOB.hex()[:8].upper()])
async def test_a_limit_of_a_partner_slows_no_other_and_the_slower_one_holds(named):
    virtual = Virtual(RateLimit(bytes_per_s=100, partner=named), RateLimit(bytes_per_s=1000))
    assert await virtual.fetch(BOB, 3) == pytest.approx(30, abs=0.1)
    assert await virtual.fetch(EVE, 3) == pytest.approx(3, abs=0.1)
    assert "0.0001 MB/s" in virtual.pace.reason(BOB)
    assert "0.001 MB/s" in virtual.pace.reason(EVE)


async def test_idle_time_is_not_saved_up():
    virtual = Virtual(RateLimit(bytes_per_s=1000))
    await virtual.fetch(BOB, 1)
    virtual.slept += 3600
    assert await virtual.fetch(BOB, 5) == pytest.approx(5, abs=0.01)


async def test_another_limit_holds_in_a_window_and_ends_with_it():
    by_day = RateLimit(bytes_per_s=10, begin="08:00", end="12:01")
    virtual = Virtual(by_day)
    assert "until 12:01 UTC" in virtual.pace.reason(BOB)
    # 60 s at 10 bytes a second pay for 600 of 1000; the rest is free when the window ends.
    assert await virtual.fetch(BOB, 1) == pytest.approx(60, abs=1)
    assert virtual.pace.reason(BOB) == ""
    assert await virtual.fetch(BOB, 100) == 0


async def test_in_a_window_of_nothing_nothing_is_fetched():
    virtual = Virtual(RateLimit(bytes_per_s=0, partner="Bob", begin="07:00", end="19:00"))
    with pytest.raises(NotNow, match="until 19:00 UTC"):
        virtual.pace.check(BOB)
    with pytest.raises(NotNow):
        await virtual.fetch(BOB, 1)
    virtual.pace.check(EVE)
    virtual.slept += 7 * 3600
    virtual.pace.check(BOB)
    assert await virtual.fetch(BOB, 1) == 0


@pytest.mark.parametrize("looks", range(8))
async def test_a_window_of_nothing_may_end_between_two_looks_at_the_clock(looks):
    virtual = Virtual(RateLimit(bytes_per_s=0, begin="07:00", end="19:00"))
    left = [looks]

    def now():
        left[0] -= 1
        return NOON if left[0] >= 0 else NOON + 7 * 3600

    virtual.now = now
    with suppress(NotNow):
        await virtual.fetch(BOB, 1)
    assert virtual.slept == 0


@pytest.mark.parametrize(
    ("begin", "end", "within", "outside"),
    [
        ("08:00", "18:00", ["08:00", "17:59"], ["07:59", "18:00"]),
        ("22:00", "06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "21:59"]),
        ("00:00", "00:00", ["00:00", "23:59"], []),
    ],
)
def test_a_window_may_go_beyond_midnight(begin, end, within, outside):
    limit = RateLimit(bytes_per_s=1, begin=begin, end=end)
    assert all(covers(limit, each) for each in within)
    assert not any(covers(limit, each) for each in outside)


@pytest.mark.parametrize("wrong", ["24:00", "8:00", "08:60", "noon", ""])
def test_what_is_no_time_is_refused(wrong):
    with pytest.raises(ValidationError):
        RateLimit(bytes_per_s=1, begin=wrong)


async def test_a_retrieval_waits_for_its_window_says_so_and_an_emergency_does_not(tmp_path):
    """In the settings of a node: nothing by day, however often it is tried; then all of it."""
    by_day = {"bytes_per_s": 0, "begin": "06:00", "end": "20:00"}
    settings = {"limits": [by_day], "retry_s": 1}
    async with hospitals(tmp_path, "Alice", "Bob", start=NOON, transfer=settings) as (alice, bob):
        assert isinstance(alice.clock, ManualClock)
        files = await ready(alice, bob, count=1)
        started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        async with asyncio.timeout(60):
            seen = await alice.retrieve.status(started.retrieval_id)
            while seen.state != "waiting":
                await asyncio.sleep(0.01)
                seen = await alice.retrieve.status(started.retrieval_id)
            assert seen.row.code == "limited"
            assert "Nothing is fetched until 20:00 UTC" in seen.sentence
            assert alice.links.bytes == 0
            assert "GrantRequest" not in alice.links.requests
            who = replace(CLINICIAN, purpose="ETREAT")
            same = await alice.retrieve.retrieve(bob.peer_id, STUDY, who)
            done = await alice.retrieve.finished(same.retrieval_id)
        assert done.state == "complete"
        assert await alice.kept() == files
