"""Attack: what was withdrawn, and erased at the partners, is given back to them."""

from __future__ import annotations

from protocol.digest import BodyKind
from protocol.entries import hole
from tests.simulation.memory import publish, withdraw
from tests.whole_nodes import until


async def test_a_batch_that_was_recorded_before_the_withdrawal_brings_nothing_back(scene):
    recorded = list(scene.history.batches)
    erased = [entry for batch in recorded for entry in batch.entries if entry.payload]
    async with scene.link() as mallory:
        await mallory.send(scene.withdraw_all())
        await until(lambda: scene.held.live_count == 0)
        assert await scene.bob.finds() == scene.alices

        await mallory.send(*recorded)
        assert await mallory.refusal() == "replayed"
        assert await scene.bodies() == []
        assert await scene.bob.finds() == scene.alices
    for entry in erased:
        assert not scene.on_disk(entry.salt), "with the salt the commitment could be guessed back"
        # What announces a key ends in zeros, and tells of no patient.
        assert entry.payload[1] == BodyKind.KEYS or not scene.on_disk(entry.payload[-64:])
    assert await scene.bob.faults(scene.mallory) == ["replayed"]


async def test_a_recorded_body_does_not_slip_in_beside_a_hole_that_is_still_open(scene):
    """Holes are filled from batches that are held already; what was withdrawn is no such hole."""
    now = scene.clock.now()
    recorded = scene.history.append(publish(1), publish(2), now=now)
    withdrawal = scene.history.append(withdraw(1), now=now)
    wanting = type(recorded)(
        recorded.header, recorded.signature, tuple(hole(entry) for entry in recorded.entries)
    )
    async with scene.link() as mallory:
        await mallory.send(wanting, withdrawal)
        assert await mallory.refusal() == "incomplete", "publish(2) is lacking"
        await mallory.send(recorded)

        async def filled():
            return publish(2).body in await scene.bodies()

        await until(filled)
        assert publish(1).body not in await scene.bodies()
    assert not scene.on_disk(publish(1).body)
    assert not scene.on_disk(publish(1).salt)


async def test_a_withdrawn_id_is_not_published_again(scene):
    """Under its old id a body would look like one that partners had only forgotten to fetch."""
    now = scene.clock.now()
    scene.history.append(publish(1), now=now)
    scene.history.append(withdraw(1), now=now)
    told = scene.history.batches[-2:]
    fresh = scene.history.copy()
    again = fresh.append(publish(2), now=now)
    revived = type(again.entries[0])(
        again.entries[0].seq, publish(1).entry_id, 0, publish(1).salt, publish(1).body
    )
    async with scene.link() as mallory:
        await mallory.send(*told)
        await until(lambda: scene.held.batch == scene.history.head.batch)
        held = scene.held
        await mallory.send(scene.history.forged(again, revived))
        assert await mallory.refusal() == "malformed"
        assert scene.held == held
        assert publish(1).body not in await scene.bodies()
    assert await scene.bob.faults(scene.mallory) == ["malformed"]
    assert await scene.bob.finds() == scene.all_found
