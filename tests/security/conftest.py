"""Three partners, of whom one goes rogue."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from peer.clock import ManualClock
from peer.index.held import Held
from protocol.identifiers import EntryId
from protocol.journal import Withdraw
from tests.facilities import START
from tests.rogue import dialled, gone_rogue
from tests.simulation.memory import live_entries
from tests.whole_nodes import until, whole_nodes

HONEST, MALLORYS = "1.2.840.99.1", "1.2.840.99.2"
"""Studies of one patient, at alice and at mallory."""


class Scene:
    """Bob follows alice, who stays honest, and mallory, whose program is the test's."""

    def __init__(self, alice, bob, mallory, clock):
        self.alice, self.bob, self.mallory, self.clock = alice, bob, mallory, clock
        self.keys = self.history = None

    @property
    def all_found(self):
        return {("alice", HONEST), ("mallory", MALLORYS)}

    @property
    def alices(self):
        return {("alice", HONEST)}

    async def begin(self):
        """Let both publish, and bob find it; then mallory's node is replaced by a rogue."""
        for node, uid in ((self.alice, HONEST), (self.mallory, MALLORYS)):
            await node.scan(uid)
            await node.consent()

        async def found():
            return await self.bob.finds() == self.all_found

        await until(found, "bob does not find what both have published")
        self.keys, self.history = await gone_rogue(self.mallory)
        await until(lambda: not self.bob.freshness(self.mallory).connected)

    @asynccontextmanager
    async def link(self):
        async with dialled(self.keys, self.bob) as rogue:
            yield rogue

    @property
    def held(self):
        """The head that bob holds of mallory's journal."""
        return self.bob.freshness(self.mallory).head

    def withdraw_all(self):
        """Return the batch with which mallory withdraws all that it has published."""
        entries = [Withdraw(EntryId(each.entry_id)) for each in self.history.live]
        return self.history.append(*entries, now=self.clock.now())

    def on_disk(self, data):
        """Return whether bytes stand anywhere in what bob keeps of partners, log included."""
        return any(data in path.read_bytes() for path in self.bob.data.glob("partners.db*"))

    async def bodies(self):
        """Return the bodies that bob holds of mallory's journal."""

        def work(tx):
            return [e.payload for e in live_entries(Held(tx, self.keys.peer_id))]

        return await self.bob.rooms.gossip._partners_db.read(work)

    async def restart_bob(self):
        await self.bob.stop()
        await self.bob.start()


@pytest.fixture
async def scene(tmp_path):
    clock = ManualClock(START)
    async with whole_nodes(tmp_path, clock, "alice", "bob", "mallory") as nodes:
        scene = Scene(*nodes, clock)
        await scene.begin()
        yield scene
