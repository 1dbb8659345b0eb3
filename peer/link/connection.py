"""One open connection to a partner: pairs answers with requests, in both directions at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import structlog
from aiohttp import ClientConnectionResetError, WebSocketError, WSCloseCode, WSMsgType, web

from peer.config import Link
from peer.errors import NodeError
from peer.link.greeting import Socket
from peer.link.state import NotConnected
from protocol.errors import Oversized, Refusal, RemoteProtocolError, UnknownMessage
from protocol.identifiers import PeerId
from protocol.limits import IN_FLIGHT, MESSAGE_BYTES
from protocol.messages import (
    Done,
    Frame,
    Gone,
    Kind,
    Refused,
    encode,
    read_frame,
    read_message,
)

CLOSE_S: Final = 2
"""How long a closing handshake may take before the connection is dropped."""

Dispatch: TypeAlias = Callable[[object], Awaitable[object | None]]
"""Hands a message to its handler and returns the answer, if there is one."""

HANDOVER_S: Final = 2
"""By then the other side of a replaced link sends on the new one."""

RETIRE_S: Final = 10
"""How long the requests on a link that was replaced may still take after that."""

SOCKET_BYTES: Final = MESSAGE_BYTES + 1
"""aiohttp judges the size before it assembles a message, and refuses from this size on."""

_log = structlog.get_logger()


class Connection:
    """A WebSocket after its hello.  `dialler`: the facility that opened it."""

    def __init__(
        self,
        socket: Socket,
        partner: PeerId,
        dialler: PeerId,
        certificate: bytes,
        settings: Link,
    ) -> None:
        self.partner = partner
        self.dialler = dialler
        self.certificate = certificate
        self.reason = ""
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._room = asyncio.Semaphore(IN_FLIGHT)
        self._answering: set[asyncio.Task[None]] = set()
        # When it is full, reading stops, and the sender's socket fills up.
        self._tells: asyncio.Queue[object] = asyncio.Queue(settings.waiting_messages)
        self._stall_s = settings.stall_s
        self._reading: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()

    # -- sending ----------------------------------------------------------------------------------

    async def request(self, message: object, timeout_s: float) -> object:
        """Send a request and return its answer.

        Raise Refusal for a "no", NotConnected if the link goes down, TimeoutError.
        """
        async with asyncio.timeout(timeout_s), self._room:
            number = next(self._numbers)
            answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            try:
                await self._send(encode(message, Kind.REQUEST, number))
                return await answer
            finally:
                self._waiting.pop(number, None)

    async def tell(self, message: object) -> None:
        """Send a message that expects no answer; wait only for room in the socket."""
        kind = Kind.REFUSAL if isinstance(message, Refused) else Kind.TELL
        await self._send(encode(message, kind, 0))

    async def _send(self, frame: bytes) -> None:
        if self.closed.is_set():
            raise _down()
        try:
            await self._socket.send_bytes(frame)
        except (ClientConnectionResetError, ConnectionError, RuntimeError) as error:
            # RuntimeError: aiohttp's word for a socket that is closing.
            raise _down() from error

    # -- receiving --------------------------------------------------------------------------------

    async def serve(self, dispatch: Dispatch) -> None:
        """Read until the connection ends, from whichever side; then fail what still waits."""
        telling = asyncio.create_task(self._hand_over_tells(dispatch))
        self._reading = asyncio.create_task(self._read(dispatch))
        try:
            # Not awaited itself: `drop` cancels the reading, not whoever waits for its end.
            await asyncio.wait({self._reading})
        finally:
            self.closed.set()
            for task in (telling, self._reading, *self._answering):
                task.cancel()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_down())
            await self._close_socket()
        self._judge_end(self._reading)

    def _judge_end(self, reading: asyncio.Task[None]) -> None:
        error = None if reading.cancelled() else reading.exception()
        if isinstance(error, RemoteProtocolError):
            self.reason = f"They broke the protocol: {error}."
            _log.warning("link-protocol-error", partner=self.partner.hex(), code=error.code)
        elif isinstance(error, TimeoutError):
            self.reason = "This node could not keep up with what they sent."
            _log.warning("link-stalled", partner=self.partner.hex())
        elif error is not None:
            self.reason = "The link failed at an error of this node's."
            _log.error("link-failed", partner=self.partner.hex(), exc_info=error)

    async def _read(self, dispatch: Dispatch) -> None:
        while True:
            received = await self._socket.receive()
            if received.type is WSMsgType.BINARY:
                await self._take(read_frame(received.data), dispatch)
            elif received.type is WSMsgType.ERROR:
                self.reason = self.reason or "The connection broke."
                error = received.data
                if isinstance(error, WebSocketError) and error.code == WSCloseCode.MESSAGE_TOO_BIG:
                    msg = f"a message has more than {MESSAGE_BYTES} bytes"
                    raise Oversized(msg)
                return
            elif received.type is WSMsgType.TEXT:
                msg = "a link carries no text messages"
                raise UnknownMessage(msg)
            else:
                return

    async def _take(self, frame: Frame, dispatch: Dispatch) -> None:
        if frame.kind == Kind.REQUEST:
            self._answer_soon(frame, dispatch)
            return
        waiting = self._waiting.get(frame.id) if frame.kind != Kind.TELL and frame.id else None
        if waiting is None and frame.kind == Kind.ANSWER:
            return  # Came after its time; not worth parsing.
        message = read_message(frame)
        if waiting is not None:
            if not waiting.done():
                _settle(waiting, message)
        elif isinstance(message, Gone):
            self.reason = message.reason
        else:
            async with asyncio.timeout(self._stall_s):
                await self._tells.put(message)

    async def _hand_over_tells(self, dispatch: Dispatch) -> None:
        """Hand tells over one after the other: their order has a meaning."""
        while True:
            message = await self._tells.get()
            try:
                await dispatch(message)
            except (Refusal, RemoteProtocolError, NodeError, TimeoutError) as error:
                _log.warning(
                    "link-tell-failed", partner=self.partner.hex(), reason=type(error).__name__
                )

    def _answer_soon(self, frame: Frame, dispatch: Dispatch) -> None:
        busy = len(self._answering) >= IN_FLIGHT
        answer = self._refuse_busy(frame.id) if busy else self._answer(frame, dispatch)
        task = asyncio.create_task(answer)
        self._answering.add(task)
        task.add_done_callback(self._answered)
        if len(self._answering) > 2 * IN_FLIGHT:
            msg = "more requests were sent than a link carries at once"
            raise Oversized(msg)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A bug of ours: the asker's time runs out, and the operator finds the place in the log.
            _log.error("link-handler-failed", partner=self.partner.hex(), exc_info=task.exception())

    async def _answer(self, frame: Frame, dispatch: Dispatch) -> None:
        try:
            answer = await dispatch(read_message(frame)) or Done()
        except Refusal as refusal:
            answer = Refused(refusal.code, refusal.reason, refusal.remedy)
        except RemoteProtocolError as error:
            answer = Refused(error.code, str(error), "")
        except (NodeError, TimeoutError):
            answer = Refused(
                "failed",
                "They could not carry this out.",
                "Try again; if it persists, their operator finds the cause in the log.",
            )
            _log.exception("link-request-failed", partner=self.partner.hex())
        await self._reply(answer, frame.id)

    async def _refuse_busy(self, number: int) -> None:
        await self._reply(Refused("busy", "They have too much to do just now.", "Wait."), number)

    async def _reply(self, answer: object, number: int) -> None:
        kind = Kind.REFUSAL if isinstance(answer, Refused) else Kind.ANSWER
        with contextlib.suppress(NotConnected):  # The asker learns of it by itself.
            await self._send(encode(answer, kind, number))

    # -- ending -----------------------------------------------------------------------------------

    async def close(self, reason: str) -> None:
        """Say goodbye, if that can be done quickly, and end the connection."""
        self.reason = self.reason or reason
        if not self.closed.is_set():
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self.tell(Gone(reason))
            except (NotConnected, TimeoutError):
                pass
        self.drop(reason)
        if self._reading is None:
            await self._close_socket()

    async def retire(self, reason: str) -> None:
        """Close once what is under way in either direction is done: another link took its place.

        The other side may not know of that yet and still be sending requests on this one.
        """
        await asyncio.sleep(HANDOVER_S)
        under_way: set[asyncio.Future[Any]] = {*self._waiting.values(), *self._answering}
        if under_way:
            await asyncio.wait(under_way, timeout=RETIRE_S)
        await self.close(reason)

    def drop(self, reason: str) -> None:
        """End the connection at once: nothing more is read, answered or handed over."""
        self.reason = self.reason or reason
        self.closed.set()
        if self._reading is not None:
            self._reading.cancel()

    async def _close_socket(self) -> None:
        # aiohttp waits CLOSE_S for the answer itself; this bounds a socket that takes nothing.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_S):
                await self._socket.close()


def new_socket(heartbeat_s: float) -> web.WebSocketResponse:
    """Return the server's end of a link, before its handshake.

    A ping that often, and half of it for the answer, tell a dead link.
    """
    return web.WebSocketResponse(
        timeout=CLOSE_S, heartbeat=heartbeat_s, max_msg_size=SOCKET_BYTES, compress=False
    )


def _settle(waiting: asyncio.Future[object], message: object) -> None:
    if isinstance(message, Refused):
        waiting.set_exception(Refusal(message.code, message.reason, message.remedy))
    else:
        waiting.set_result(message)


def _down() -> NotConnected:
    return NotConnected("The link to the partner went down. It is dialled again by itself.")
