"""All links of the node: who is connected, who is dialled when, and where messages go."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import aiohttp
import structlog
from aiohttp import web

from peer.actors import partner_node
from peer.clock import Clock
from peer.config import Link
from peer.errors import Conflict, NodeError
from peer.index.partners import REMOVED
from peer.keys import NodeKeys
from peer.link import state
from peer.link.connection import CLOSE_S, Connection
from peer.link.dialling import DialFailed, dial, new_session
from peer.link.farewell import farewell, sign_for_removal
from peer.link.greeting import Closed, answer_hello, our_hello
from peer.link.ranges import (
    PackReader,
    answer_over_link,
    read_over_link,
    stream_range,
)
from peer.link.state import LinkState, NotConnected
from peer.partners import RECORD, Partner, Partners
from protocol.errors import Refusal, RemoteProtocolError, UnknownMessage
from protocol.identifiers import PeerId
from protocol.limits import CLOCK_WARNING_S
from protocol.messages import Hello, ReadRange, Removal, name_of

FIRST_PAUSE_S: Final = 1.0
"""The pause after a first failure; it doubles up to `link.redial_most_s`."""

STEADY_S: Final = 30
"""A link that lasted so long was a good one: the next attempt is made without a pause."""

_CLOSED_IN_SILENCE: Final = "They closed the connection without a word; it is dialled again."

THEY_ENDED_IT: Final = "They have ended the partnership."

Handler: TypeAlias = Callable[[Any, Partner], Awaitable[object | None]]
Callback: TypeAlias = Callable[[PeerId], None]

_log = structlog.get_logger()


@dataclass(slots=True)
class _Line:
    """What is known of one partner's link.  `changed`: set to have it looked at anew."""

    connection: Connection | None = None
    session: aiohttp.ClientSession | None = None
    state: LinkState = field(default_factory=LinkState)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False
    """Whether the last attempt ended as one ends that is refused."""
    task: asyncio.Task[None] | None = None


