"""Attack: an origin signs two histories.  Here: what one node does that has received both."""

from __future__ import annotations

from structlog.testing import capture_logs

from protocol.forks import verify_fork
from protocol.messages import Want
from tests.simulation.memory import publish
from tests.whole_nodes import until


async def proof_of(scene):
    return (await scene.bob.rooms.gossip.forks())[scene.keys.peer_id].proof


async def test_two_batches_for_one_position_freeze_the_journal_and_are_kept_as_proof(scene):
    one, other = scene.history, scene.history.copy()
    mine = one.append(publish(1), now=scene.clock.now())
    yours = other.append(publish(2), now=scene.clock.now())
    with capture_logs() as logs:
        async with scene.link() as mallory:
            await mallory.send(mine)
            await until(lambda: scene.held.batch == one.head.batch)
            common = scene.held
            await mallory.send(yours)
            assert await mallory.refusal() == "forked"

            await mallory.send(one.append(publish(3), now=scene.clock.now()))
            await mallory.claim(one.head)
            assert await scene.bob.finds() == scene.all_found, "what was common is shown"
            assert scene.held == common, "and nothing is read beyond it, whichever history it is of"
    assert "journal-forked" in [each["event"] for each in logs]
    assert await scene.bob.faults(scene.mallory) == ["forked"], "the operator finds it on record"

    proof = await proof_of(scene)
    assert {proof.first.header, proof.second.header} == {mine.header, yours.header}
    verify_fork(proof, scene.keys.peer_id, scene.keys.node_keys)


async def test_a_frozen_journal_stays_so_across_a_restart(scene):
    one, other = scene.history, scene.history.copy()
    async with scene.link() as mallory:
        await mallory.send(one.append(publish(1), now=scene.clock.now()))
        await until(lambda: scene.held.batch == one.head.batch)
        await mallory.send(other.append(publish(2), now=scene.clock.now()))
        assert await mallory.refusal() == "forked"
    proof, held = await proof_of(scene), scene.held
    await scene.restart_bob()
    await until(lambda: scene.bob.freshness(scene.alice).connected)
    assert scene.bob.freshness(scene.mallory).forked
    async with scene.link() as mallory:
        await mallory.send(one.append(publish(3), now=scene.clock.now()))
        await mallory.claim(one.head)
        assert await scene.bob.finds() == scene.all_found
    assert scene.held == held
    assert await proof_of(scene) == proof


async def test_a_history_that_is_only_claimed_is_asked_for_until_it_convicts(scene):
    """A HAVE alone is a claim; the header behind it, once it comes, is the proof."""
    other = scene.history.copy()
    async with scene.link() as mallory:
        await mallory.send(scene.history.append(publish(1), now=scene.clock.now()))
        await until(lambda: scene.held.batch == scene.history.head.batch)
        yours = other.append(publish(2), now=scene.clock.now())
        await mallory.claim(other.head)
        asked = await mallory.hears(Want)
        assert asked.from_batch == other.head.batch, "bob wants to see the other header"
        assert not scene.bob.freshness(scene.mallory).forked, "a claim convicts nobody"
        await mallory.send(yours)
        assert await mallory.refusal() == "forked"
    assert (await proof_of(scene)).second == yours.signed_header


async def test_a_batch_that_names_another_past_is_a_fork_too(scene):
    """Not two batches of one number: one batch that does not continue what was told before it."""
    told = scene.held
    batch = scene.history.append(publish(1), now=scene.clock.now(), previous=bytes(range(32)))
    async with scene.link() as mallory:
        await mallory.send(batch)
        assert await mallory.refusal() == "forked"
    assert scene.held == told
    proof = await proof_of(scene)
    verify_fork(proof, scene.keys.peer_id, scene.keys.node_keys)
    assert await scene.bob.finds() == scene.alices, (
        "the batch before it is what both histories deny"
    )
