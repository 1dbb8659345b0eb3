"""Attacks with records of epochs: only a root key signs one, and it ends what it names."""

from __future__ import annotations

from protocol.entries import header_hash
from protocol.epochs import EPOCH_DOMAIN, EpochRecord, SignedEpoch, sign_epoch
from protocol.messages import Epochs
from protocol.records import to_bytes
from protocol.signing import sign
from tests.simulation.memory import publish
from tests.whole_nodes import until


def record_of(scene, **changes):
    """The record by which mallory's journal goes on behind its head in epoch 1."""
    head = scene.history.head
    fields = {"version": 1, "origin": scene.keys.peer_id, "epoch": 1, "issued_at": 1}
    after = {"first_batch": head.batch + 1, "previous": head.header_hash}
    return EpochRecord(**fields | after | changes)


def root_of(scene):
    from peer.keys import read_root_key

    return read_root_key(scene.mallory.root_key)


async def test_whoever_has_stolen_the_node_key_begins_no_epoch(scene):
    record = record_of(scene, first_batch=0, previous=bytes(32))
    data = to_bytes(record)
    forged = SignedEpoch(data, sign(scene.keys.node_seed, EPOCH_DOMAIN, data))
    held = scene.held
    async with scene.link() as mallory:
        await mallory.tell(Epochs(scene.keys.peer_id, (forged,)))
        assert await mallory.refusal() == "bad-signature"
    assert scene.held == held
    assert await scene.bob.finds() == scene.all_found


async def test_nobody_ends_the_journal_of_a_third_facility(scene):
    signed = sign_epoch(root_of(scene), record_of(scene))
    async with scene.link() as mallory:
        await mallory.tell(Epochs(scene.alice.peer_id, (signed,)))
        assert await mallory.refusal() == "wrong-addressee"
    assert await scene.bob.finds() == scene.all_found


async def test_two_records_of_one_epoch_are_refused(scene):
    root, held = root_of(scene), scene.held
    async with scene.link() as mallory:
        await mallory.tell(Epochs(scene.keys.peer_id, (sign_epoch(root, record_of(scene)),)))
        other = sign_epoch(root, record_of(scene, first_batch=0, previous=bytes(32)))
        await mallory.tell(Epochs(scene.keys.peer_id, (other,)))
        assert await mallory.refusal() == "forked"
    assert scene.held == held, "the second one has made nothing void"


async def test_a_known_record_told_again_thaws_no_fork(scene):
    """A fork in an epoch ends with a later one, not with the same one."""
    told = Epochs(scene.keys.peer_id, (sign_epoch(root_of(scene), record_of(scene)),))
    now = scene.clock.now()
    mine = scene.history.append(publish(1), now=now, epoch=1)
    yours = scene.history.append(publish(2), now=now, epoch=1)
    async with scene.link() as mallory:
        await mallory.tell(told)
        await mallory.send(mine)
        await until(lambda: scene.held.header_hash == header_hash(mine.header))
        await mallory.send(yours)
        assert await mallory.refusal() == "forked"
        await until(lambda: scene.bob.freshness(scene.mallory).forked)

        await mallory.tell(told)
        await mallory.send(mine)
        assert await scene.bob.finds() == scene.all_found, "what came before stays listed"
        assert scene.bob.freshness(scene.mallory).forked
    assert scene.held.header_hash == header_hash(mine.header)