class Links:
    """One connection to each partner.

    `proxy` is the address of an HTTP CONNECT proxy for everything that is dialled, or ''.
    """

    def __init__(
        self,
        keys: NodeKeys,
        partners: Partners,
        clock: Clock,
        settings: Link,
        proxy: str = "",
    ) -> None:
        self._keys = keys
        self._partners = partners
        self._clock = clock
        self._settings = settings
        self._proxy = proxy
        self._handlers: dict[type, Handler] = {}
        self._lines: dict[PeerId, _Line] = {}
        self._up: list[Callback] = []
        self._down: list[Callback] = []
        self._group: asyncio.TaskGroup | None = None
        partners.on_change(self._partner_changed)
        self.handle(Removal, self._removed_by_them)

    # -- for others -------------------------------------------------------------------------------

    def handle(self, kind: type, handler: Handler) -> None:
        """Have `handler(message, partner)` answer the messages of a class.

        Requests run beside each other; what the handler returns is the answer (None: done), and a
        Refusal it raises is told to the asker.  Tells of one partner come one after the other.
        """
        name_of(kind)
        self._handlers[kind] = handler

    def serve_packs(self, reader: PackReader) -> None:
        """Have `reader` also answer the ranges that are asked for over a link."""

        async def answer(asked: ReadRange, partner: Partner) -> object:
            return await answer_over_link(reader, asked, partner)

        self.handle(ReadRange, answer)

    def on_connected(self, callback: Callback) -> None:
        """Have `callback` called whenever a link comes up."""
        self._up.append(callback)

    def on_disconnected(self, callback: Callback) -> None:
        """Have `callback` called whenever a link goes down."""
        self._down.append(callback)

    def connected(self) -> tuple[PeerId, ...]:
        """Return the partners with a link."""
        return tuple(peer_id for peer_id, line in self._lines.items() if line.connection)

    def state(self, peer_id: PeerId) -> LinkState:
        """Return what is known of the link to a partner."""
        line = self._lines.get(peer_id)
        return LinkState() if line is None else line.state

    async def request(
        self, peer_id: PeerId, message: object, timeout_s: float | None = None
    ) -> object:
        """Return the partner's answer; raise Refusal for its "no", NotConnected or TimeoutError."""
        timeout_s = self._settings.request_s if timeout_s is None else timeout_s
        return await self._connection(peer_id).request(message, timeout_s)

    async def tell(self, peer_id: PeerId, message: object) -> None:
        """Send a message that expects no answer; raise NotConnected."""
        await self._connection(peer_id).tell(message)

    async def open_range(self, peer_id: PeerId, path: str, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` (not included) of a partner's pack, all at once."""
        return b"".join([piece async for piece in self.stream_range(peer_id, path, start, end)])

    async def stream_range(
        self, peer_id: PeerId, path: str, start: int, end: int
    ) -> AsyncIterator[bytes]:
        """Yield bytes `start` to `end` (not included) of a partner's pack in pieces of a MiB.

        They come from its federation listener, or over the link if that has no address.  Raise
        Refusal for a "no", NotConnected, WrongContent.
        """
        partner = self._trusted(peer_id)
        if partner.record.federation_url:
            url = partner.record.federation_url + path
            silence_s = self._settings.silence_s
            pieces = stream_range(self._session(partner), url, start, end, silence_s, self._proxy)
        else:
            range_s = self._settings.range_s
            pieces = read_over_link(
                lambda asked: self.request(peer_id, asked, range_s), path, start, end
            )
        async for piece in pieces:
            # Removed in mid-stream: not one more piece.
            self._trusted(peer_id)
            yield piece

    async def cut(self, peer_id: PeerId, reason: str = "The link was cut.") -> None:
        """End every connection with a partner at once."""
        line = self._lines.get(peer_id)
        if line is None:
            return
        session, line.session = line.session, None
        if line.connection is not None:
            line.connection.drop(reason)
            self._unregister(line.connection)
        if session is not None:
            await session.close()

    async def accept(self, socket: web.WebSocketResponse, partner: Partner) -> None:
        """Serve a link that `partner` has dialled, until it ends."""
        try:
            ours = our_hello(self._keys, partner, self._clock.now())
            hello = await answer_hello(socket, ours, self._settings.hello_s)
        except (Closed, TimeoutError, RemoteProtocolError, ConnectionError) as error:
            _log.warning(
                "link-hello-failed", partner=partner.peer_id.hex(), reason=type(error).__name__
            )
            await socket.close()
            return
        certificate = partner.record.tls_certificate
        peer_id = partner.peer_id
        connection = Connection(socket, peer_id, peer_id, certificate, self._settings)
        await self._serve(connection, hello)

    async def run(self) -> None:
        """Keep a link to every active partner, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    for partner in self._partners.active():
                        self._keep(partner.peer_id)
                    await asyncio.Event().wait()
                finally:
                    self._group = None  # A group that ends takes in no more tasks.
        finally:
            await self._close_all()

    # -- dialling ---------------------------------------------------------------------------------

    def _keep(self, peer_id: PeerId) -> None:
        line = self._line(peer_id)
        line.changed.set()
        if self._group is not None and (line.task is None or line.task.done()):
            line.task = self._group.create_task(self._keep_dialling(peer_id, line))

    async def _keep_dialling(self, peer_id: PeerId, line: _Line) -> None:
        pause = 0.0
        while (partner := self._active(peer_id)) is not None:
            line.changed.clear()
            if line.connection is not None:
                await line.changed.wait()
                continue
            lasted_s = await self._dial_once(partner, line)
            # That our own link has ended is no news; a partner that stops is not dialled in a rush.
            line.changed.clear()
            longer = min(max(2 * pause, FIRST_PAUSE_S), self._settings.redial_most_s)
            pause = 0.0 if lasted_s >= STEADY_S else longer
            if line.connection is None:
                await _wait(line.changed, pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                if line.changed.is_set():
                    pause = 0.0

    async def _dial_once(self, partner: Partner, line: _Line) -> int:
        """Dial, and serve the link to its end; return for how many seconds it lasted."""
        try:
            now = self._clock.now()
            session = self._session(partner)
            connection, hello = await dial(
                session, self._keys, partner, now, self._settings, self._proxy
            )
        except DialFailed as failure:
            silent_before, line.silent = line.silent, failure.code == state.NOT_ACCEPTED
            if line.connection is None:
                if line.silent and not silent_before:
                    # A node that is stopping closes in silence too; one that refuses does it again.
                    self._note(line, state.CLOSED, _CLOSED_IN_SILENCE)
                else:
                    self._note(line, failure.code, failure.sentence)
            if failure.code == state.WRONG_CERTIFICATE:
                await self._catch_up(partner.peer_id)
            return 0
        started = asyncio.get_running_loop().time()
        await self._serve(connection, hello)
        return int(asyncio.get_running_loop().time() - started)

    async def _catch_up(self, peer_id: PeerId) -> None:
        """Ask once whether the partner has a newer key record."""
        try:
            await self._partners.catch_up(peer_id)
        except (Refusal, RemoteProtocolError, NodeError) as error:
            _log.info("key-record-not-found", partner=peer_id.hex(), reason=type(error).__name__)

    # -- serving ----------------------------------------------------------------------------------

    async def _serve(self, connection: Connection, hello: Hello) -> None:
        if not self._register(connection, hello):
            await connection.close("There is a link already.")
            return
        try:
            await connection.serve(lambda message: self._dispatch(connection, message))
        finally:
            self._unregister(connection)

    async def _dispatch(self, connection: Connection, message: object) -> object | None:
        partner = self._active(connection.partner)
        if partner is None or partner.record.tls_certificate != connection.certificate:
            raise Refusal("not-a-partner", "They are no partner.", "Pair again.")
        handler = self._handlers.get(type(message))
        if handler is None:
            msg = f"{name_of(type(message))} is not expected on a link"
            raise UnknownMessage(msg)
        return await handler(message, partner)

    def _register(self, connection: Connection, hello: Hello) -> bool:
        """Make a connection the partner's link, unless the one that is there has precedence.

        Of two that were dialled at once, both sides keep the one dialled by the lower peer id.  A
        second one by the same side means that the first is dead and only this side has not noticed.
        """
        partner = self._active(connection.partner)
        if partner is None or self._group is None or connection.closed.is_set():
            return False
        line = self._line(connection.partner)
        held = line.connection
        if held is not None:
            lower = min(self._keys.peer_id, connection.partner)
            if connection.dialler not in (held.dialler, lower):
                return False
            self._unregister(held)
            self._group.create_task(held.retire("Another link took its place."))
        offset = hello.now - self._clock.now()
        if abs(offset) > CLOCK_WARNING_S:
            _log.warning("partner-clock-differs", partner=connection.partner.hex(), seconds=offset)
        line.connection = connection
        line.state = LinkState(True, self._clock.now(), "", "", offset)
        line.changed.set()
        for callback in self._up:
            callback(connection.partner)
        return True

    def _unregister(self, connection: Connection) -> None:
        line = self._lines.get(connection.partner)
        if line is None or line.connection is not connection:
            return
        line.connection = None
        self._note(
            line, state.CLOSED, connection.reason or "The link went down; it is dialled anew."
        )
        line.changed.set()
        for callback in self._down:
            callback(connection.partner)

    # -- the trust table has changed --------------------------------------------------------------

    async def _partner_changed(self, peer_id: PeerId, what: str) -> None:
        line = self._lines.get(peer_id)
        if what == REMOVED:
            partner = self._partners.get(peer_id)
            if partner is not None and line is not None and line.connection is not None:
                await farewell(line.connection, self._keys, partner, self._clock)
            await self.cut(peer_id, "The partner was removed.")
        elif what == RECORD:
            await self.cut(peer_id, "The partner has new keys.")
        if self._active(peer_id) is not None:
            self._keep(peer_id)
        elif line is not None:
            line.changed.set()

    async def _removed_by_them(self, message: Removal, partner: Partner) -> object:
        receipt = sign_for_removal(message, partner, self._keys, self._clock)
        if self._group is not None:
            self._group.create_task(self._follow_removal(partner))
        return receipt

    async def _follow_removal(self, partner: Partner) -> None:
        """End the partnership here too, once the receipt has had the time to get through."""
        line = self._line(partner.peer_id)
        if line.connection is not None:
            await _wait(line.connection.closed, CLOSE_S)
        await self.cut(partner.peer_id, THEY_ENDED_IT)
        actor = partner_node(partner.peer_id, partner.name)
        with contextlib.suppress(Conflict):  # A person here was faster.
            await self._partners.remove(partner.peer_id, actor, THEY_ENDED_IT, by_them=True)

    # -- parts ------------------------------------------------------------------------------------

    def _line(self, peer_id: PeerId) -> _Line:
        return self._lines.setdefault(peer_id, _Line())

    def _note(self, line: _Line, code: str, sentence: str) -> None:
        """Note why there is no link; `since` stays the moment at which it was lost."""
        down_since = None if line.state.connected else line.state.since
        since = self._clock.now() if down_since is None else down_since
        line.state = LinkState(False, since, sentence, code)

    def _active(self, peer_id: PeerId) -> Partner | None:
        partner = self._partners.get(peer_id)
        return partner if partner is not None and partner.active else None

    def _trusted(self, peer_id: PeerId) -> Partner:
        partner = self._active(peer_id)
        if partner is None:
            raise NotConnected("This facility is no partner. Pair with it first.")
        return partner

    def _connection(self, peer_id: PeerId) -> Connection:
        self._trusted(peer_id)
        line = self._lines.get(peer_id)
        if line is None or line.connection is None:
            known = "" if line is None else f" {line.state.last_error}"
            raise NotConnected(f"There is no link to this partner.{known}")
        return line.connection

    def _session(self, partner: Partner) -> aiohttp.ClientSession:
        line = self._line(partner.peer_id)
        if line.session is None or line.session.closed:
            line.session = new_session(self._keys, partner, self._settings)
        return line.session

    async def _close_all(self) -> None:
        lines = list(self._lines.values())
        await asyncio.gather(
            *(line.connection.close("The node stops.") for line in lines if line.connection)
        )
        for line in lines:
            if line.session is not None:
                await line.session.close()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
