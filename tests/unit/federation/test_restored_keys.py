"""A node that was restored from a backup which is older than its last rotation."""

from __future__ import annotations

import shutil

import pytest

from peer import keys as node_keys
from protocol.errors import Refusal
from protocol.nodekeys import key_at
from tests.unit.federation.facility import SETTINGS, linked, pair, until
from tests.unit.federation.node import Node

SEALED = ("data", "keys", "node.sealed")


@pytest.fixture
async def alice(tmp_path):
    async with Node.open("alice", tmp_path) as alice:
        yield alice


@pytest.fixture
async def bob(tmp_path):
    async with Node.open("bob", tmp_path) as bob:
        yield bob


async def set_back(node, *, new_keys=True, others=()):
    """Exchange the keys of a node, let `others` learn of it, and put its key file back."""
    path = node.folder.joinpath(*SEALED)
    older = path.with_name("older")
    shutil.copy(path, older)
    await node.rotate(new_keys=new_keys)
    revision = node.keys.key_record.revision
    for other in others:
        await until(lambda other=other: other.knows(node).record.revision == revision)
        await until(lambda other=other: node.knows(other).holds == revision)
    await node.stop()
    shutil.copy(older, path)
    node.keys = node_keys.load(node.folder / "data", SETTINGS)
    return revision


async def test_it_learns_that_its_keys_are_retired_and_has_no_links(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await set_back(alice, others=[bob])
    assert not alice.keys.are_retired
    await alice.start()
    await until(lambda: alice.keys.are_retired)
    await until(lambda: alice.links.state(bob.peer_id).last_error_code == "keys-retired")
    assert not bob.links.state(alice.peer_id).connected
    assert bob.knows(alice).record.revision == 2


async def test_whoever_it_cannot_reach_shows_it_what_it_has_lost(alice, tmp_path):
    """Carol only dials out, so Alice cannot ask her: she finds an older certificate, and tells."""
    async with Node.open("carol", tmp_path, reachable=False) as carol:
        await pair(alice, carol)
        await linked(alice, carol)
        await set_back(alice, others=[carol])
        await alice.start()
        await until(lambda: alice.keys.are_retired)


async def test_it_remembers_when_it_is_started_again(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await set_back(alice, others=[bob])
    await alice.start()
    await until(lambda: alice.keys.are_retired)
    await alice.stop()
    await bob.stop()
    alice.keys = node_keys.load(alice.folder / "data", SETTINGS)
    await alice.start()
    assert alice.keys.are_retired
    await bob.start()


async def test_new_keys_follow_the_record_that_partners_hold(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.follows(alice)
    await set_back(alice, others=[bob])
    before = await alice.head()
    lost = bob.knows(alice).record.node_public
    await alice.start()
    await until(lambda: alice.keys.are_retired)
    await alice.rotate()
    assert not alice.keys.are_retired
    await until(lambda: bob.knows(alice).record == alice.keys.key_record)
    await linked(alice, bob)
    keys = bob.knows(alice).record.node_keys
    assert bob.knows(alice).record.revision == 3
    assert key_at(keys, 0, before.batch + 1) == lost, "what the lost key has signed stays valid"
    assert key_at(keys, keys[-1].from_epoch, 0) == alice.keys.node_public
    assert keys[-1].from_epoch > 0


async def test_a_name_cannot_be_signed_for_by_retired_keys(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await set_back(alice, others=[bob])
    await alice.start()
    await until(lambda: alice.keys.are_retired)
    with pytest.raises(Refusal, match="later keys"):
        await alice.rotation.begin(new_keys=False)


async def test_a_later_record_of_the_same_keys_is_put_to_use(alice, bob):
    """Only a name or an address had changed; the link comes up, and the hello tells."""
    await pair(alice, bob)
    await linked(alice, bob)
    await set_back(alice, new_keys=False, others=[bob])
    await alice.start()
    await until(lambda: alice.keys.key_record.revision == 2)
    assert not alice.keys.are_retired
    await linked(alice, bob)
    loaded = node_keys.load(alice.folder / "data", SETTINGS)
    assert loaded.key_record == alice.keys.key_record == bob.knows(alice).record


async def test_an_older_record_changes_nothing(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    older = alice.keys.record
    await alice.rotate()
    await until(lambda: bob.knows(alice).record.revision == 2)
    held = await bob.partners.swap_records(older)
    assert held == alice.keys.record, "whoever brings an older record is shown the later one"
    await alice.rotation.learn(older)
    assert alice.keys.key_record.revision == 2
    assert not alice.keys.are_retired
