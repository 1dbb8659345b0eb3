"""The door: connections of senders, one message after the other on each."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final

import structlog

from peer.config import Hl7Settings
from peer.errors import ConfigError
from peer.hl7.framing import PIECE, NotFramed, framed, read_rest, read_start
from peer.hl7.inbox import Hl7
from peer.logs import Seldom
from peer.ports import Listener, close
from peer.tls import server_context

GOODBYE_S: Final = 2.0
"""How long the other side may take to answer the end of a TLS connection."""

_log = structlog.get_logger()


class Hl7Listener:
    """Listens for senders; `fault_s`: how seldom the same fault of an address is logged."""

    def __init__(self, settings: Hl7Settings, room: Hl7, fault_s: float) -> None:
        self._settings = settings
        self._room = room
        self._faults = Seldom(fault_s)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; return the port.  Raises ConfigError."""
        settings = self._settings
        context = server_context(settings, "hl7") if settings.tls_certificate else None
        handshake_s = None if context is None else float(settings.message_s)
        goodbye_s = None if context is None else GOODBYE_S
        try:
            listener = await asyncio.to_thread(
                Listener,
                settings.host,
                settings.port,
                most=settings.max_connections,
                most_each=settings.max_connections_each,
            )
            self._server = await asyncio.start_server(
                self._connected,
                sock=listener,
                limit=PIECE,
                ssl=context,
                ssl_handshake_timeout=handshake_s,
                ssl_shutdown_timeout=goodbye_s,
            )
        except OSError as error:
            raise ConfigError(
                f"Cannot listen for HL7 on {settings.host} port {settings.port}: {error.strerror}. "
                "Change hl7.host or hl7.port, or stop the program that has the port."
            ) from error
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        server, self._server = self._server, None
        if server is not None:
            await close(server)
        for each in self._open:
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _connected(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._open.add(task)
        try:
            # A sender that is switched off never says so; it would keep its place.
            accepted = writer.get_extra_info("socket")
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await self._serve(stream, writer)
        except (NotFramed, OSError) as error:
            address = _address(writer)
            if self._is_due("broken off", address):
                _log.warning("hl7-broken-off", remote=address, reason=type(error).__name__)
        except asyncio.CancelledError:
            return  # The node stops.
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = _address(writer)
        candidates = await asyncio.to_thread(self._room.senders.at, address)
        if not candidates:
            if self._is_due("stranger", address):
                _log.warning("hl7-stranger", remote=address)
            return
        while await self._started(stream):
            async with asyncio.timeout(self._settings.message_s):
                arrived = await read_rest(stream, self._settings.max_message_bytes)
            # If the node stops meanwhile there is no answer; sent again, the message is known.
            answer = await self._room.receive(arrived, candidates)
            writer.write(framed(answer))
            try:
                async with asyncio.timeout(self._settings.message_s):
                    await writer.drain()
            except TimeoutError:
                # Closing would wait until the other side has read what it does not read.
                writer.transport.abort()
                raise

    async def _started(self, stream: asyncio.StreamReader) -> bool:
        try:
            async with asyncio.timeout(self._settings.idle_s):
                return await read_start(stream)
        except TimeoutError:
            return False

    def _is_due(self, fault: str, address: str) -> bool:
        return self._faults.is_due((fault, address), time.monotonic())


def _address(writer: asyncio.StreamWriter) -> str:
    # Of a caller who has gone already there is none.
    return str((writer.get_extra_info("peername") or ("",))[0])
