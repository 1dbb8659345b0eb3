"""Attack: an entry is hidden as a hole, which verifies like the entry, without any withdrawal."""

from __future__ import annotations

from dataclasses import replace

from protocol.entries import SignedBatch, hole
from protocol.messages import Want
from tests.simulation.memory import publish, withdraw
from tests.whole_nodes import until


def holed(batch, seq=None):
    """Return a batch with one of its entries, or all of them, as holes."""
    entries = tuple(hole(e) if seq in (None, e.seq) else e for e in batch.entries)
    return SignedBatch(batch.header, batch.signature, entries)


def incomplete_from(scene):
    return scene.bob.rooms.gossip._effects.frontiers[scene.keys.peer_id].incomplete_from


async def test_what_is_hidden_in_a_hole_is_asked_for_until_it_comes(scene):
    batch = scene.history.append(publish(1), publish(2), now=scene.clock.now())
    async with scene.link() as mallory:
        await mallory.send(holed(batch, seq=batch.entries[0].seq))
        assert await mallory.refusal() == "incomplete"
        assert incomplete_from(scene) == scene.history.head.batch
        assert await scene.bodies() != [], "what did come is kept"
        assert publish(1).body not in await scene.bodies()

        forged = replace(batch.entries[0], payload=publish(9).body)
        await mallory.send(replace(batch, entries=(forged, batch.entries[1])))
        assert await mallory.refusal(1) == "wrong-content"
        assert publish(9).body not in await scene.bodies(), "nothing else fits into a hole"

        await mallory.send(batch)
        await until(lambda: incomplete_from(scene) is None)
        assert {publish(1).body, publish(2).body} <= set(await scene.bodies())
    assert await scene.bob.faults(scene.mallory) == ["incomplete", "wrong-content"]
    assert await scene.bob.finds() == scene.all_found


async def test_the_hole_is_remembered_across_links_and_restarts(scene):
    batch = scene.history.append(publish(1), now=scene.clock.now())
    async with scene.link() as mallory:
        await mallory.send(holed(batch))
        assert await mallory.refusal() == "incomplete"
    await scene.restart_bob()
    async with scene.link() as mallory:
        await mallory.claim(scene.history.head)
        asked = await mallory.hears(Want)
        assert asked.from_batch == scene.history.head.batch
        await mallory.send(batch)
        await until(lambda: incomplete_from(scene) is None)
    assert publish(1).body in await scene.bodies()


async def test_a_hole_that_a_withdrawal_justifies_is_none_to_complain_of(scene):
    first = scene.history.append(publish(1), now=scene.clock.now())
    second = scene.history.append(withdraw(1), now=scene.clock.now())
    async with scene.link() as mallory:
        await mallory.send(holed(first), second)
        await until(lambda: scene.held.batch == scene.history.head.batch)
        assert incomplete_from(scene) is None
        assert mallory.refusals() == []
    assert await scene.bob.finds() == scene.all_found
