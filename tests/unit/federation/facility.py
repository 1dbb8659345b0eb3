"""Whole facilities in one process: real keys, indexes, listeners and sockets on loopback."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

from peer import keys as node_keys
from peer.actors import Actor, Role
from peer.audit import Audit
from peer.clock import ManualClock
from peer.config import Settings
from peer.federation import FederationListener, PairingListener
from peer.index.database import INDEX_MIGRATIONS, Database
from peer.link import Links
from peer.outbound import Proxy
from peer.partners import Partners
from peer.rotation import Rotation
from protocol.agreement import Terms
from protocol.errors import Refusal
from protocol.keyrecord import sign_record
from protocol.limits import PIECE_BYTES
from protocol.versions import OURS
from tests.processes import free_ports

NOW = 1_800_000_000
OPERATOR = Actor("op", "person", frozenset({Role.OPERATOR}))
SETTINGS = Settings()
PACK = bytes(range(256)) * 4096 * 32


class Facility:
    """One facility.  `reachable=False`: no listener of it can be dialled."""

    def __init__(self, name, folder, clock):
        self.name, self.folder, self.clock = name, folder, clock
        self.refuse_packs = False
        self.may_write = True
        self.terms = Terms()
        self.proxy, self.speaks = Proxy(), OURS
        self.pieces = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        name,
        folder: Path,
        clock=None,
        *,
        reachable=True,
        terms=None,
        **pairing,
    ):
        self = cls(name, folder / name, clock or ManualClock(NOW))
        self.terms = terms or Terms()
        self.listen_on(*free_ports(2), **pairing)
        url = "https://127.0.0.1:{}" if reachable else ""
        self.keys = node_keys.create(
            self.folder / "data",
            self.folder / "root.key",
            name,
            now=self.clock.now(),
            federation_url=url.format(self.port),
            pairing_url=url.format(self.pairing_port),
        )
        self.db = await Database.open(
            self.folder / "index.db", self.keys.index_key, INDEX_MIGRATIONS
        )
        try:
            await Audit.open(self.db, self.clock, self.keys.audit_key)
            await self.start()
            try:
                yield self
            finally:
                await self.stop()
        finally:
            await self.close()

    def listen_on(self, port, pairing_port, **pairing):
        """Have the listeners take other ports at the next start; the addresses stay as they are."""
        self.port, self.pairing_port = port, pairing_port
        self.settings = Settings(
            federation={"host": "127.0.0.1", "port": port},
            pairing={"host": "127.0.0.1", "port": pairing_port, **pairing},
        )

    async def start(self):
        """Start all that `runtime` would start; again after `stop` for a restart."""
        self.partners = Partners(
            self.db,
            self.keys,
            self.clock,
            self.settings.pairing,
            terms=self.terms,
            proxy=self.proxy,
        )
        await self.partners.load()
        self.links = Links(
            self.keys,
            self.partners,
            self.clock,
            self.settings.link,
            self.settings.audit.fault_s,
            self.proxy,
            self.speaks,
        )
        self.links.serve_packs(self.read_pack)
        self.federation = FederationListener(
            self.keys, self.partners, self.links, self.read_pack, self.settings
        )
        self.pairing = PairingListener(self.keys, self.partners, self.settings)
        await self.federation.start()
        await self.pairing.start()
        self.rotation = Rotation(
            self.folder / "data",
            self.settings,
            db=self.db,
            keys=self.keys,
            clock=self.clock,
            links=self.links,
            may_write=lambda _: self.may_write,
        )
        self.partners.on_own_record(self.rotation.learn)
        await self.rotation.put_on_record()
        self.rotation.on_changed(self.federation.keys_changed)
        self.rotation.on_changed(self.pairing.keys_changed)
        self.tasks = [
            asyncio.create_task(self.partners.run()),
            asyncio.create_task(self.links.run()),
        ]

    async def close(self):
        """Close what is left when everything has stopped."""
        await self.db.close()

    def root_seed(self):
        return node_keys.read_root_key(self.folder / "root.key")

    async def rotate(self, *, new_keys=True):
        """Do what `openpriors keys rotate` does, or `keys renew`."""
        record = await self.rotation.begin(new_keys=new_keys)
        await self.rotation.finish(sign_record(self.root_seed(), record), OPERATOR)

    async def rotate_while_stopped(self):
        """Rotate with every listener closed, as if nobody could be told."""
        await self.stop()
        position = await self.db.read(self.rotation._next_position)
        self.keys = node_keys.renew(
            self.folder / "data",
            SETTINGS,
            self.folder / "root.key",
            now=self.clock.now(),
            new_keys_from=position,
        )

    async def stop(self):
        for task in self.tasks:
            task.cancel()
        ends = await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.federation.stop()
        await self.pairing.stop()
        await asyncio.sleep(0.05)  # TLS says goodbye in the background.
        for end in ends:
            assert isinstance(end, asyncio.CancelledError), f"a background task failed: {end!r}"

    @property
    def peer_id(self):
        return self.keys.peer_id

    async def read_pack(self, partner, grant_id, pack_id, start, end):
        assert end - start <= PIECE_BYTES, "a reader is asked for one piece at a time"
        if self.refuse_packs:
            raise Refusal("revoked", "The consent was revoked.", "Ask the patient.")
        self.pieces.append((grant_id, pack_id, start, end))
        return PACK[start:end]

    def knows(self, other):
        return self.partners.get(other.peer_id)


async def until(condition, seconds=60):
    """Wait until `condition()` holds; fail if it never does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


async def pair(inviter, joiner, *, confirm=True):
    """Pair two facilities as two operators would."""
    invitation, _ = await inviter.partners.invite(OPERATOR)
    partner = await joiner.partners.join(invitation, OPERATOR)
    await until(lambda: inviter.knows(joiner) is not None)
    assert partner.words == inviter.knows(joiner).words
    if confirm:
        await inviter.partners.confirm(joiner.peer_id, OPERATOR)
        await joiner.partners.confirm(inviter.peer_id, OPERATOR, partner.words)
        await until(lambda: inviter.knows(joiner).active and joiner.knows(inviter).active)
    return invitation


async def linked(one, other):
    """Wait until both see the same link, and until a second one dialled meanwhile is settled."""

    def both():
        here = one.links._lines.get(other.peer_id)
        there = other.links._lines.get(one.peer_id)
        ends = [line and line.connection for line in (here, there)]
        return all(ends) and ends[0].dialler == ends[1].dialler

    await until(both)
    await asyncio.sleep(0.2)
    await until(both)
