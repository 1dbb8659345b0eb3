"""What both listeners have in common: answers, and an aiohttp server on one TLS port."""

from __future__ import annotations

import ssl

from aiohttp import web

from peer.errors import ConfigError
from protocol.errors import Refusal, RemoteProtocolError
from protocol.messages import Refused
from protocol.records import to_bytes

CONTENT_TYPE = "application/x-msgpack"
HEADER_BYTES = 4096
"""Requests here have short paths and few headers."""

IDLE_S = 75.0
"""An idle kept-alive connection is closed after this; a download opens a new one."""

STOP_S = 3.0
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


class Server:
    """An application on one port, behind one TLS context."""

    def __init__(self, app: web.Application, host: str, port: int, context: ssl.SSLContext) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=IDLE_S,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            shutdown_timeout=STOP_S,
            handler_cancellation=True,
        )
        self._host = host
        self._port = port
        self._context = context

    async def start(self) -> int:
        """Listen; return the port, which was chosen by the system if it was 0."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._context)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"{self._host}:{self._port} cannot be listened on: {error.strerror}. Choose "
                "another port or end the program that holds it."
            ) from error
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        await self._runner.cleanup()
