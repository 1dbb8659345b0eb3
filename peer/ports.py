"""Listening sockets that hold only so many connections.

A process has 1024 file descriptors by default, and the DICOM library waits by select(2), which
knows none above that.  Whoever can reach one port must not be able to use up what all others need.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, Final, NamedTuple

BACKLOG: Final = 128
"""Connections that the system keeps until they are taken."""


class _Taken(NamedTuple):
    host: str
    at: float


class Listener(socket.socket):
    """A bound TCP socket; `accept` takes at most `most` connections, `most_each` of one address.

    When it is full, connections older than `oldest_s` are ended to make room: for ports whose
    requests are short.  None leaves them alone.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        most: int,
        most_each: int | None = None,
        oldest_s: float | None = None,
    ) -> None:
        """Bind; raise OSError if the address cannot be had."""
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        super().__init__(family, kind, protocol)
        self._most = most
        self._most_each = most if most_each is None else most_each
        self._oldest_s = oldest_s
        self._taken: dict[socket.socket, _Taken] = {}
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.bind(address)
            self.listen(BACKLOG)
            self.setblocking(False)
        except OSError:
            self.close()
            raise

    # typing.override came with Python 3.12.
    def accept(self) -> tuple[socket.socket, Any]:  # type: ignore[explicit-override]
        """Take a connection; if there is no room, close it and raise ConnectionAbortedError.

        Servers expect that error: it is also the system's for a caller who has given up.
        """
        connection, address = super().accept()
        now = time.monotonic()
        host = address[0]
        self._taken = {each: taken for each, taken in self._taken.items() if each.fileno() >= 0}
        if len(self._taken) >= self._most and self._oldest_s is not None:
            self._end_older_than(now - self._oldest_s)
        of_host = sum(taken.host == host for taken in self._taken.values())
        if len(self._taken) >= self._most or of_host >= self._most_each:
            connection.close()
            raise ConnectionAbortedError
        self._taken[connection] = _Taken(host, now)
        return connection, address

    def _end_older_than(self, instant: float) -> None:
        for connection, taken in list(self._taken.items()):
            if taken.at < instant:
                del self._taken[connection]
                try:
                    # Whoever reads from it meets its end, and closes it.
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue


async def close(server: asyncio.Server) -> None:
    """Let a server listen no longer; what is connected stays."""
    # What was accepted just now gets its transport in the next round of the loop; a server that is
    # closed by then would lose it, unclosed.
    for each in server.sockets:
        asyncio.get_running_loop().remove_reader(each.fileno())
    await asyncio.sleep(0)
    server.close()
