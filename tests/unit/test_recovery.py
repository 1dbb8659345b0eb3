"""A node whose database was set back: it asks its partners before it signs, and takes back what it
lacks."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from peer.actors import Actor
from peer.audit import Audit
from peer.errors import Conflict, StorageFull
from peer.index import journal, meta
from peer.index.batches import load, store
from peer.index.database import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database
from peer.index.fence import FILE_NAME, Fence, Position, mark_restored
from peer.index.held import Held
from peer.index.journal import Halt
from protocol.epochs import EpochRecord, sign_epoch
from protocol.errors import BadSignature, Refusal
from protocol.frontier import origin_head
from protocol.limits import FIRST_ANSWER_S, RECOVERY_S
from protocol.recovery import Pause
from tests.simulation.memory import Facility, labels_of, live_entries, publish, withdraw
from tests.unit.test_gossip import KEY, NOW, Node, holds, running, until
from tests.unit.test_gossip import pair as pair  # noqa: PLC0414 - a fixture


def at(head):
    return Position(head.epoch, head.batch)


async def backup(node, folder):
    """Copy a node's index."""
    await node.db.checkpoint_truncate()
    folder.mkdir()
    shutil.copy(node.db._path, folder / "index.db")
    return folder / "index.db"


async def restore(node, image):
    """Put the node's index back to what it was, and start anew."""
    path = node.db._path
    await node.db.close()
    shutil.copy(image, path)
    node.db = await Database.open(path, KEY, INDEX_MIGRATIONS)
    node.start()
    await node.recovery.load()


async def own_head(node):
    return await node.db.read(lambda tx: journal.head(tx, node.peer_id))


async def may_write(node):
    return await node.db.read(node.recovery.may_write)


async def halted(node):
    return await node.db.read(journal.halted)


async def in_step(node, *others):
    head = await own_head(node)
    for other in others:
        await until(lambda other=other: holds(other, node, head))
    return head


# -- the fence ------------------------------------------------------------------------------------


async def test_nothing_leaves_before_the_fence_covers_it(pair):
    alice, bob = pair
    await alice.publish(publish(1))
    seen = []
    deliver = alice.links.tell

    async def tell(peer_id, message):
        seen.append(Fence(alice.data, alice.peer_id).position)
        await deliver(peer_id, message)

    alice.links.tell = tell
    async with running(alice, bob):
        alice.links.connect(bob)
        await in_step(alice, bob)
        head = await alice.publish(publish(2))
        await in_step(alice, bob)
    assert None not in seen
    assert seen[-1] == at(head)


async def test_a_fence_that_is_being_raised_is_waited_for_though_the_link_is_cut(pair, monkeypatch):
    """Two threads at one file would lose it, or leave the lower word."""
    alice, _ = pair
    await alice.recovery.cover(0, 1)
    put, begun, go_on = Fence.put, threading.Event(), threading.Event()

    def slow(fence, position):
        begun.set()
        go_on.wait(60)
        put(fence, position)

    monkeypatch.setattr(Fence, "put", slow)
    first = asyncio.create_task(alice.recovery.cover(0, 2))
    await asyncio.to_thread(begun.wait, 60)
    first.cancel()
    monkeypatch.setattr(Fence, "put", put)
    second = asyncio.create_task(alice.recovery.cover(0, 3))
    await asyncio.sleep(0)
    assert Fence(alice.data, alice.peer_id).position == Position(0, 1)
    go_on.set()
    await second
    assert first.cancelled()
    assert Fence(alice.data, alice.peer_id).position == Position(0, 3)


def test_a_fence_is_read_back_and_a_strange_one_is_in_doubt(tmp_path):
    me = bytes(range(32))
    assert Fence(tmp_path, me).is_missing
    Fence(tmp_path, me).put(Position(1, 7))
    fence = Fence(tmp_path, me)
    assert (fence.position, fence.is_in_doubt, fence.is_missing) == (Position(1, 7), False, False)
    assert fence.is_ahead(None)
    assert fence.is_ahead(Position(1, 6))
    assert fence.is_ahead(Position(0, 9))
    assert not fence.is_ahead(Position(1, 7))
    assert Fence(tmp_path, bytes(32)).is_in_doubt, "another facility's"
    (tmp_path / FILE_NAME).write_text("torn")
    assert Fence(tmp_path, me).is_in_doubt
    mark_restored(tmp_path, me)
    assert Fence(tmp_path, me).is_in_doubt


