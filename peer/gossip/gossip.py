"""One task for each connected partner, which feeds its `Exchange` one event after the other.

Each effect is performed before the next event (`peer.gossip.effects`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import structlog

from peer.clock import Clock
from peer.config import Settings
from peer.errors import NodeError
from peer.gossip.answers import Acknowledged, Freshness
from peer.gossip.effects import Effects, FaultListener, WithdrawnListener
from peer.gossip.evidence import evidence
from peer.gossip.memberships import Memberships
from peer.index import forks, frontiers, journal, withdrawals, witnesses
from peer.index import partners as partner_rows
from peer.index.batches import Labels
from peer.index.database import Database, Tx
from peer.index.forks import ForkRow
from peer.index.frontiers import Frontier
from peer.index.held import Held
from peer.index.journal import JournalKeys
from peer.link import Links, NotConnected
from peer.partners import Partner, Partners
from peer.recovery import Recovery
from protocol.errors import Refusal
from protocol.events import Appended, Connected, Event, ForkKnown, HeldJournal, Received, Tick
from protocol.exchange import Exchange
from protocol.frontier import claimed, have_body, is_fresh
from protocol.identifiers import PeerId
from protocol.limits import EXCHANGE_NOW_S, HAVE_BYTES
from protocol.messages import (
    HAVE_DOMAIN,
    Batches,
    Epochs,
    ExchangeNow,
    Fork,
    Have,
    HaveBody,
    HeldHeader,
    Holding,
    Membership,
    OriginHead,
    Origins,
    Refused,
    Relayed,
    Want,
    WantHeader,
    WantRelayed,
)
from protocol.nodekeys import NodeKeys
from protocol.reciprocity import EXCHANGE_INCOMPLETE
from protocol.records import from_bytes
from protocol.signing import sign
from protocol.statements import sign_statement

_log = structlog.get_logger()

JITTER_S: Final = 15
"""The next HAVE comes up to this much after its minute, so that links do not beat as one."""


class Keys(JournalKeys, Protocol):
    """What an exchange needs of this node's keys."""

    @property
    def node_keys(self) -> NodeKeys:
        """Every node key of ours, with the part of our journal that it signs."""


EXCHANGED: Final = (
    *(Have, Holding, Want, Epochs, Batches, Refused),
    *(Origins, WantHeader, HeldHeader, Fork),
    *(Membership, WantRelayed, Relayed),
)
"""The messages that are told about journals."""


@dataclass(slots=True)
class _Line:
    """One partner's exchange: its events, and room for what has been received."""

    room: asyncio.Semaphore
    """Messages that may wait for their turn; the next ones wait in the partner's socket."""
    events: asyncio.Queue[Event | None] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an event is dealt with."""
    turned: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the next event has been dealt with; then another one takes its place."""


