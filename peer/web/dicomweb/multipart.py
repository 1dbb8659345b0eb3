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
    content: AsyncIterator[memoryview]
    """Pieces, to be used before the next one is asked for."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One body to be sent."""

    media_type: str
    content: bytes | AsyncIterable[bytes]
    location: str = ""
    length: int | None = None
    """Of content that comes piece by piece."""


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
            if isinstance(part.content, bytes):
                view = memoryview(part.content)
                for at in range(0, len(view), PIECE_BYTES):
                    await response.write(view[at : at + PIECE_BYTES])
            else:
                async for piece in part.content:
                    await response.write(piece)
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
    length = len(part.content) if isinstance(part.content, bytes) else part.length
    location = f"Content-Location: {part.location}\r\n" if part.location else ""
    return (
        f"\r\n--{boundary}\r\nContent-Type: {part.media_type}\r\n"
        f"Content-Length: {length}\r\n{location}\r\n"
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


async def parts(pieces: AsyncIterable[bytes], boundary: bytes) -> AsyncIterator[Part]:
    """Yield the parts of a body; what of a part's content is not asked for is passed over.

    Raises MalformedBody, also for a body that ends before its closing boundary.
    """
    reader = _Reader(pieces, b"\r\n--" + boundary)
    await _passed_over(reader.up_to_delimiter())  # What stands before the first part is no part.
    while await reader.another():
        headers = await reader.headers()
        content = reader.content()
        yield Part(headers, content)
        await _passed_over(content)


async def _passed_over(pieces: AsyncIterable[memoryview]) -> None:
    async for _ in pieces:
        pass


class _Reader:
    def __init__(self, pieces: AsyncIterable[bytes], delimiter: bytes) -> None:
        self._pieces = aiter(pieces)
        self._delimiter = delimiter
        # The first boundary may stand at the very beginning, without the line break before it.
        self._held = bytearray(b"\r\n")

    async def up_to_delimiter(self) -> AsyncIterator[memoryview]:
        """Yield what stands before the next delimiter, piece by piece, each to be used at once."""
        while (at := self._held.find(self._delimiter)) < 0:
            certain = len(self._held) - len(self._delimiter) + 1
            if certain > 0:
                with memoryview(self._held)[:certain] as piece:
                    yield piece
                del self._held[:certain]
            await self._more()
        if at:
            with memoryview(self._held)[:at] as piece:
                yield piece
        del self._held[: at + len(self._delimiter)]

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

    async def headers(self) -> dict[str, str]:
        """Read the header of a part, names in lower case."""
        headers = {}
        while line := await self._line_break(b"\r\n"):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    async def content(self) -> AsyncIterator[memoryview]:
        """Yield the content of a part whose header was read, as `up_to_delimiter` does."""
        self._held[:0] = b"\r\n"  # An empty part's boundary follows its header at once.
        while len(self._held) < len(self._delimiter):
            await self._more()
        if not self._held.startswith(self._delimiter):
            del self._held[:2]
        async for piece in self.up_to_delimiter():
            yield piece

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
        self._held += piece
