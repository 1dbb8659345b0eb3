"""Attack: a partner claims to hold more of our journal than there is, so that we stop writing."""

from __future__ import annotations

from protocol.limits import WANT_S
from protocol.messages import Want
from tests.whole_nodes import until


async def state(node):
    return (await node.rooms.recovery.state()).state


async def claim(scene, mallory, **changes):
    """Let mallory claim a header of bob's journal that nobody has signed."""
    await mallory.claim(scene.history.head, origin=scene.bob.peer_id, **changes)


async def test_a_claim_stops_our_pen_for_a_moment_and_once(scene):
    async with scene.link() as mallory:
        await until_state(scene.bob, "writing")
        await claim(scene, mallory, batch=10_000, header_hash=bytes(32))
        await until_state(scene.bob, "claimed")
        asked = await mallory.hears(Want)
        assert asked.origin == scene.bob.peer_id, "bob wants to see his own signature"
        scene.clock.advance(WANT_S)
        await claim(scene, mallory, batch=20_000, header_hash=bytes(range(32)))
        await until_state(scene.bob, "writing")
        before = (await scene.bob.rooms.recovery.state()).head
        await scene.bob.scan("1.2.840.99.77")
        await scene.bob.consent()
        assert (await scene.bob.rooms.recovery.state()).head.batch > before.batch


async def test_another_header_in_the_past_is_asked_for_too(scene):
    """A copy of our node may have written it."""
    async with scene.link() as mallory:
        await until_state(scene.bob, "writing")
        await scene.bob.scan("1.2.840.99.77")
        await scene.bob.consent()
        assert (await scene.bob.rooms.recovery.state()).head.batch > 0
        await claim(scene, mallory, batch=0, header_hash=bytes(32))
        await until_state(scene.bob, "claimed")
        asked = await mallory.hears(Want)
        assert (asked.origin, asked.from_batch) == (scene.bob.peer_id, 0)


async def until_state(node, wanted):
    async def reached():
        return await state(node) == wanted

    await until(reached, f"the journal is not {wanted}")
