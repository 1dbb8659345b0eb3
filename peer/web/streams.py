"""Work that ends with the connection of whoever asked for it; answers that come bit by bit."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeVar

from aiohttp import hdrs, web

from peer.web.errors import Problem, RequestError, problem_of

Answer = TypeVar("Answer")

LINES: Final = "application/x-ndjson"
"""One JSON value a line."""

EVENTS: Final = "text/event-stream"
"""Server-sent events (WHATWG HTML, section 9.2): what a browser reads as an EventSource."""

LOOK_S: Final = 0.2
"""How often it is looked whether the asker is still there: nobody notices so short a time, and a
look costs microseconds.  The HTTP server tells no handler that its client has gone."""

_ABANDONED: Final = Problem(
    HTTPStatus.REQUEST_TIMEOUT, "abandoned", "The asker has closed the connection."
)


async def unless_abandoned(request: web.Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what `work` does; it is cancelled once the asker has closed the connection."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_S)
            if not task.done() and _has_gone(request):
                raise RequestError(_ABANDONED)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def _has_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


class Lines:
    """An answer of JSON lines.  It begins with the first: until then a refusal has its own status.

    Once it has begun, what goes wrong is told in a last line.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: LINES})

    async def tell(self, kind: str, content: Mapping[str, object]) -> None:
        """Send one line; nothing is sent to an asker who has gone."""
        if not self.response.prepared:
            await self.response.prepare(self._request)
        line = json.dumps({"event": kind} | dict(content), ensure_ascii=False)
        with contextlib.suppress(ConnectionError):
            await self.response.write(line.encode() + b"\n")

    async def fail(self, error: Exception) -> None:
        """Tell what went wrong; raise it if nothing has been sent, or if it is a fault of ours."""
        problem = problem_of(error)
        if problem is None or not self.response.prepared:
            raise error
        await self.tell("error", problem.to_json())


async def send_events(
    request: web.Request, first: Mapping[str, object], later: AsyncIterable[Mapping[str, object]]
) -> web.StreamResponse:
    """Send each of what comes as one event whose data are JSON; stop when the asker has gone."""
    response = web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: EVENTS, hdrs.CACHE_CONTROL: "no-store"}
    )
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await response.write(_event(first))
        async for each in later:
            await response.write(_event(each))
        await response.write_eof()
    return response


def _event(content: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"
