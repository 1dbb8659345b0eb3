"""A partner gone rogue: a program with a paired node's keys that says on the wire what it likes.

It dials its victim over mutual TLS as any partner does, and from then on nothing is sent that the
test has not written.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import aiohttp

from peer.index import batches as batch_rows
from peer.index.database import INDEX_MIGRATIONS, Database
from peer.keys.tls import partner_context
from protocol.limits import PROTOCOL_VERSION
from protocol.messages import (
    HAVE_DOMAIN,
    Batches,
    Have,
    HaveBody,
    Hello,
    Kind,
    OriginHead,
    Refused,
    decode,
    encode,
)
from protocol.statements import sign_statement
from tests.histories import History
from tests.whole_nodes import until


class Rogue:
    """One link to the victim.  `heard`: every message that came, in order."""

    def __init__(self, keys, victim, socket):
        self.keys, self.victim = keys, victim
        self.heard = []
        self._socket = socket

    # -- saying

    async def tell(self, message):
        await self._socket.send_bytes(encode(message, Kind.TELL))

    async def send(self, *batches, more=False, origin=None):
        """Send batches nobody has asked for, as a push."""
        await self.tell(Batches(origin or self.keys.peer_id, tuple(batches), more))

    async def claim(self, head, *, now=None, **changes):
        """Sign a HAVE that claims `head` of the own journal."""
        stated = OriginHead(
            self.keys.peer_id, head.epoch, head.batch, head.header_hash, head.last_seq
        )
        at = self.victim.clock.now() if now is None else now
        body = HaveBody(self.keys.peer_id, self.victim.peer_id, at, (replace(stated, **changes),))
        await self.tell(Have(sign_statement(self.keys.node_seed, HAVE_DOMAIN, body)))

    # -- hearing

    def refusals(self):
        """Return the codes of the refusals heard so far."""
        return [each.code for each in self.heard if isinstance(each, Refused)]

    async def refusal(self, after=0):
        """Return the code of the refusal number `after`, counted from 0, once it has come."""
        await until(lambda: len(self.refusals()) > after, "nothing was refused")
        return self.refusals()[after]

    async def hears(self, kind, number=0):
        """Return the `number`th message of a class, once it has come."""

        def found():
            return [each for each in self.heard if isinstance(each, kind)]

        await until(lambda: len(found()) > number, f"no {kind.__name__} has come")
        return found()[number]

    def last(self, kind):
        """Return the last message of a class."""
        return [each for each in self.heard if isinstance(each, kind)][-1]

    async def read(self):
        async for received in self._socket:
            frame, message = decode(received.data)
            self.heard.append(message)
            if frame.kind == Kind.REQUEST:
                no = Refused("busy", "They do not feel like it.", "")
                await self._socket.send_bytes(encode(no, Kind.REFUSAL, frame.id))


@asynccontextmanager
async def dialled(keys, victim):
    """Dial a running node with the keys of a partner of its; the link is up when this returns."""
    record = victim.keys.key_record
    context = partner_context(keys, record.tls_certificate)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.ws_connect(f"{record.federation_url}/v1/link", max_msg_size=0) as socket,
    ):
        hello = Hello(
            PROTOCOL_VERSION, PROTOCOL_VERSION, keys.peer_id, record.peer_id, 1, victim.clock.now()
        )
        await socket.send_bytes(encode(hello, Kind.REQUEST, 0))
        frame, answer = decode((await socket.receive()).data)
        assert isinstance(answer, Hello), answer
        assert frame.kind == Kind.ANSWER
        rogue = Rogue(keys, victim, socket)
        reading = asyncio.create_task(rogue.read())
        try:
            await rogue.hears(Have)  # From here on both listen.
            yield rogue
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def gone_rogue(node):
    """Stop a node; return its keys and the whole history that it has told its partners."""
    await node.stop()
    keys = node.keys
    db = await Database.open(node.data / "index.db", keys.index_key, INDEX_MIGRATIONS)
    try:
        loaded = await db.read(lambda tx: batch_rows.load(tx, keys.peer_id, 0))
        assert not loaded.more
    finally:
        await db.close()
    return keys, History(keys, loaded.batches)
