"""Eve signs a manifest whose pack id is that of a pack that Alice holds already.

What she could do without the defence: have Alice overwrite a study of another facility, adopt its
bytes under Eve's name, or destroy it when the retrieval fails.
"""

from __future__ import annotations

import secrets

import pytest

from peer.store import PackWriter
from tests.transfers import STUDY, hospitals, ready

VICTIM = "1.2.3.4"


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Eve") as opened:
        yield opened


def reuse(eve, pack_id):
    """Let the next pack that Eve writes have this id."""

    def new_pack():
        return PackWriter(eve.store._path(pack_id), pack_id, secrets.token_bytes(32))

    eve.store.new_pack = new_pack


async def test_a_pack_that_is_on_record_is_neither_written_nor_destroyed(pair):
    alice, eve = pair
    mine = await alice.scan(VICTIM, count=1)
    (pack_id,) = alice.store.sizes()
    before = alice.store.read_range(pack_id, 0, 10**6)
    reuse(eve, pack_id)
    await ready(alice, eve)

    done = await alice.fetch(eve)
    assert (done.state, done.row.code) == ("failed", "wrong-content")
    assert alice.store.read_range(pack_id, 0, 10**6) == before
    assert await alice.kept(VICTIM) == mine


async def test_a_pack_that_is_arriving_for_another_retrieval_is_left_alone(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob", "Eve") as (alice, bob, eve):
        files = await ready(alice, bob)
        (pack_id,) = bob.store.sizes()
        reuse(eve, pack_id)
        await eve.scan(VICTIM, count=1)
        await eve.consent()
        await eve.share(alice, bob)
        assert ("Eve", VICTIM) in await alice.finds()
        tried = []

        async def attack(path, start, data):
            if not tried:
                tried.append(start)
                tried.append(await alice.fetch(eve, VICTIM))
            return data

        alice.links.meddle = attack
        done = await alice.fetch(bob)
        assert tried[1].state == "failed"
        assert done.state == "complete"
        assert await alice.kept(STUDY) == files
