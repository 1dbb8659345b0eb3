"""A facility of `facility` with a journal and its exchange."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from peer.gossip import Gossip
from peer.index import journal
from peer.index.database import PARTNERS_MIGRATIONS, Database
from peer.recovery import Recovery
from tests.simulation.memory import labels_of, publish
from tests.unit.federation.facility import Facility, linked, until


class Node(Facility):
    """One facility that publishes and follows."""

    partners_db = None

    @classmethod
    @asynccontextmanager
    async def open(cls, name, folder, clock=None, *, reachable=True):
        async with super().open(name, folder, clock, reachable=reachable) as self:
            await self.publish(publish(1))
            yield self

    async def close(self):
        await super().close()
        if self.partners_db is not None:
            await self.partners_db.close()

    async def start(self):
        if self.partners_db is None:
            self.partners_db = await Database.open(
                self.folder / "partners.db", None, PARTNERS_MIGRATIONS
            )
        await super().start()
        recovery = Recovery(self.db, self.folder, self.keys, self.clock, self.partners.active)
        self.gossip = Gossip(
            self.db,
            self.partners_db,
            self.links,
            self.keys,
            self.clock,
            partners=self.partners,
            recovery=recovery,
            labels=labels_of,
            settings=self.settings,
        )
        self.partners.on_change(self.changed)
        self.tasks.append(asyncio.create_task(self.gossip.run()))

    async def changed(self, peer_id, what):
        """What `peer.runtime` ties together."""
        if what == "record":
            await self.gossip.keys_changed(peer_id)
        elif what == "removed":
            await self.gossip.forget(peer_id)

    async def publish(self, *entries):
        now = self.clock.now()
        await self.db.write(lambda tx: journal.append_entries(tx, self.keys, entries, now, 3600))
        await self.gossip.appended()

    async def head(self):
        return await self.db.read(lambda tx: journal.head(tx, self.peer_id))

    async def follows(self, other):
        """Wait until all of the journal of `other` is here."""
        head = await other.head()

        def there():
            known = self.gossip.coverage().get(other.peer_id)
            return known is not None and known.head == head

        await until(there, 30)


async def meet_again(one, other):
    """Wait until both have a link under keys that both know, and each other's journals."""

    def known():
        return (
            one.knows(other).record == other.keys.key_record
            and other.knows(one).record == one.keys.key_record
        )

    await until(known, 30)
    await until(lambda: one.links.state(other.peer_id).connected, 30)
    await until(lambda: other.links.state(one.peer_id).connected, 30)
    await linked(one, other)
    await one.follows(other)
    await other.follows(one)
