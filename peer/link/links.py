"""All links of the node: who is connected, who is dialled when, and where messages go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

import structlog
from aiohttp import web

from peer.actors import partner_node
from peer.clock import Clock
from peer.config import Link
from peer.errors import Conflict
from peer.index.partners import REMOVED
from peer.keys import NodeKeys
from peer.link.acquaintance import Acquaintance
from peer.link.connection import CLOSE_S, Connection
from peer.link.farewell import farewell, sign_for_removal
from peer.link.greeting import Closed, answer_hello, our_hello, versions_of
from peer.link.line import Line, wait
from peer.link.metering import Meter
from peer.link.ranges import PackReader, answer_over_link, read_over_link, stream_range
from peer.link.redialling import Redialler
from peer.link.state import KEYS_RETIRED_SENTENCE, LinkState, NotConnected, NotReached
from peer.logs import Seldom
from peer.outbound import Proxy
from peer.partners import RECORD, Partner, Partners
from protocol.budget import Load
from protocol.errors import Refusal, RemoteProtocolError, UnknownMessage
from protocol.identifiers import PeerId
from protocol.limits import CLOCK_WARNING_S
from protocol.messages import Hello, NewKeyRecord, ReadRange, Removal, name_of
from protocol.versions import OURS, Versions, common_version

THEY_ENDED_IT: Final = "They have ended the partnership."

Handler: TypeAlias = Callable[[Any, Partner], Awaitable[object | None]]
Callback: TypeAlias = Callable[[PeerId], None]
SlowedListener: TypeAlias = Callable[[PeerId, Load], Awaitable[None]]

_log = structlog.get_logger()


class Links:
    """One connection to each partner.

    `proxy` is the way out for everything that is dialled, if it is one; `speaks` are the versions
    of the protocol that a link may have.
    """

    def __init__(
        self,
        keys: NodeKeys,
        partners: Partners,
        clock: Clock,
        settings: Link,
        fault_s: float,
        proxy: Proxy = Proxy(),  # noqa: B008 - Proxy is frozen
        speaks: Versions = OURS,
    ) -> None:
        self._keys = keys
        self._partners = partners
        self._clock = clock
        self._settings = settings
        self._failures = Seldom(fault_s)
        self._proxy = proxy
        self._speaks = speaks
        self._acquaintance = Acquaintance(keys, partners)
        self._redial = Redialler(
            keys, partners, clock, settings, proxy, speaks, self._acquaintance, self._serve
        )
        self._handlers: dict[type, Handler] = {}
        self._lines: dict[PeerId, Line] = {}
        self._up: list[Callback] = []
        self._down: list[Callback] = []
        self._slowed: list[SlowedListener] = []
        self._group: asyncio.TaskGroup | None = None
        partners.on_change(self._partner_changed)
        self.handle(Removal, self._removed_by_them)
        self.handle(NewKeyRecord, self._acquaintance.receive)

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

    def on_slowed(self, listener: SlowedListener) -> None:
        """Have `listener(partner, load)` awaited when one sends more than its budget allows.

        At each pause: whoever keeps a record of it chooses how often.
        """
        self._slowed.append(listener)

    async def spend(self, peer_id: PeerId, load: Load, size: int) -> None:
        """Note what a partner takes elsewhere than on its link, and wait until it may have more."""
        await self._line(peer_id).meter.spend(load, size)

    def connected(self) -> tuple[PeerId, ...]:
        """Return the partners with a link."""
        return tuple(peer_id for peer_id, line in self._lines.items() if line.connection)

    def state(self, peer_id: PeerId) -> LinkState:
        """Return what is known of the link to a partner."""
        line = self._lines.get(peer_id)
        return LinkState() if line is None else replace(line.state, slowed_at=line.meter.slowed_at)

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
    ) -> AsyncGenerator[bytes, None]:
        """Yield bytes `start` to `end` (not included) of a partner's pack in parts as they come.

        They come from its federation listener, or over the link if that has no address or cannot be
        reached from here.  Raise Refusal for a "no", NotConnected, WrongContent.
        """
        partner, line, came = self._trusted(peer_id), self._line(peer_id), False
        time = asyncio.get_running_loop().time
        url = partner.record.federation_url
        if url and line.detour_until <= time():
            session = line.open_session(self._keys, partner, self._settings)
            try:
                async for piece in stream_range(
                    session, url + path, start, end, self._settings.silence_s, self._proxy
                ):
                    # Removed in mid-stream: not one more piece.
                    self._trusted(peer_id)
                    came = True
                    yield piece
            except NotReached as error:
                if came or line.connection is None:
                    raise
                line.detour_until = time() + self._settings.detour_s
                _log.warning("ranges-take-the-link", partner=peer_id.hex(), reason=str(error))
            else:
                return

        async def ask(message: object) -> object:
            return await self.request(peer_id, message, self._settings.range_s)

        async for piece in read_over_link(ask, path, start, end):
            self._trusted(peer_id)
            yield piece

    async def cut(self, peer_id: PeerId, reason: str = "The link was cut.") -> None:
        """End every connection with a partner at once."""
        line = self._lines.get(peer_id)
        if line is None:
            return
        if line.connection is not None:
            line.connection.drop(reason)
            self._unregister(line.connection)
        await line.close_session()

    async def keys_changed(self) -> None:
        """Tell every connected partner of our new key record, and dial anew under the new keys."""
        held = [line.connection for line in self._lines.values() if line.connection is not None]
        await asyncio.gather(*(self._acquaintance.tell(connection) for connection in held))
        for peer_id in list(self._lines):
            await self._begin_anew(peer_id, "This node has new keys.")

    async def keys_retired(self) -> None:
        """End every link: what our keys sign is not to reach anybody any more."""
        for peer_id in list(self._lines):
            await self.cut(peer_id, KEYS_RETIRED_SENTENCE)

    async def _begin_anew(self, peer_id: PeerId, reason: str) -> None:
        """Give up a link whose keys are old, once what is under way on it is done."""
        line = self._line(peer_id)
        held = line.connection
        if held is not None and self._group is not None:
            self._unregister(held)
            self._group.create_task(held.retire(reason))
        await line.close_session()
        line.changed.set()

    async def accept(self, socket: web.WebSocketResponse, partner: Partner) -> None:
        """Serve a link that `partner` has dialled, until it ends."""
        await self.spend(partner.peer_id, Load.LINKS, 0)
        try:
            ours = our_hello(self._keys, partner, self._clock.now(), self._speaks)
            hello = await answer_hello(socket, ours, self._settings.hello_s)
        except Refusal as refusal:
            self._line(partner.peer_id).note_refusal(refusal, self._clock.now())
            await socket.close()
            return
        except (Closed, TimeoutError, RemoteProtocolError, ConnectionError) as error:
            reason = type(error).__name__
            if self._failures.is_due((partner.peer_id, reason), self._clock.now()):
                _log.warning("link-hello-failed", partner=partner.peer_id.hex(), reason=reason)
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
            line.task = self._group.create_task(self._redial.keep(peer_id, line))

    # -- serving ----------------------------------------------------------------------------------

    async def _serve(self, connection: Connection, hello: Hello) -> None:
        if not self._register(connection, hello):
            await connection.close("There is a link already, or one of you has new keys.")
            return
        meter = self._line(connection.partner).meter
        try:
            await connection.serve(lambda message: self._dispatch(connection, message), meter)
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
        if self._keys.are_retired:
            return False
        if partner.record.tls_certificate != connection.certificate:
            return False  # It was dialled before the partner's new keys were followed.
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
        version = common_version(self._speaks, versions_of(hello))
        line.note_up(connection, version, offset, self._clock.now())
        self._group.create_task(self._acquaintance.learn(connection, hello))
        for callback in self._up:
            callback(connection.partner)
        return True

    def _unregister(self, connection: Connection) -> None:
        line = self._lines.get(connection.partner)
        if line is None or line.connection is not connection:
            return
        line.note_down(connection.reason, self._clock.now())
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
            await self._begin_anew(peer_id, "The partner has new keys.")
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
            await wait(line.connection.closed, CLOSE_S)
        await self.cut(partner.peer_id, THEY_ENDED_IT)
        actor = partner_node(partner.peer_id, partner.name)
        with contextlib.suppress(Conflict):  # A person here was faster.
            await self._partners.remove(partner.peer_id, actor, THEY_ENDED_IT, by_them=True)

    # -- parts ------------------------------------------------------------------------------------

    def _line(self, peer_id: PeerId) -> Line:
        line = self._lines.get(peer_id)
        if line is None:
            meter = Meter(self._settings, self._clock, partial(self._note_slowed, peer_id))
            line = self._lines[peer_id] = Line(meter)
        return line

    async def _note_slowed(self, peer_id: PeerId, load: Load) -> None:
        for listener in self._slowed:
            await listener(peer_id, load)

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

    async def _close_all(self) -> None:
        lines = list(self._lines.values())
        await asyncio.gather(
            *(line.connection.close("The node stops.") for line in lines if line.connection)
        )
        for line in lines:
            await line.close_session()
