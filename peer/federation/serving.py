"""What both listeners have in common: answers, and an aiohttp server on one TLS port."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from peer.errors import ConfigError
from peer.ports import Listener, close
from protocol.errors import Refusal, RemoteProtocolError
from protocol.messages import Refused
from protocol.records import to_bytes

CONTENT_TYPE: Final = "application/x-msgpack"
HEADER_BYTES: Final = 4096
"""Requests here have short paths and few headers."""

GOODBYE_S: Final = 2.0
"""How long the other side may take to answer the end of a TLS connection."""

STOP_S: Final = 3.0
"""How long requests in progress may go on when the node stops."""


def answer(record: object) -> web.Response:
    """Return a record as the answer to a request."""
    return web.Response(body=to_bytes(record), content_type=CONTENT_TYPE)


def refuse(error: Refusal | RemoteProtocolError) -> web.Response:
    """Return the answer "no", in the form in which links tell it too."""
    if isinstance(error, Refusal):
        status, refused = 403, Refused(error.code, error.reason, error.remedy)
    else:
        status, refused = 400, Refused(error.code, str(error), "")
    return web.Response(status=status, body=to_bytes(refused), content_type=CONTENT_TYPE)


@dataclass(frozen=True, slots=True)
class Room:
    """What a port has for its callers: how many connections it holds, and for how long."""

    most: int
    most_each: int
    """Of one address."""
    oldest_s: float | None
    """When it is full, older ones have to go; None where they may live long."""
    handshake_s: float
    """For the TLS handshake, which takes two round trips."""
    idle_s: float
    """Without a request."""


class Server:
    """An application on one port, behind one TLS context."""

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        context: ssl.SSLContext,
        room: Room,
    ) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=room.idle_s,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            shutdown_timeout=STOP_S,
            handler_cancellation=True,
        )
        self._host = host
        self._port = port
        self._context = context
        self._room = room
        self._listening: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; return the port, which was chosen by the system if it was 0."""
        await self._runner.setup()
        if self._runner.server is None:
            raise ConfigError("A listener that was stopped is not started again; make a new one.")
        try:
            listener = await asyncio.to_thread(self._bind)
            self._listening = await asyncio.get_running_loop().create_server(
                self._runner.server,
                sock=listener,
                ssl=self._context,
                ssl_handshake_timeout=self._room.handshake_s,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"{self._host}:{self._port} cannot be listened on: {error.strerror}. Choose "
                "another port or end the program that holds it."
            ) from error
        port: int = self._listening.sockets[0].getsockname()[1]
        return port

    def _bind(self) -> Listener:
        room = self._room
        return Listener(
            self._host,
            self._port,
            most=room.most,
            most_each=room.most_each,
            oldest_s=room.oldest_s,
        )

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await close(listening)
        await self._runner.cleanup()
