"""Instances as bodies of requests: read piece by piece, within a share of the node's memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from peer.config import Ingest as Settings
from peer.ingest import OVERSIZED, Incoming, Ingest, Outcome, Taken
from peer.web.errors import Problem, RequestError

LENGTH_BYTES: Final = 8
"""Of the length before each instance of several."""

TOGETHER: Final = 1024
"""Most instances of one body: what one group commit can take at most."""


class Room(Protocol):
    """Where the memory of the instance that is coming is accounted for."""

    async def grow(self, size: int) -> None:
        """Make room for `size` bytes more; raise Refusal "busy" if there is none in time."""

    def give_back(self) -> None:
        """Take note that what has come is no longer held."""


async def pieces(request: web.Request, settings: Settings) -> AsyncIterator[bytes]:
    """Yield the body as it comes; raise RequestError if nothing comes for `silence_s`."""
    coming = aiter(request.content.iter_any())
    while True:
        try:
            async with asyncio.timeout(settings.silence_s):
                piece = await anext(coming, None)
        except TimeoutError:
            raise RequestError(
                Problem(
                    HTTPStatus.REQUEST_TIMEOUT,
                    "silent",
                    f"The upload brought nothing for {settings.silence_s} seconds.",
                    "Send it again.",
                )
            ) from None
        if piece is None:
            return
        yield piece


class Arriving:
    """One instance that is coming, within its room of memory."""

    def __init__(self, incoming: Incoming, room: Room) -> None:
        self._incoming = incoming
        self._room = room

    async def add(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece of it; raise as `Room.grow` does."""
        more = self._incoming.room(len(piece))
        if more:
            await self._room.grow(more)
        if self._incoming.add(piece):
            await asyncio.to_thread(self._incoming.flush)
        if self._incoming.is_refused:
            self._room.give_back()

    async def take(self) -> Taken:
        """Return the whole instance, or why it is refused already."""
        if self._incoming.is_large:
            return await asyncio.to_thread(self._incoming.take)
        return self._incoming.take()

    @property
    def is_refused(self) -> bool:
        """Whether it cannot be kept, so that the rest of it is of no use."""
        return self._incoming.is_refused

    def drop(self) -> None:
        """Destroy what was not taken."""
        self._incoming.drop()


async def read_instance(
    request: web.Request, ingest: Ingest, room: Room, settings: Settings
) -> Taken:
    """Return the body, or raise RequestError as soon as it is longer than an instance may be.

    Raises as `pieces` and `Room.grow` do.
    """
    limit = settings.max_instance_bytes
    arriving = Arriving(ingest.incoming(), room)
    try:
        if (request.content_length or 0) > limit:
            raise _oversized(limit)
        async for piece in pieces(request, settings):
            await arriving.add(piece)
            if arriving.is_refused:
                break
        taken = await arriving.take()
    finally:
        arriving.drop()
    if isinstance(taken, Outcome) and taken.code == OVERSIZED:
        raise _oversized(limit)
    return taken


def _oversized(limit: int) -> RequestError:
    return RequestError(
        Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            OVERSIZED,
            f"The instance has more than {limit} bytes.",
            "An operator can raise ingest.max_instance_bytes.",
        )
    )


async def read_framed(request: web.Request, room: Room, settings: Settings) -> list[memoryview]:
    """Return the instances of a body in which 8 bytes, big endian, say how long the next one is.

    Raises RequestError if the body as a whole is longer than an instance that is held in memory, or
    is not built so; otherwise as `pieces` and `Room.grow` do.
    """
    size = request.content_length
    if size is None or size > settings.largest_held:
        raise RequestError(
            Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "oversized",
                f"Instances sent together have at most {settings.largest_held} bytes, and "
                "the request says how many.",
                "Send fewer at once.",
            )
        )
    await room.grow(size)
    content, filled = memoryview(bytearray(size)), 0
    async for piece in pieces(request, settings):
        content[filled : filled + len(piece)] = piece
        filled += len(piece)
    return _framed(content)


def _framed(content: memoryview) -> list[memoryview]:
    found: list[memoryview] = []
    position = 0
    while position < len(content):
        start = position + LENGTH_BYTES
        position = start + int.from_bytes(content[start - LENGTH_BYTES : start], "big")
        if position > len(content) or len(found) == TOGETHER:
            raise RequestError(
                Problem(
                    HTTPStatus.BAD_REQUEST,
                    "malformed",
                    f"The body is no row of at most {TOGETHER} instances, each behind its length.",
                    "Check the software that sent it.",
                )
            )
        found.append(content[start:position])
    return found
