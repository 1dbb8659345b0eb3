"""The listener for those who are not partners yet: pairing, and the newest key records.

It asks for no certificate.  Everything that is said here is proved by the secret of an invitation,
by a root key's signature, or by a pinned node key; requests are few and small.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from aiohttp import web

from peer.config import Settings
from peer.errors import NodeError
from peer.federation.serving import Room, Server, answer, refuse
from peer.keys import NodeKeys
from peer.keys.tls import pairing_context, show_own
from peer.logs import Seldom
from peer.partners import Partners
from peer.partners.calls import AGREED_PATH, JOIN_PATH, RECORD_PATH, REVEAL_PATH
from protocol.errors import Oversized, Refusal, RemoteProtocolError
from protocol.keyrecord import SignedKeyRecord
from protocol.limits import PAIRING_BYTES
from protocol.pairing import Agreed, Join, Reveal
from protocol.records import from_bytes

Message = TypeVar("Message")

_log = structlog.get_logger()


class PairingListener:
    """Serves pairing and key records to anybody."""

    def __init__(self, keys: NodeKeys, partners: Partners, settings: Settings) -> None:
        self._keys = keys
        self._partners = partners
        self._busy = 0
        self._faults = Seldom(settings.audit.fault_s)
        own = settings.pairing
        self._most_busy = own.max_requests
        app = web.Application(client_max_size=PAIRING_BYTES, middlewares=[self._guard])
        app.router.add_get(RECORD_PATH, self._record)
        app.router.add_post(RECORD_PATH, self._newer_record)
        app.router.add_post(JOIN_PATH, self._post(Join, partners.pairings.receive_join))
        app.router.add_post(REVEAL_PATH, self._post(Reveal, partners.pairings.receive_reveal))
        app.router.add_post(AGREED_PATH, self._post(Agreed, partners.pairings.receive_agreed))
        self._context = pairing_context(keys)
        # A pairing takes four requests of some kilobytes each: nobody needs to stay.
        room = Room(
            own.max_connections,
            own.max_connections_each,
            own.full_s,
            own.handshake_s,
            own.idle_s,
        )
        self._server = Server(app, own.host, own.port, self._context, room)

    async def start(self) -> int:
        """Listen; return the port."""
        return await self._server.start()

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        await self._server.stop()

    def keys_changed(self) -> None:
        """Show this node's new certificate from now on."""
        show_own(self._context, self._keys)

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        # Strangers must not keep the index busy.
        if self._busy >= self._most_busy:
            return refuse(Refusal("busy", "They have too much to do just now.", "Try again."))
        self._busy += 1
        try:
            return await handler(request)
        except (Refusal, RemoteProtocolError) as error:
            if self._faults.is_due((request.remote, error.code), time.monotonic()):
                _log.warning("pairing-refused", remote=request.remote, code=error.code)
            return refuse(error)
        except NodeError:
            _log.exception("pairing-failed")
            return refuse(
                Refusal("failed", "They could not carry this out.", "Their log has the cause.")
            )
        finally:
            self._busy -= 1

    async def _record(self, _request: web.Request) -> web.StreamResponse:
        return answer(self._keys.record)

    async def _newer_record(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._partners.swap_records(await _read(request, SignedKeyRecord)))

    def _post(
        self, kind: type[Message], receive: Callable[[Message], Awaitable[object]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return answer(await receive(await _read(request, kind)))

        return handle


async def _read(request: web.Request, kind: type[Message]) -> Message:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        msg = f"a message of a pairing has at most {PAIRING_BYTES} bytes"
        raise Oversized(msg) from error
    return from_bytes(kind, body, PAIRING_BYTES)
