"""The server for associations: bounded in connections, with or without TLS."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import structlog
from pynetdicom.transport import AssociationServer, ThreadedAssociationServer

_log = structlog.get_logger(__name__)


class Server(ThreadedAssociationServer):
    """The library's server, which would take any number of connections, each with two threads.

    `most_turned_away`: connections beyond the associations that are told so.  `tls`: what callers
    meet, None for no TLS; the library would shake hands with one at a time.  `handshake_s`: how
    long one may take for that.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - the library's
        most_turned_away: int,
        tls: ssl.SSLContext | None,
        handshake_s: int,
        **options: Any,  # noqa: ANN401
    ) -> None:
        self._most_turned_away = most_turned_away
        self._tls = tls
        self._handshake_s = handshake_s
        self._handshakes = 0
        self._lock = threading.Lock()
        super().__init__(*args, **options)

    # typing.override came with Python 3.12.
    def verify_request(self, request: object, client_address: object) -> bool:  # type: ignore[explicit-override]  # noqa: ARG002
        """Return whether there is room for one more connection."""
        most = self.ae.maximum_associations + self._most_turned_away
        return len(self.ae.active_associations) + self._handshakes < most

    def process_request(self, request: Any, client_address: Any) -> None:  # type: ignore[explicit-override]  # noqa: ANN401
        """Take a connection in a thread; it counts from now on."""
        with self._lock:
            self._handshakes += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # type: ignore[explicit-override]  # noqa: ANN401
        """Shake hands, if by TLS, and let the association begin."""
        try:
            if self._tls is not None:
                request = self._shake_hands(request)
            if request is not None:
                super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._handshakes -= 1

    def _shake_hands(self, connection: socket.socket) -> socket.socket | None:
        if self._tls is None:
            return connection
        try:
            connection.settimeout(self._handshake_s)
            wrapped = self._tls.wrap_socket(connection, server_side=True)
            wrapped.settimeout(None)
        except (OSError, ValueError):
            self.shutdown_request(connection)
            return None
        return wrapped

    def handle_error(self, request: object, client_address: object) -> None:  # type: ignore[explicit-override]  # noqa: ARG002
        """Name the error; the library would print all of it."""
        _log.warning("connection-failed", exc_info=True)

    def shutdown(self) -> None:  # type: ignore[explicit-override]
        """Stop serving and close; the library's own way wants to find itself in a list first."""
        # Whoever waits for callers looks only every half second whether to stop; this wakes it.
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        super(AssociationServer, self).shutdown()
        self.server_close()
