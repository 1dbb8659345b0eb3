"""Attack: true batches are delivered in another order, to apply the past after the future."""

from __future__ import annotations

from dataclasses import replace

from protocol.messages import Want
from tests.simulation.memory import publish, withdraw
from tests.whole_nodes import until


async def test_batches_in_another_order_are_asked_for_in_theirs(scene):
    before, now = scene.held, scene.clock.now()
    first = scene.history.append(publish(1), now=now)
    second = scene.history.append(withdraw(1), now=now)

    async with scene.link() as mallory:
        await mallory.send(second, first)
        asked = await mallory.hears(Want)
        assert asked.from_batch == before.batch + 1, "bob asks from where his own copy ends"
        assert scene.held == before, "nothing of what came out of order is kept"
        assert await scene.bob.finds() == scene.all_found

        await mallory.send(first, second)
        await until(lambda: scene.held.batch == before.batch + 2)
    assert publish(1).body not in await scene.bodies(), "the withdrawal is the last word"
    assert await scene.bob.finds() == scene.all_found


async def test_a_withdrawal_before_its_publication_does_not_let_it_stay(scene):
    """The whole history backwards, one message for each batch, as a network might deliver it."""
    now = scene.clock.now()
    later = [scene.history.append(publish(n), now=now) for n in range(1, 4)]
    later.append(scene.withdraw_all())
    async with scene.link() as mallory:
        for batch in reversed(later):
            await mallory.send(batch)
        asked = await mallory.hears(Want)
        await mallory.send(*scene.history.batches[asked.from_batch :])
        await until(lambda: scene.held.live_count == 0)
        assert await scene.bodies() == []
    assert await scene.bob.finds() == scene.alices


async def test_entries_in_another_order_are_refused(scene):
    """Within a batch the order is signed too; an origin that signs a wrong one is not followed."""
    before = scene.held
    batch = scene.history.append(publish(1), publish(2), now=scene.clock.now())
    turned = batch.entries[::-1]
    async with scene.link() as mallory:
        await mallory.send(replace(batch, entries=turned))
        assert await mallory.refusal() == "wrong-content"
        await mallory.send(scene.history.forged(batch, *turned))
        assert await mallory.refusal(1) == "wrong-content"
    assert scene.held == before
    assert await scene.bob.faults(scene.mallory) == ["wrong-content"]
    assert await scene.bob.finds() == scene.all_found
