"""Attack: the hash that renews a signed word is old, made up, or the reader's own.

What the rule says of it is in `tests/unit/test_renewal.py`; here a whole node is told such hashes.
"""

from __future__ import annotations

from protocol.frontier import origin_head
from protocol.limits import EXCHANGED_S
from protocol.messages import Holding
from protocol.renewal import holding_digest
from tests.simulation.memory import publish
from tests.whole_nodes import until


def digest_of(scene, head):
    """Return the hash by which mallory says that it holds this head of its own journal."""
    me = scene.keys.peer_id
    return holding_digest(me, scene.bob.peer_id, {me: origin_head(me, head)})


def objection(scene):
    """Return the code with which bob would refuse mallory now, None if it would answer."""
    refusal = scene.bob.rooms.reciprocity.objection(scene.keys.peer_id, "TREAT")
    return refusal and refusal.code


async def signed(scene, mallory):
    """Have mallory sign the head that bob holds; then a quarter of an hour passes."""
    scene.clock.advance(EXCHANGED_S + 1)
    assert objection(scene) == "exchange-stale"
    await mallory.claim(scene.held)
    await until(lambda: objection(scene) is None)
    scene.clock.advance(EXCHANGED_S + 1)
    assert objection(scene) == "exchange-stale"


async def test_a_true_hash_renews_what_was_signed(scene):
    """The others would prove nothing without this one."""
    async with scene.link() as mallory:
        await signed(scene, mallory)
        await mallory.tell(Holding(digest_of(scene, scene.held), asks=False))
        await until(lambda: objection(scene) is None)


async def test_a_hash_that_nothing_signed_stands_behind_renews_nothing(scene):
    async with scene.link() as mallory:
        await mallory.tell(Holding(digest_of(scene, scene.held), asks=False))
        assert (await mallory.hears(Holding)).asks
        scene.clock.advance(EXCHANGED_S + 1)
        await mallory.tell(Holding(bytes(32), asks=False))
        await mallory.hears(Holding, 1)
        assert objection(scene) == "exchange-stale"


async def test_the_hash_of_an_older_head_renews_nothing(scene):
    """The partner has signed a newer head; the hash of what it said before does not undo that."""
    old = scene.held
    async with scene.link() as mallory:
        await signed(scene, mallory)
        new = scene.history.append(publish(5), now=scene.clock.now())
        await mallory.send(new)
        await until(lambda: scene.held != old)
        await signed(scene, mallory)
        await mallory.tell(Holding(digest_of(scene, old), asks=False))
        assert (await mallory.hears(Holding)).asks
        assert objection(scene) == "exchange-stale"


async def test_a_nodes_own_hash_sent_back_renews_nothing(scene):
    async with scene.link() as mallory:
        await signed(scene, mallory)
        await mallory.tell(Holding(bytes(32), asks=False))
        own = await mallory.hears(Holding)
        await mallory.tell(Holding(own.digest, asks=False))
        await mallory.hears(Holding, 1)
        assert objection(scene) == "exchange-stale"