def test_a_full_disk_is_no_surprise_to_a_fence(tmp_path, monkeypatch):
    fence = Fence(tmp_path, bytes(32))

    def full(_path, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("peer.index.fence.replace_private", full)
    with pytest.raises(StorageFull, match="told nothing"):
        fence.put(Position(0, 1))
    assert fence.position is None


async def test_a_fence_that_is_gone_is_noticed(pair):
    alice, _ = pair
    head = await alice.publish(publish(1))
    await alice.recovery.cover(*vars_of(head))
    (alice.data / FILE_NAME).unlink()
    alice.start()
    alice.book.clear()
    await alice.recovery.load()
    assert await halted(alice) is Halt.REGAINED, "without partners it goes on, after a look"


def vars_of(head):
    return head.epoch, head.batch


async def test_a_node_from_before_there_were_fences_starts_as_ever(pair):
    alice, _ = pair
    await alice.publish(publish(1))
    await alice.recovery.load()
    assert await halted(alice) is None


# -- after a start --------------------------------------------------------------------------------


async def test_a_started_node_signs_once_a_partner_has_answered(pair):
    alice, bob = pair
    told = []

    async def listener():
        told.append(await may_write(alice))

    alice.recovery.on_change(listener)
    await alice.recovery.load()
    assert not await may_write(alice)
    assert (await alice.recovery.state()).state == Pause.STARTING
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: told == [True])
    assert (await alice.recovery.state()).state == "writing"


async def test_a_started_node_without_an_answer_signs_after_a_minute(pair):
    alice, _ = pair
    await alice.recovery.load()
    alice.clock.advance(FIRST_ANSWER_S)
    assert await may_write(alice)


# -- set back -------------------------------------------------------------------------------------


async def test_a_recovery_that_ends_as_the_link_is_cut_is_carried_through(pair, tmp_path):
    alice, _ = pair
    await alice.publish(publish(1))
    image = await backup(alice, tmp_path / "backup")
    head = await alice.publish(publish(2))
    await alice.recovery.cover(*vars_of(head))
    await restore(alice, image)
    alice.book.clear()
    last = asyncio.create_task(alice.recovery.partner_changed())
    await asyncio.sleep(0)
    last.cancel()
    await asyncio.wait([last])
    assert last.cancelled()
    assert await halted(alice) is Halt.REGAINED
    await alice.db.write(journal.resume)
    assert await may_write(alice)


async def test_a_node_without_partners_goes_on_at_once(pair, tmp_path):
    alice, _ = pair
    alice.book.clear()
    await alice.publish(publish(1))
    image = await backup(alice, tmp_path / "backup")
    head = await alice.publish(publish(2))
    await alice.recovery.cover(*vars_of(head))
    await restore(alice, image)
    assert await halted(alice) is Halt.REGAINED
    assert Fence(alice.data, alice.peer_id).position == at(await own_head(alice))


async def test_the_lost_end_is_fetched_back_from_the_one_partner(pair, tmp_path):
    alice, bob = pair
    await alice.publish(publish(1), publish(2))
    image = await backup(alice, tmp_path / "backup")
    async with running(alice, bob):
        alice.links.connect(bob)
        await alice.publish(publish(3))
        await alice.publish(withdraw(1))
        head = await in_step(alice, bob)
        alice.links.cut(bob)
    await restore(alice, image)
    assert await halted(alice) is Halt.BEHIND
    assert not await may_write(alice)
    with pytest.raises(Refusal, match="tell two histories"):
        await alice.publish(publish(4))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: is_regained(alice))
    assert await own_head(alice) == head
    live = await alice.db.read(lambda tx: live_entries(Held(tx, alice.peer_id)))
    assert [each.payload for each in live] == [publish(2).body, publish(3).body]
    assert Fence(alice.data, alice.peer_id).position == at(head)
    await alice.db.write(journal.resume)
    assert await may_write(alice)


async def is_regained(node):
    return await halted(node) is Halt.REGAINED


@asynccontextmanager
async def another(name, one, folder):
    """A further partner of `one`."""
    node = Node(name, one.clock)
    node.data = folder / name
    node.data.mkdir()
    node.db = await Database.open(folder / f"{name}.db", KEY, INDEX_MIGRATIONS)
    node.partners_db = await Database.open(
        folder / f"{name}-partners.db", None, PARTNERS_MIGRATIONS
    )
    node.know(one)
    one.know(node)
    node.start()
    try:
        yield node
    finally:
        await node.db.close()
        await node.partners_db.close()


async def test_among_many_partners_the_last_one_to_answer_may_hold_the_most(pair, tmp_path):
    alice, bob = pair
    async with (
        another("carol", alice, tmp_path) as carol,
        another("david", alice, tmp_path) as dave,
    ):
        await alice.publish(publish(1))
        image = await backup(alice, tmp_path / "backup")
        async with running(alice, bob, carol, dave):
            for partner in (bob, carol, dave):
                alice.links.connect(partner)
            await alice.publish(publish(2))
            await in_step(alice, bob, carol, dave)
            alice.links.cut(bob)
            alice.links.cut(carol)
            await alice.publish(publish(3))
            head = await in_step(alice, dave)
            alice.links.cut(dave)
        await restore(alice, image)
        async with running(alice, bob, carol, dave):
            alice.links.connect(bob)
            alice.links.connect(carol)
            await until(lambda: has_heard(alice, dave))
            assert await halted(alice) is Halt.BEHIND, "dave has not answered"
            alice.links.connect(dave)
            await until(lambda: is_regained(alice))
            assert await own_head(alice) == head
            # The others are told what they had missed.
            await alice.gossip.appended()
            await in_step(alice, bob, carol)


