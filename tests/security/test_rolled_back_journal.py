"""Attack: an origin puts its journal back to what it was once, to unsay what it has said since.

The honest form of it is a node that was restored from an old backup.
"""

from __future__ import annotations

from protocol.frontier import claimed
from protocol.messages import Have, HaveBody
from protocol.records import from_bytes
from tests.histories import History
from tests.simulation.memory import publish
from tests.whole_nodes import until


async def test_a_claim_of_an_older_head_takes_nothing_back(scene):
    old, oldest = scene.history.copy(), scene.held
    withdrawal = scene.withdraw_all()
    async with scene.link() as mallory:
        await mallory.send(withdrawal)
        await until(lambda: scene.held.live_count == 0)
        held = scene.held

        scene.clock.advance(60)
        await mallory.claim(oldest)
        await mallory.send(*old.batches[-1:])
        assert await mallory.refusal() == "replayed"
        assert scene.held == held
        assert await scene.bodies() == []

        def told():
            body = from_bytes(HaveBody, mallory.last(Have).statement.payload, 100_000)
            said = claimed(body, scene.keys.peer_id)
            return said is not None and said.header_hash == held.header_hash

        await until(told, "bob's word must say what the origin has lost")
    assert await scene.bob.finds() == scene.alices


async def test_a_journal_that_goes_on_from_an_older_head_is_followed_no_further(scene):
    """Restored from a backup, mallory publishes anew at a position that it has signed before."""
    backup = scene.history.copy()
    told = scene.history.append(publish(1), now=scene.clock.now())
    async with scene.link() as mallory:
        await mallory.send(told)
        await until(lambda: scene.held.batch == len(scene.history.batches) - 1)
        held = scene.held

        other = backup.append(publish(2), now=scene.clock.now())
        await mallory.send(other)
        assert await mallory.refusal() == "forked"
        assert scene.held == held, "what was common stays as it was"
        assert scene.bob.freshness(scene.mallory).forked
    assert publish(1).body in await scene.bodies()
    assert publish(2).body not in await scene.bodies()
    assert await scene.bob.faults(scene.mallory) == ["forked"]
    assert await scene.bob.finds() == scene.all_found


async def test_a_journal_that_begins_again_is_a_fork_of_the_first_one(scene):
    again = History(scene.keys)
    again.append(publish(7), now=scene.clock.now())
    held = scene.held
    async with scene.link() as mallory:
        await mallory.send(*again.batches)
        assert await mallory.refusal() == "forked"
    assert scene.held == held
    assert await scene.bob.finds() == scene.alices, "the two have nothing in common"
