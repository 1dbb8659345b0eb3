"""Key records between partners: told over a link, and by the pairing listener where none comes up.

After a rotation a partner's TLS refuses this node, or this node refuses a partner's.  Either asks
the other's pairing listener, which admits anyone and believes the root keys alone.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from peer.errors import NodeError
from peer.keys import NodeKeys
from peer.link.connection import Connection
from peer.link.state import NotConnected
from peer.outbound import WRONG_CERTIFICATE
from peer.partners import Partner, Partners
from protocol.errors import Refusal, RemoteProtocolError, WrongAddressee
from protocol.identifiers import PeerId
from protocol.keyrecord import verify_record
from protocol.messages import Done, Hello, NewKeyRecord

TELL_S: Final = 10
"""A round trip and a transaction at the other side; whoever needs longer asks for it later."""

AGAIN_S: Final = 600
"""A partner that refuses us and is known to have our newest record is told again this often: its
index may have been put back to an older copy."""

_log = structlog.get_logger()


class Acquaintance:
    """Keeps partners informed of this node's key record, and follows theirs."""

    def __init__(self, keys: NodeKeys, partners: Partners) -> None:
        self._keys = keys
        self._partners = partners
        self._introduced: dict[PeerId, float] = {}

    @property
    def revision(self) -> int:
        """The revision of our own record."""
        return self._keys.key_record.revision

    async def tell(self, connection: Connection) -> None:
        """Tell our record over a link and note that the partner holds it, if it says so."""
        revision = self.revision
        try:
            answer = await connection.request(NewKeyRecord(self._keys.record), TELL_S)
            if isinstance(answer, Done):
                await self._partners.note_held(connection.partner, revision)
        except (NotConnected, TimeoutError, Refusal, NodeError) as error:
            reason = type(error).__name__
            _log.info("key-record-not-told", partner=connection.partner.hex(), reason=reason)

    async def learn(self, connection: Connection, hello: Hello) -> None:
        """Note what the partner knows of our keys, and tell it if they are newer ones."""
        if hello.record_held < self.revision:
            await self.tell(connection)
        elif hello.record_held > self.revision:
            await self._ask_for_ours(connection.partner)
        else:
            await self._partners.note_held(connection.partner, hello.record_held)

    async def _ask_for_ours(self, partner: PeerId) -> None:
        """Have a partner show the record of ours that it says to hold, and this node does not."""
        try:
            await self._partners.introduce(partner)
        except (Refusal, RemoteProtocolError, NodeError) as error:
            _log.info("own-record-not-shown", partner=partner.hex(), reason=type(error).__name__)

    async def receive(self, message: NewKeyRecord, partner: Partner) -> None:
        """Follow the record that a partner tells over its link."""
        if verify_record(message.record).peer_id != partner.peer_id:
            msg = "a partner tells the key record of another facility"
            raise WrongAddressee(msg)
        await self._partners.accept_record(message.record)

    async def seek(self, partner: Partner, code: str) -> None:
        """Find out whether a link failed, with `code`, because either side has new keys."""
        now = asyncio.get_running_loop().time()
        try:
            if code == WRONG_CERTIFICATE:
                await self._partners.catch_up(partner.peer_id)
            last = self._introduced.get(partner.peer_id)
            if partner.holds < self.revision or last is None or now - last >= AGAIN_S:
                self._introduced[partner.peer_id] = now
                await self._partners.introduce(partner.peer_id)
        except (Refusal, RemoteProtocolError, NodeError) as error:
            _log.info("not-introduced", partner=partner.peer_id.hex(), reason=type(error).__name__)