async def has_heard(node, missing):
    return (await node.recovery.state()).unheard == {missing.peer_id}


async def test_a_restart_in_the_middle_of_it_changes_nothing(pair, tmp_path):
    alice, bob = pair
    async with another("carol", alice, tmp_path) as carol:
        await alice.publish(publish(1))
        image = await backup(alice, tmp_path / "backup")
        async with running(alice, bob, carol):
            alice.links.connect(bob)
            alice.links.connect(carol)
            await alice.publish(publish(2))
            head = await in_step(alice, bob, carol)
            alice.links.cut(bob)
            alice.links.cut(carol)
        await restore(alice, image)
        async with running(alice, bob, carol):
            alice.links.connect(bob)

            async def has_all():
                return await own_head(alice) == head

            await until(has_all)
            alice.links.cut(bob)
        alice.start()
        await alice.recovery.load()
        assert await halted(alice) is Halt.BEHIND, "carol was not heard"
        async with running(alice, bob, carol):
            alice.links.connect(bob)
            alice.links.connect(carol)
            await until(lambda: is_regained(alice))


async def test_a_node_learns_at_any_time_that_it_is_behind(pair, tmp_path):
    """Rolled back with everything beside it, the fence too: only a partner can tell."""
    alice, bob = pair
    await alice.publish(publish(1))
    image = await backup(alice, tmp_path / "backup")
    async with running(alice, bob):
        alice.links.connect(bob)
        head = await alice.publish(publish(2))
        await in_step(alice, bob)
        alice.links.cut(bob)
    (alice.data / FILE_NAME).unlink()
    await restore(alice, image)
    assert await halted(alice) is None
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: is_regained(alice))
    assert await own_head(alice) == head


async def test_two_histories_of_our_own_end_all_writing(pair, tmp_path):
    alice, bob = pair
    await alice.publish(publish(1))
    image = await backup(alice, tmp_path / "backup")
    lost = await alice.publish(publish(2))
    everything = await alice.db.read(lambda tx: load(tx, alice.peer_id, 0))
    await bob.partners_db.write(
        lambda tx: store(tx, alice.peer_id, alice.node_keys, everything.batches, labels_of)
    )
    await restore(alice, image)
    # The rollback that escapes: it signs before any partner has answered.
    ours = await alice.publish(publish(3))
    assert (ours.batch, lost.batch) == (1, 1)
    async with running(alice, bob):
        alice.links.connect(bob)

        async def is_forked():
            return await halted(alice) is Halt.FORKED

        await until(is_forked)
    assert (await alice.recovery.state()).state == Pause.FORKED


async def test_what_bears_our_signature_stops_us_even_if_it_cannot_be_stored(pair):
    """Altered on its way, or bare: the header alone shows that we are behind ourselves."""
    alice, bob = pair
    await alice.publish(publish(1))
    ahead = Facility("alice")
    ahead.node_seed, ahead.peer_id = alice.node_seed, alice.peer_id
    for number in (1, 2, 3):
        ahead.append(publish(number), now=NOW)
    lost = ahead.batches(2)[0]
    await alice.recovery.partner_changed()
    await alice.recovery.heard(bob.peer_id, origin_head(alice.peer_id, ahead.head()))
    await alice.recovery.regain([replace(lost, entries=())])
    assert await halted(alice) is Halt.BEHIND
    state = await alice.recovery.state()
    assert (state.state, state.lacking) == (Pause.BEHIND, {bob.peer_id})
    assert not await may_write(alice)


# -- a new epoch ----------------------------------------------------------------------------------

OPERATOR = Actor("op", "person", frozenset({"operator"}))


def root_seed(node):
    return b"root" + node.node_seed[4:]


async def epoch_signed_by(node, seed):
    record = (await node.recovery.state()).next_epoch
    return sign_epoch(seed, replace(record, issued_at=NOW))


async def set_back(alice, bob, tmp_path):
    """Alice has lost batch 1, which Bob holds."""
    await Audit.open(alice.db, alice.clock, bytes(32))
    await alice.publish(publish(1))
    image = await backup(alice, tmp_path / "backup")
    async with running(alice, bob):
        alice.links.connect(bob)
        await alice.publish(publish(2))
        await in_step(alice, bob)
        alice.links.cut(bob)
    await restore(alice, image)
    await Audit.open(alice.db, alice.clock, bytes(32))


