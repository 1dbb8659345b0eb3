"""Attack: an origin dates its batches as it likes, to make a lease last or an old head look new."""

from __future__ import annotations

import pytest

from protocol.limits import CLOCK_SKEW_S, LEASE_MOST_S, LEASE_S
from tests.simulation.memory import publish
from tests.whole_nodes import until

DAY_S = 24 * 3600


async def refused(scene, batch):
    before = scene.held
    async with scene.link() as mallory:
        await mallory.send(batch)
        code = await mallory.refusal()
    assert scene.held == before, "nothing of a refused batch is kept"
    assert await scene.bob.faults(scene.mallory) == [code]
    assert await scene.bob.finds() == scene.all_found
    return code


@pytest.mark.parametrize("longer_s", [1, 365 * DAY_S])
async def test_a_lease_that_lasts_longer_than_any_may_is_refused(scene, longer_s):
    now = scene.clock.now()
    until_s = now + LEASE_MOST_S + longer_s
    batch = scene.history.append(publish(1), now=now, fresh_until=until_s)
    assert await refused(scene, batch) == "malformed"


async def test_a_lease_that_is_stretched_by_its_beginning_is_refused(scene):
    """As long as may be, but it has begun in the future only by name."""
    now = scene.clock.now()
    batch = scene.history.append(publish(1), now=now, issued_at=now + DAY_S, fresh_until=now)
    assert await refused(scene, batch) == "malformed"


@pytest.mark.parametrize("ahead_s", [CLOCK_SKEW_S + 1, 30 * DAY_S, 10 * 365 * DAY_S])
async def test_a_head_from_the_future_vouches_for_nothing(scene, ahead_s):
    """It would keep a withdrawal hidden until then; its entries count, for a clock may be wrong."""
    batch = scene.history.append(publish(1), now=scene.clock.now() + ahead_s)
    async with scene.link() as mallory:
        await mallory.send(batch)
        await until(lambda: scene.held.batch == scene.history.head.batch)
        assert scene.bob.freshness(scene.mallory).lease_over
        assert scene.bob.freshness(scene.mallory).last_confirmed_at <= scene.clock.now()
        assert await scene.bob.finds() == scene.alices
        assert publish(1).body in await scene.bodies(), "a wrong clock costs freshness, never data"

        await mallory.send(scene.history.append(now=scene.clock.now()))
        await until(lambda: scene.held.batch == scene.history.head.batch)
        assert await scene.bob.finds() == scene.all_found, "the clock was put right"


async def test_a_backdated_head_ends_its_own_lease(scene):
    batch = scene.history.append(publish(1), now=scene.clock.now() - LEASE_S)
    async with scene.link() as mallory:
        await mallory.send(batch)
        await until(lambda: scene.held.batch == scene.history.head.batch)
        assert scene.bob.freshness(scene.mallory).lease_over
        answer = await scene.bob.find()
    assert {(r.facility.name, r.study_instance_uid) for r in answer.results} == scene.alices
    assert [each.code for each in answer.coverage.not_searched] == ["lease-over"]


async def test_a_word_from_the_future_is_refused(scene):
    """A HAVE dated ahead would make every later one look older than it."""
    now = scene.clock.now()
    async with scene.link() as mallory:
        await mallory.claim(scene.held, now=now + CLOCK_SKEW_S + 1)
        assert await mallory.refusal() == "expired"
        batch = scene.history.append(publish(1), now=now)
        await mallory.claim(scene.history.head, now=now)
        await mallory.send(batch)
        await until(lambda: scene.held.batch == scene.history.head.batch)
    assert await scene.bob.faults(scene.mallory) == ["expired"]
    assert await scene.bob.finds() == scene.all_found
