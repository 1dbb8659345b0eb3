"""One open connection to a partner: pairs answers with requests, in both directions at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias

import structlog
from aiohttp import ClientConnectionResetError, WebSocketError, WSCloseCode, WSMsgType, web

from peer.config import Link
from peer.errors import NodeError
from peer.link.greeting import Socket
from peer.link.metering import Meter
from peer.link.state import NotConnected
from peer.link.turns import Turns
from protocol.budget import Load, load_of
from protocol.errors import Oversized, Refusal, RemoteProtocolError, UnknownMessage
from protocol.identifiers import PeerId
from protocol.limits import IN_FLIGHT, MESSAGE_BYTES
from protocol.messages import (
    Done,
    Frame,
    Gone,
    Kind,
    ReadRange,
    Refused,
    encode,
    read_frame,
    read_message,
)

CLOSE_S: Final = 2
"""How long a closing handshake may take before the connection is dropped."""

RANGES_AT_ONCE: Final = 4
"""Pieces of packs that are read and wait to be sent, or are asked for, on one link: enough to
keep a line busy, few enough that a partner that reads nothing holds four mebibytes and no more."""

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
        self._range_room = asyncio.Semaphore(RANGES_AT_ONCE)
        self._pieces = asyncio.Semaphore(RANGES_AT_ONCE)
        self._turns = Turns()
        self._answering: set[asyncio.Task[None]] = set()
        # When it is full, reading stops, and the sender's socket fills up.
        self._tells: asyncio.Queue[object] = asyncio.Queue(settings.waiting_messages)
        self._stall_s = settings.stall_s
        self._reading: asyncio.Task[None] | None = None
        self._meter: Meter | None = None
        self.closed = asyncio.Event()

    # -- sending ----------------------------------------------------------------------------------

    async def request(self, message: object, timeout_s: float) -> object:
        """Send a request and return its answer.

        Raise Refusal for a "no", NotConnected if the link goes down, TimeoutError.
        """
        waiting = self._range_room if isinstance(message, ReadRange) else contextlib.nullcontext()
        # How long other ranges take is no delay of this one's.
        async with waiting, asyncio.timeout(timeout_s), self._room:
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
        async with self._turns.turn(len(frame)):
            await self._write(frame)

    async def _write(self, frame: bytes) -> None:
        if self.closed.is_set():
            raise _down()
        patience = asyncio.timeout(self._stall_s)
        try:
            async with patience:
                await self._socket.send_bytes(frame)
        except TimeoutError:
            if not patience.expired():
                raise
            self.drop("They take in nothing that is sent to them.")
            raise _down() from None
        except (ClientConnectionResetError, ConnectionError, RuntimeError) as error:
            # RuntimeError: aiohttp's word for a socket that is closing.
            raise _down() from error

    # -- receiving --------------------------------------------------------------------------------

    async def serve(self, dispatch: Dispatch, meter: Meter) -> None:
        """Read until the connection ends, from whichever side; then fail what still waits.

        `meter` says when to read on.
        """
        self._meter = meter
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
                frame = read_frame(received.data)
                load, size = self._load_of(frame), len(received.data)
                del received  # Whatever is read next must not have this one wait beside it.
                await self._take(frame, dispatch)
                del frame
                if load is not None:
                    await self._spend(load, size)
            elif received.type in {WSMsgType.PING, WSMsgType.PONG}:
                if received.type is WSMsgType.PING:
                    await self._socket.pong(received.data)
                await self._spend(Load.EXCHANGE, len(received.data))
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
        try:
            message = read_message(frame)
        except RemoteProtocolError as error:
            # A newer version's message, or a wrong one: it costs its sender a refusal, no link.
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
            elif frame.kind == Kind.TELL and len(self._answering) < IN_FLIGHT:
                self._do(self._reply(Refused(error.code, str(error), ""), 0))
            return
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
        self._do(self._refuse_busy(frame.id) if busy else self._answer(frame, dispatch))
        if len(self._answering) > 2 * IN_FLIGHT:
            msg = "more requests were sent than a link carries at once"
            raise Oversized(msg)

    def _do(self, answer: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(answer)
        self._answering.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A bug of ours: the asker's time runs out, and the operator finds the place in the log.
            _log.error("link-handler-failed", partner=self.partner.hex(), exc_info=task.exception())

    async def _answer(self, frame: Frame, dispatch: Dispatch) -> None:
        load, number = load_of(frame.kind, frame.name), frame.id
        async with self._pieces if load is Load.RANGES else contextlib.nullcontext():
            answer = await self._outcome(frame, dispatch)
            # It may have four mebibytes, and the partner may take long to read the answer.
            del frame
            await self._reply(answer, number, load)

    async def _outcome(self, frame: Frame, dispatch: Dispatch) -> object:
        try:
            return await dispatch(read_message(frame)) or Done()
        except Refusal as refusal:
            return Refused(refusal.code, refusal.reason, refusal.remedy)
        except RemoteProtocolError as error:
            return Refused(error.code, str(error), "")
        except (NodeError, TimeoutError):
            _log.exception("link-request-failed", partner=self.partner.hex())
            return Refused(
                "failed",
                "They could not carry this out.",
                "Try again; if it persists, their operator finds the cause in the log.",
            )

    async def _refuse_busy(self, number: int) -> None:
        await self._reply(Refused("busy", "They have too much to do just now.", "Wait."), number)

    async def _reply(self, answer: object, number: int, load: Load = Load.EXCHANGE) -> None:
        kind = Kind.REFUSAL if isinstance(answer, Refused) else Kind.ANSWER
        frame = encode(answer, kind, number)
        if self._meter is not None:
            self._meter.charge(load, len(frame))
        with contextlib.suppress(NotConnected):  # The asker learns of it by itself.
            await self._send(frame)

    # -- what the partner may make this side do ---------------------------------------------------

    def _load_of(self, frame: Frame) -> Load | None:
        """Return what a frame is a burden on; None for the answer to a question of ours."""
        asked_for = frame.kind in {Kind.ANSWER, Kind.REFUSAL} and frame.id in self._waiting
        return None if asked_for else load_of(frame.kind, frame.name)

    async def _spend(self, load: Load, size: int) -> None:
        if self._meter is not None:
            await self._meter.spend(load, size)

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
        timeout=CLOSE_S,
        heartbeat=heartbeat_s,
        autoping=False,
        max_msg_size=SOCKET_BYTES,
        compress=False,
    )


def _settle(waiting: asyncio.Future[object], message: object) -> None:
    if isinstance(message, Refused):
        waiting.set_exception(Refusal(message.code, message.reason, message.remedy))
    else:
        waiting.set_result(message)


def _down() -> NotConnected:
    return NotConnected("The link to the partner went down. It is dialled again by itself.")