class Gossip:
    """The exchanges with all connected partners.

    `db` is the index with our journal, `partners_db` keeps the partners'.  `labels` reads the
    labels that stand open in a body, so that searches find them.
    """

    def __init__(  # noqa: PLR0913 - one parameter for each room that it speaks for
        self,
        db: Database,
        partners_db: Database,
        links: Links,
        keys: Keys,
        clock: Clock,
        *,
        partners: Partners,
        recovery: Recovery,
        labels: Labels,
        settings: Settings,
    ) -> None:
        self._db = db
        self._partners_db = partners_db
        self._links = links
        self._keys = keys
        self._clock = clock
        self._partners = partners
        self._interval_s = settings.journal.exchange_interval_s
        self._waiting = settings.journal.waiting_messages
        self._effects = Effects(
            db,
            partners_db,
            links,
            clock,
            partners=partners,
            recovery=recovery,
            labels=labels,
            memberships=Memberships(partners_db, keys, clock),
            fault_s=settings.audit.fault_s,
        )
        self._effects.broadcast = self._broadcast
        self._lines: dict[PeerId, _Line] = {}
        self._group: asyncio.TaskGroup | None = None
        for kind in EXCHANGED:
            links.handle(kind, self._receive)
        links.handle(ExchangeNow, self._exchange_now_wanted)
        links.on_connected(self._connected)
        links.on_disconnected(self._disconnected)

    # -- for others

    def on_withdrawn(self, listener: WithdrawnListener) -> None:
        """Have `listener(origin, entry_ids)` awaited after a partner's entries were erased."""
        self._effects.withdrawn.append(listener)

    def on_fault(self, listener: FaultListener) -> None:
        """Have `listener(partner, error)` awaited when a partner broke the protocol.

        Once in `audit.fault_s` for each partner and kind of error.
        """
        self._effects.faults.append(listener)

    async def load(self) -> None:
        """Read what is held of each partner; before it `coverage` knows nothing."""
        await self._effects.load()

    async def run(self) -> None:
        """Keep an exchange going with each connected partner, until cancelled."""
        await self.load()
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                for peer_id in set(self._links.connected()) - self._lines.keys():
                    self._connected(peer_id)
                for peer_id, line in self._lines.items():
                    self._start(peer_id, line)
                await asyncio.Event().wait()
            finally:
                self._group = None
                self._lines.clear()

    async def appended(self) -> None:
        """Tell every connected partner that our journal has a new, durable head."""
        head = await self._db.read(lambda tx: journal.head(tx, self._keys.peer_id))
        if head is not None:
            self._broadcast(Appended(head))

    def coverage(self) -> Mapping[PeerId, Freshness]:
        """Return how far each active partner's journal can be relied on now."""
        now, connected = self._clock.now(), set(self._links.connected())
        answer: dict[PeerId, Freshness] = {}
        for partner in self._partners.active():
            known = self._effects.frontiers.get(partner.peer_id, Frontier())
            vouched = [] if known.head is None else [min(known.head.issued_at, now)]
            if known.progress.completed_at is not None:
                vouched.append(known.progress.completed_at)
            answer[partner.peer_id] = Freshness(
                head=known.head,
                last_confirmed_at=max(vouched, default=None),
                connected=partner.peer_id in connected,
                lease_over=known.joining or not is_fresh(known.head, now),
                forked=known.forked,
            )
        return answer

    def frontier(self, peer_id: PeerId) -> Frontier:
        """Return how far a partner's journal is held here."""
        return self._effects.frontiers.get(peer_id, Frontier())

    async def claims(self) -> Mapping[PeerId, OriginHead]:
        """Return what each partner last said that it holds of our journal."""
        said = await self._partners_db.read(witnesses.statements)
        heads: dict[PeerId, OriginHead] = {}
        for peer_id, statement in said.items():
            body = from_bytes(HaveBody, statement.payload, HAVE_BYTES)
            if (head := claimed(body, self._keys.peer_id)) is not None:
                heads[peer_id] = head
        return heads

    async def exchange_now(self, peer_id: PeerId) -> None:
        """Return when a partner holds all of our journal, by its word.

        Raise Refusal if it does not get there in time, NotConnected, TimeoutError.
        """
        me, line = self._keys.peer_id, self._lines.get(peer_id)
        if line is None:
            raise NotConnected("There is no link to this partner.")
        # After the turn that is under way: a HAVE that it has signed already is sent before this.
        async with line.turn:
            own = await self._db.read(lambda tx: journal.head(tx, me))
            theirs = self.frontier(peer_id)
            held = {me: own, peer_id: theirs.head}
            joining = {peer_id} if theirs.joining else ()
            body = have_body(me, peer_id, held, self._clock.now(), joining, theirs.early)
            statement = sign_statement(self._keys.node_seed, HAVE_DOMAIN, body)
        await self._links.request(peer_id, ExchangeNow(statement), 2 * EXCHANGE_NOW_S)

    async def acknowledged(self, seq: int) -> Mapping[PeerId, int | None]:
        """Return since when each active partner has applied our journal up to `seq`, if it has."""
        since = await self._partners_db.read(lambda tx: witnesses.acknowledged(tx, seq))
        return {each.peer_id: since.get(each.peer_id) for each in self._partners.active()}

    async def withdrawals(self, limit: int) -> list[Acknowledged]:
        """Return our latest withdrawals with the word of each partner, the newest first.

        A partner that became one later never had what was withdrawn, and is left out.
        """
        me = self._keys.peer_id
        made = await self._db.read(lambda tx: withdrawals.latest(tx, me, limit))
        partners = [(each.peer_id, each.since) for each in self._partners.active()]

        def work(tx: Tx) -> list[Acknowledged]:
            return [
                Acknowledged(
                    each,
                    {
                        peer_id: witnesses.applied_at(tx, peer_id, each.seq)
                        for peer_id, since in partners
                        if since <= each.at
                    },
                )
                for each in made
            ]

        return await self._partners_db.read(work)

    async def forks(self) -> Mapping[PeerId, ForkRow]:
        """Return the proofs on record against those who told two histories."""
        return await self._partners_db.read(forks.all_of)

    async def evidence(self, peer_id: PeerId) -> Mapping[str, object] | None:
        """Return the proof that a partner told two histories, for anybody to verify, or None."""
        row = (await self.forks()).get(peer_id)
        known = await self._db.read(lambda tx: partner_rows.get(tx, peer_id))
        return None if row is None or known is None else evidence(row, known.record)

    async def forget(self, peer_id: PeerId) -> None:
        """Erase all that is held of a removed partner; its links are cut already."""
        self._disconnected(peer_id)
        await self._effects.forget(peer_id)

    async def keys_changed(self, peer_id: PeerId) -> None:
        """Let go of what a partner's newest key record shows to be signed by a thief of its key."""
        partner = self._partners.get(peer_id)
        if partner is not None:
            await self._effects.drop_void(peer_id, partner.record.node_keys)

    # -- links

    def _connected(self, peer_id: PeerId) -> None:
        self._disconnected(peer_id)
        # Before `run` it only listens: what is said first is not said again for a while.
        line = self._lines[peer_id] = _Line(asyncio.Semaphore(self._waiting))
        self._start(peer_id, line)

    def _start(self, peer_id: PeerId, line: _Line) -> None:
        if self._group is not None and line.task is None:
            line.task = self._group.create_task(self._converse(peer_id, line))

    def _disconnected(self, peer_id: PeerId) -> None:
        line = self._lines.pop(peer_id, None)
        if line is not None and line.task is not None:
            line.task.cancel()

    async def _receive(self, message: object, partner: Partner) -> None:
        line = self._lines.get(partner.peer_id)
        if line is not None:
            await line.room.acquire()
            line.events.put_nowait(Received(message))

    async def _exchange_now_wanted(self, message: ExchangeNow, partner: Partner) -> None:
        """Take a HAVE, and answer when all that it announces of its author's journal is held."""
        came, peer_id = self._clock.now(), partner.peer_id
        body = from_bytes(HaveBody, message.statement.payload, HAVE_BYTES)
        claim = claimed(body, peer_id)
        await self._receive(Have(message.statement), partner)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXCHANGE_NOW_S):
                while (line := self._lines.get(peer_id)) is not None:
                    if self.frontier(peer_id).progress.completed_since(claim, came):
                        return
                    await line.turned.wait()
        raise Refusal(
            EXCHANGE_INCOMPLETE,
            "Not all that your facility has announced of its journal has come.",
            "It goes on by itself; ask again in a minute.",
        )

    async def _converse(self, peer_id: PeerId, line: _Line) -> None:
        partner = self._partners.get(peer_id)
        if partner is None:
            return
        me = self._keys.peer_id
        node_keys = partner.record.node_keys
        try:
            await self._effects.drop_void(peer_id, node_keys)
        except NodeError as error:
            # A full disk ends no exchange; the next batch that can be kept drops it too.
            _log.warning("void-journal-not-dropped", partner=peer_id.hex(), error=error)
        frontier = (await self._partners_db.read(frontiers.read)).get(peer_id, Frontier())
        # What was stored as the last link broke may be known to the database alone.
        self._effects.frontiers[peer_id] = frontier
        own, lacking = await self._db.read(
            lambda tx: (journal.head(tx, me), Held(tx, me).incomplete_from())
        )
        exchange = Exchange(
            me,
            peer_id,
            HeldJournal(own, self._keys.node_keys, lacking),
            HeldJournal(
                frontier.head,
                node_keys,
                frontier.incomplete_from,
                frontier.forked,
                frontier.joining,
                frontier.early,
            ),
            partial(sign, self._keys.node_seed, HAVE_DOMAIN),
            interval_s=self._interval_s,
            others=partial(self._effects.others, peer_id),
        )
        for origin, row in (await self.forks()).items():
            line.events.put_nowait(ForkKnown(origin, row.proof))
        event: Event | None = Connected(_jitter_s())
        while True:
            try:
                async with line.turn:
                    await self._effects.turn(exchange, event)
            except NodeError as error:
                # Our own trouble (a full disk, a link that just went) is no fault of the partner's;
                # what is lacking is asked for again when its time has come.
                _log.warning("exchange-interrupted", partner=peer_id.hex(), error=error)
            if isinstance(event, Received):
                line.room.release()
            line.turned.set()
            line.turned = asyncio.Event()
            event = await self._next_event(exchange, line)

    def _broadcast(self, event: Event | None) -> None:
        for line in self._lines.values():
            line.events.put_nowait(event)

    async def _next_event(self, exchange: Exchange, line: _Line) -> Event | None:
        patience_s = max(1, exchange.wake_at - self._clock.now())
        try:
            # Not wait_for: until Python 3.12 it can swallow a cancellation, and run on for ever.
            async with asyncio.timeout(patience_s):
                return await line.events.get()
        except TimeoutError:
            return Tick(_jitter_s())


def _jitter_s() -> int:
    return random.randrange(JITTER_S)  # noqa: S311 - spreads load, keeps no secret
