"""Many instances in one request, written to the node's socket as they lie in memory.

The HTTP client of the other conversations would copy every byte several times on one core.
"""

from __future__ import annotations

import http.client
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LENGTH: Final = struct.Struct(">Q")
"""Before each instance, how many bytes it has."""

BUFFER_BYTES: Final = 1024 * 1024
"""How much the kernel may hold between the two processes, so that neither waits for the other."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("node", timeout=timeout_s)
        self._path = path

    # typing.override came with Python 3.12.
    def connect(self) -> None:  # type: ignore[explicit-override]
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self.sock.connect(str(self._path))


def send(path: Path, address: str, contents: Sequence[bytes], timeout_s: float) -> tuple[int, str]:
    """Post the instances over the socket at `path`; return status and text of the answer.

    Blocks.  Raises OSError or http.client.HTTPException if the node ends the conversation.
    """
    connection = _Connection(path, timeout_s)
    try:
        connection.putrequest("POST", address)
        connection.putheader("Content-Type", "application/octet-stream")
        size = sum(LENGTH.size + len(content) for content in contents)
        connection.putheader("Content-Length", str(size))
        connection.endheaders()
        try:
            for content in contents:
                connection.send(LENGTH.pack(len(content)))
                connection.send(content)
        except (BrokenPipeError, ConnectionResetError):
            pass  # A node that refuses does not read on; why, stands in its answer.
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