async def test_a_new_epoch_waits_for_partners_that_may_answer(pair, tmp_path):
    alice, bob = pair
    await set_back(alice, bob, tmp_path)
    signed = await epoch_signed_by(alice, root_seed(alice))
    with pytest.raises(Refusal, match="may still answer"):
        await alice.recovery.begin_epoch(signed, OPERATOR, wait=True)
    alice.clock.advance(RECOVERY_S)
    record = await alice.recovery.begin_epoch(signed, OPERATOR, wait=True)
    assert (record.epoch, record.first_batch) == (1, 1)
    assert await halted(alice) is Halt.REGAINED


async def test_only_our_root_key_and_only_in_need_begins_an_epoch(pair, tmp_path):
    alice, bob = pair
    with pytest.raises(Refusal, match="in order"):
        await alice.recovery.begin_epoch(
            sign_epoch(root_seed(alice), EpochRecord(1, alice.peer_id, 1, 0, bytes(32), NOW)),
            OPERATOR,
            wait=False,
        )
    await set_back(alice, bob, tmp_path)
    signed = await epoch_signed_by(alice, root_seed(alice))
    with pytest.raises(BadSignature):
        await alice.recovery.begin_epoch(replace(signed, signature=bytes(64)), OPERATOR, wait=False)
    stale = sign_epoch(root_seed(alice), EpochRecord(1, alice.peer_id, 1, 0, bytes(32), NOW))
    with pytest.raises(Conflict):
        await alice.recovery.begin_epoch(stale, OPERATOR, wait=False)
    assert await halted(alice) is Halt.BEHIND


async def test_a_partner_that_was_silent_follows_into_the_new_epoch(pair, tmp_path):
    alice, bob = pair
    await set_back(alice, bob, tmp_path)
    signed = await epoch_signed_by(alice, root_seed(alice))
    await alice.recovery.begin_epoch(signed, OPERATOR, wait=False)
    await alice.db.write(journal.resume)
    head = await alice.publish(publish(3))
    assert (head.epoch, head.batch) == (1, 1)
    async with running(alice, bob):
        alice.links.connect(bob)
        await in_step(alice, bob)
        assert await bob.bodies(alice) == [publish(1).body, publish(3).body]
        assert await may_write(alice), "what Bob holds of the ended epoch stops nobody"
        await alice.publish(publish(4))
        await in_step(alice, bob)


async def test_a_fork_of_our_own_ends_in_a_new_epoch_that_everyone_follows(pair, tmp_path):
    """Rolled back and signing before anyone answered; Bob holds more of the history that was."""
    alice, bob = pair
    await Audit.open(alice.db, alice.clock, bytes(32))
    await alice.publish(publish(1))
    image = await backup(alice, tmp_path / "backup")
    async with running(alice, bob):
        alice.links.connect(bob)
        await alice.publish(publish(2))
        await alice.publish(publish(3))
        await in_step(alice, bob)
        alice.links.cut(bob)
    (alice.data / FILE_NAME).unlink()
    await restore(alice, image)
    await Audit.open(alice.db, alice.clock, bytes(32))
    await alice.db.write(lambda tx: meta.delete(tx, "journal.fenced"))
    alice.start()
    await alice.recovery.load()
    alice.clock.advance(FIRST_ANSWER_S)
    await alice.publish(publish(9))

    async with running(alice, bob):
        alice.links.connect(bob)

        async def is_forked():
            return await halted(alice) is Halt.FORKED

        await until(is_forked)

        async def has_adopted():
            return (await own_head(alice)).batch == 2

        await until(has_adopted)
        signed = await epoch_signed_by(alice, root_seed(alice))
        await alice.recovery.begin_epoch(signed, OPERATOR, wait=True)
        await alice.db.write(journal.resume)
        head = await alice.publish(publish(4))
        assert (head.epoch, head.batch) == (1, 3)
        alice.links.cut(bob)
        alice.links.connect(bob)
        await in_step(alice, bob)
    assert await bob.bodies(alice) == [publish(n).body for n in (1, 2, 3, 4)]


async def test_an_epoch_that_was_lost_itself_comes_back_from_a_partner(pair, tmp_path):
    alice, bob = pair
    await set_back(alice, bob, tmp_path)
    await alice.db.checkpoint_truncate()
    older = tmp_path / "older.db"
    shutil.copy(alice.db._path, older)
    signed = await epoch_signed_by(alice, root_seed(alice))
    await alice.recovery.begin_epoch(signed, OPERATOR, wait=False)
    await alice.db.write(journal.resume)
    async with running(alice, bob):
        alice.links.connect(bob)
        await alice.publish(publish(3))
        head = await in_step(alice, bob)
        alice.links.cut(bob)
    await restore(alice, older)
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: is_regained(alice))
    assert await own_head(alice) == head
