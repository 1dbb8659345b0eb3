"""The listener for partners: mutual TLS with pinned certificates."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from peer.config import Settings
from peer.errors import Damaged, NodeError
from peer.federation.serving import Room, Server, refuse
from peer.keys import NodeKeys
from peer.keys.tls import federation_context
from peer.link import Links, PackReader
from peer.link.connection import new_socket
from peer.logs import Seldom
from peer.partners import Partner, Partners
from protocol.budget import Load
from protocol.errors import Malformed, Refusal, RemoteProtocolError
from protocol.identifiers import PeerId
from protocol.limits import PIECE_BYTES

WRITE_BYTES: Final = 128 * 1024
"""Handed to TLS at a time: of 64, 128 and 256 KiB the one that cost the least; of a whole MiB most
piles up in between and is moved again and again."""

PARTNER: Final = web.RequestKey("partner", Partner)

_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})")

_log = structlog.get_logger()

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FederationListener:
    """Serves links and packs to the partners of the moment.

    Who is admitted is asked three times: by TLS at the handshake, by the trust table at every
    request (a connection may be older than a removal), and by whoever writes a stream.
    """

    def __init__(
        self,
        keys: NodeKeys,
        partners: Partners,
        links: Links,
        packs: PackReader,
        settings: Settings,
    ) -> None:
        self._keys = keys
        self._partners = partners
        self._links = links
        self._packs = packs
        self._heartbeat_s = settings.link.heartbeat_s
        self._faults = Seldom(settings.audit.fault_s)
        self._requests: set[asyncio.Transport] = set()
        self._stopping = False
        self._downloads: defaultdict[PeerId, set[asyncio.Transport]] = defaultdict(set)
        self._trusted = self._rebuild()
        # This one holds no certificate of a partner.  For each handshake the context of the moment
        # takes its place; mode, version and the absence of tickets remain those of the outer one.
        outer = federation_context(keys, ())
        outer.sni_callback = self._swap
        app = web.Application(middlewares=[self._admit])
        app.on_shutdown.append(self._abort)
        app.router.add_get("/v1/link", self._link)
        app.router.add_get("/v1/packs/{grant:[0-9a-f]{32}}/{pack:[0-9a-f]{32}}", self._pack)
        own = settings.federation
        # A partner's link may live for long, and a stranger gets no further than the handshake.
        room = Room(
            own.max_connections, own.max_connections_each, None, own.handshake_s, own.idle_s
        )
        self._server = Server(app, own.host, own.port, outer, room)
        partners.on_change(self._partner_changed)

    async def start(self) -> int:
        """Listen; return the port."""
        self._trusted = self._rebuild()
        return await self._server.start()

    async def stop(self) -> None:
        """Stop listening and end every connection; downloads are resumed by those who want them."""
        await self._server.stop()

    def keys_changed(self) -> None:
        """Show this node's new certificate from now on."""
        self._trusted = self._rebuild()

    async def _abort(self, _app: web.Application) -> None:
        # A server of aiohttp's that stops takes in no more data, not even a goodbye: whatever waits
        # for some would wait in vain.
        self._stopping = True
        for transport in list(self._requests):
            transport.abort()

    # -- trust ------------------------------------------------------------------------------------

    def _rebuild(self) -> ssl.SSLContext:
        trusted = [partner.record.tls_certificate for partner in self._partners.active()]
        return federation_context(self._keys, trusted)

    def _swap(self, handshake: ssl.SSLObject, _name: str | None, _outer: ssl.SSLContext) -> None:
        # Called for every handshake, even if the client names no server.
        handshake.context = self._trusted

    def _partner_changed(self, peer_id: PeerId, _what: str) -> None:
        self._trusted = self._rebuild()
        for transport in list(self._downloads[peer_id]):
            partner = self._partners.by_certificate(_certificate(transport))
            if partner is None or partner.peer_id != peer_id:
                transport.abort()

    @web.middleware
    async def _admit(self, request: web.Request, handler: Next) -> web.StreamResponse:
        transport = request.transport
        partner = self._partners.by_certificate(_certificate(transport))
        if partner is None or transport is None:
            if self._faults.is_due(request.remote, time.monotonic()):
                _log.warning("stranger-refused", remote=request.remote)
            response = refuse(_stranger())
            response.force_close()
            return response
        if self._stopping:
            raise web.HTTPServiceUnavailable
        request[PARTNER] = partner
        self._requests.add(transport)
        try:
            return await handler(request)
        except (Refusal, RemoteProtocolError) as error:
            return refuse(error)
        except NodeError:
            _log.exception("request-failed", partner=partner.peer_id.hex())
            return refuse(
                Refusal("failed", "They could not carry this out.", "Their log has the cause.")
            )
        finally:
            self._requests.discard(transport)

    # -- what is served ---------------------------------------------------------------------------

    async def _link(self, request: web.Request) -> web.StreamResponse:
        socket = new_socket(self._heartbeat_s)
        await socket.prepare(request)
        await self._links.accept(socket, request[PARTNER])
        return socket

    async def _pack(self, request: web.Request) -> web.StreamResponse:
        partner = request[PARTNER]
        start, end = _asked(request)
        grant_id = bytes.fromhex(request.match_info["grant"])
        pack_id = bytes.fromhex(request.match_info["pack"])
        read = partial(self._piece, partner, grant_id, pack_id, end)
        # The first piece decides about the answer's status, so it comes before the headers.
        piece = await read(start)
        response = web.StreamResponse(
            status=206,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(end - start),
                "Content-Range": f"bytes {start}-{end - 1}/*",
            },
        )
        await response.prepare(request)
        downloads, transport = self._downloads[partner.peer_id], request.transport
        if transport is None:
            return response
        downloads.add(transport)
        try:
            await _write(response, piece)
            for at in range(start + PIECE_BYTES, end, PIECE_BYTES):
                await _write(response, await read(at))
            await response.write_eof()
        except (Refusal, RemoteProtocolError, NodeError) as error:
            # The headers are gone: only a broken stream says that the rest is not coming.
            reason = type(error).__name__
            _log.warning("download-cut", partner=partner.peer_id.hex(), reason=reason)
            transport.abort()
        finally:
            downloads.discard(transport)
        return response

    async def _piece(
        self, partner: Partner, grant_id: bytes, pack_id: bytes, end: int, at: int
    ) -> bytes:
        if self._partners.by_certificate(partner.record.tls_certificate) is None:
            raise _stranger()
        until = min(end, at + PIECE_BYTES)
        await self._links.spend(partner.peer_id, Load.RANGES, until - at)
        piece = await self._packs(partner, grant_id, pack_id, at, until)
        if len(piece) != until - at:
            raise Damaged("A pack is shorter than was promised. Restore it from a backup.")
        return piece


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    view = memoryview(piece)
    for at in range(0, len(view), WRITE_BYTES):
        await response.write(view[at : at + WRITE_BYTES])


def _stranger() -> Refusal:
    return Refusal("not-a-partner", "This facility is not a partner (any more).", "Pair first.")


def _certificate(transport: asyncio.BaseTransport | None) -> bytes | None:
    """Return the certificate (DER) that the other side of a TLS connection has shown."""
    handshake = None if transport is None else transport.get_extra_info("ssl_object")
    return None if handshake is None else handshake.getpeercert(binary_form=True)


def _asked(request: web.Request) -> tuple[int, int]:
    """Return start and end (not included) of the one range that is asked for."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if match is None or int(match[2]) < int(match[1]):
        msg = "a pack is asked for by one range of bytes with start and end"
        raise Malformed(msg)
    return int(match[1]), int(match[2]) + 1
