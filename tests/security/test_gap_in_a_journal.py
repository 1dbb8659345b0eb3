"""Attack: an origin, or who stands between, leaves a batch out, to hide a withdrawal in the gap."""

from __future__ import annotations

from peer.search.answer import Uncovered
from protocol.limits import LEASE_S
from protocol.messages import Want
from tests.simulation.memory import publish
from tests.whole_nodes import until


async def test_what_lies_beyond_a_gap_is_not_taken(scene):
    before = scene.held
    left_out = scene.withdraw_all()
    beyond = [scene.history.append(publish(n), now=scene.clock.now()) for n in range(1, 4)]
    async with scene.link() as mallory:
        await mallory.send(*beyond)
        asked = await mallory.hears(Want)
        assert (asked.origin, asked.from_batch) == (scene.keys.peer_id, before.batch + 1)
        assert scene.held == before
        assert publish(1).body not in await scene.bodies()

        await mallory.send(left_out, *beyond)
        await until(lambda: scene.held.batch == before.batch + 4)
    assert await scene.bob.finds() == scene.alices, "the withdrawal came with what was left out"


async def test_a_gap_that_is_never_filled_ends_with_the_lease(scene):
    """Nobody can hide a withdrawal for longer: what is not confirmed any more is not listed."""
    before = scene.held
    scene.withdraw_all()
    scene.clock.advance(LEASE_S)
    beyond = scene.history.append(now=scene.clock.now())
    for node, other in ((scene.alice, scene.bob), (scene.bob, scene.alice)):
        await node.rooms.publish.renew()
        await until(lambda here=other, there=node: not here.freshness(there).lease_over)
    async with scene.link() as mallory:
        await mallory.claim(scene.history.head)
        await mallory.send(beyond)
        await mallory.hears(Want)
        assert scene.held == before
        answer = await scene.bob.find()
    assert {(r.facility.name, r.study_instance_uid) for r in answer.results} == scene.alices
    (missing,) = answer.coverage.not_searched
    assert isinstance(missing, Uncovered)
    assert (missing.facility.name, missing.code) == ("mallory", "lease-over")
    assert "mallory (not confirmed since" in answer.coverage.sentence


async def test_numbers_that_leave_a_gap_are_refused(scene):
    """The batch numbers follow each other and the positions in them do not."""
    before = scene.held
    after = before.last_seq
    batch = scene.history.append(
        publish(1), now=scene.clock.now(), first_seq=after + 2, last_seq=after + 2
    )
    async with scene.link() as mallory:
        await mallory.send(batch)
        assert await mallory.refusal() == "malformed"
    assert scene.held == before
    assert await scene.bob.faults(scene.mallory) == ["malformed"]
    assert await scene.bob.finds() == scene.all_found
