"""multipart/related bodies (RFC 2387, RFC 2046 section 5.1): written and read piece by piece."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import hdrs, web

from peer.errors import NodeError
from peer.web.uploads import Room
from protocol.errors import Refusal

PIECE_BYTES: Final = 1024 * 1024
"""How much of a part is handed to the connection at a time."""

PART_HEAD_BYTES: Final = 16 * 1024
"""Longest header of one part; real ones have two hundred bytes."""

BOUNDARY_CHARACTERS: Final = 70
"""Longest boundary (RFC 2046 section 5.1.1)."""

_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]+")

_log = structlog.get_logger()


class MalformedBody(Exception):
    """A body that is not built as its Content-Type says; the text says how."""


@dataclass(frozen=True, slots=True)
class Part:
    """One body of a message; `headers` have lower-case names."""

    headers: Mapping[str, str]
    content: bytes
    oversized: bool = False
    """Whether it was longer than allowed; its content was dropped as it came."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One body to be sent."""

    media_type: str
    content: bytes
    location: str = ""


# -- writing --------------------------------------------------------------------------------
async def send(
    request: web.Request, part_type: str, parts: AsyncIterable[Outgoing]
) -> web.StreamResponse:
    """Send parts one after the other; only one is in memory at a time.

    Nothing is sent before the first part is there, so that what keeps it away can still be said.
    After that a failure cuts the connection: the client sees that the message is incomplete.
    """
    boundary = secrets.token_hex(16)
    response = web.StreamResponse(
        headers={
            hdrs.CONTENT_TYPE: f'multipart/related; type="{part_type}"; boundary="{boundary}"',
        }
    )
    coming = aiter(parts)
    part = await anext(coming, None)
    await response.prepare(request)
    try:
        while part is not None:
            await response.write(_head(boundary, part))
            view = memoryview(part.content)
            for at in range(0, len(view), PIECE_BYTES):
                await response.write(view[at : at + PIECE_BYTES])
            part = await anext(coming, None)
    except (NodeError, Refusal) as error:
        return cut_off(request, response, error)
    await response.write(f"\r\n--{boundary}--\r\n".encode())
    await response.write_eof()
    return response


def cut_off(
    request: web.Request, response: web.StreamResponse, error: Exception
) -> web.StreamResponse:
    """End a response that cannot be completed so that the client notices."""
    _log.error("response_cut_off", error=type(error).__name__)
    if request.transport is not None:
        request.transport.abort()
    return response


def _head(boundary: str, part: Outgoing) -> bytes:
    location = f"Content-Location: {part.location}\r\n" if part.location else ""
    return (
        f"\r\n--{boundary}\r\nContent-Type: {part.media_type}\r\n"
        f"Content-Length: {len(part.content)}\r\n{location}\r\n"
    ).encode()


# -- reading --------------------------------------------------------------------------------
def boundary_of(request: web.Request) -> bytes:
    """Return the boundary that the Content-Type names; raise MalformedBody."""
    found = re.search(
        r';\s*boundary=(?:"([^"]+)"|([^\s;]+))',
        request.headers.get(hdrs.CONTENT_TYPE, ""),
        re.IGNORECASE,
    )
    boundary = (found[1] or found[2]) if found else ""
    if not _BOUNDARY.fullmatch(boundary) or len(boundary) > BOUNDARY_CHARACTERS:
        raise MalformedBody("The Content-Type names no usable boundary.")
    return boundary.encode()


async def parts(
    pieces: AsyncIterable[bytes], boundary: bytes, limit: int, room: Room
) -> AsyncIterator[Part]:
    """Yield the parts of a body; of one longer than `limit` bytes, only that it was too long.

    Raises MalformedBody, also for a body that ends before its closing boundary.
    """
    reader = _Reader(pieces, b"\r\n--" + boundary, room)
    await reader.up_to_delimiter(PART_HEAD_BYTES)  # What stands before the first part is no part.
    while await reader.another():
        head, content, oversized = await reader.part(limit)
        yield Part(head, content, oversized)


class _Reader:
    def __init__(self, pieces: AsyncIterable[bytes], delimiter: bytes, room: Room) -> None:
        self._pieces = aiter(pieces)
        self._delimiter = delimiter
        self._room = room
        self._is_dropping = False
        # The first boundary may stand at the very beginning, without the line break before it.
        self._held = bytearray(b"\r\n")

    async def up_to_delimiter(self, limit: int, skipped: int = 0) -> tuple[bytes, bool]:
        """Return what stands before the next delimiter, and whether it was more than `limit`.

        Without its first `skipped` bytes, which count.
        """
        searched, self._is_dropping = 0, False
        while (at := self._held.find(self._delimiter, searched)) < 0:
            searched = max(0, len(self._held) - len(self._delimiter) + 1)
            if self._is_dropping or searched > limit:
                self._is_dropping = True
                del self._held[:searched]
                self._room.give_back()
                searched = 0
            await self._more()
        oversized = self._is_dropping or at > limit
        content = b"" if oversized else bytes(memoryview(self._held)[skipped:at])
        self._is_dropping = False
        del self._held[: at + len(self._delimiter)]
        return content, oversized

    async def another(self) -> bool:
        """Read the end of the boundary line; return whether a part follows it."""
        while len(self._held) < 2:  # noqa: PLR2004 - "--" or a line break
            await self._more()
        if self._held[:2] == b"--":
            return False
        line = await self._line_break(b"\r\n")
        if line.strip(b" \t"):
            raise MalformedBody("Something stands behind a boundary on its line.")
        return True

    async def part(self, limit: int) -> tuple[dict[str, str], bytes, bool]:
        """Return header, content and whether the content was more than `limit`."""
        headers = {}
        while line := await self._line_break(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        self._held[:0] = b"\r\n"  # An empty part's boundary follows its header at once.
        content, oversized = await self.up_to_delimiter(limit + 2, skipped=2)
        return headers, content, oversized

    async def _line_break(self, end: bytes) -> bytes:
        while (at := self._held.find(end)) < 0:
            if len(self._held) > PART_HEAD_BYTES:
                raise MalformedBody("The header of a part is too long.")
            await self._more()
        line = bytes(memoryview(self._held)[:at])
        del self._held[: at + len(end)]
        return line

    async def _more(self) -> None:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise MalformedBody("The body ends before its closing boundary.")
        if not self._is_dropping:
            await self._room.grow(len(piece))
        self._held += piece
