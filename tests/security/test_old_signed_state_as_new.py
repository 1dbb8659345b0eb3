"""Attack: what was signed in the past, or for someone else, is passed off as the present.

The signature is true; false is the position, the date or the addressee.  So these are signed too.
"""

from __future__ import annotations

from dataclasses import replace

from protocol.entries import HEADER_DOMAIN, Header
from protocol.limits import LEASE_S
from protocol.messages import HAVE_DOMAIN, Have, HaveBody
from protocol.records import from_bytes
from protocol.statements import sign_statement
from tests.simulation.memory import publish
from tests.whole_nodes import until


async def test_an_old_head_does_not_renew_a_lease(scene):
    """A renewal is an empty batch: an old one fits everywhere but for its number."""
    for _ in range(2):
        scene.clock.advance(6 * 3600)
        scene.history.append(now=scene.clock.now())
    async with scene.link() as mallory:
        await mallory.send(*scene.history.batches[-2:])
        await until(lambda: scene.held.batch == scene.history.head.batch)
        held = scene.held
        await mallory.send(scene.history.batches[-2])
        assert await mallory.refusal() == "replayed"
        assert scene.held == held
        scene.clock.advance(LEASE_S)
        assert scene.bob.freshness(scene.mallory).lease_over
        await mallory.send(scene.history.batches[-1])
        assert await mallory.refusal(1) == "replayed"
        assert scene.bob.freshness(scene.mallory).lease_over
    assert scene.held == held


async def test_an_old_header_does_not_vouch_for_new_entries(scene):
    """The signature of a batch of the past, put before other entries."""
    before = scene.held
    old = scene.history.batches[-1]
    new = scene.history.append(publish(1), now=scene.clock.now())
    async with scene.link() as mallory:
        await mallory.send(replace(new, signature=old.signature))
        assert await mallory.refusal() == "bad-signature"
        await mallory.send(replace(old, entries=new.entries))
        assert await mallory.refusal(1) == "replayed"
    assert scene.held == before
    assert await scene.bob.finds() == scene.all_found


async def test_an_old_word_is_not_taken_for_a_new_one(scene):
    now = scene.clock.now()
    async with scene.link() as mallory:
        old = HaveBody(scene.keys.peer_id, scene.bob.peer_id, now - 3600, ())
        recorded = Have(sign_statement(scene.keys.node_seed, HAVE_DOMAIN, old))
        await mallory.tell(recorded)
        await mallory.claim(scene.held, now=now)
        await mallory.tell(recorded)
        assert await mallory.refusal() == "replayed"
    assert await scene.bob.finds() == scene.all_found


async def test_a_word_to_someone_else_is_not_taken_for_one_to_us(scene):
    body = HaveBody(scene.keys.peer_id, scene.alice.peer_id, scene.clock.now(), ())
    async with scene.link() as mallory:
        await mallory.tell(Have(sign_statement(scene.keys.node_seed, HAVE_DOMAIN, body)))
        assert await mallory.refusal() == "wrong-addressee"
    assert await scene.bob.faults(scene.mallory) == ["wrong-addressee"]
    assert await scene.bob.finds() == scene.all_found


async def test_what_was_signed_as_something_else_is_no_head(scene):
    """One key signs journals, words and receipts; the domain says which a signature is for."""
    before = scene.held
    batch = scene.history.append(publish(1), now=scene.clock.now())
    header = from_bytes(Header, batch.header, 512)
    statement = sign_statement(scene.keys.node_seed, HAVE_DOMAIN, header)
    assert statement.payload == batch.header, "the very bytes, signed in the domain of a HAVE"
    assert HAVE_DOMAIN != HEADER_DOMAIN
    async with scene.link() as mallory:
        await mallory.send(replace(batch, signature=statement.signature))
        assert await mallory.refusal() == "bad-signature"
    assert scene.held == before
    assert await scene.bob.finds() == scene.all_found


async def test_the_state_that_is_signed_is_the_one_that_follows_from_the_entries(scene):
    """A head that counts a withdrawn study as live would let it be looked for for ever."""
    before = scene.held
    for changes in ({"live_count": before.live_count}, {"state_digest": before.state_digest}):
        batch = scene.history.append(publish(1), now=scene.clock.now(), **changes)
        async with scene.link() as mallory:
            await mallory.send(batch)
            assert await mallory.refusal() == "malformed"
        assert scene.held == before
    assert await scene.bob.finds() == scene.all_found
