"""Performs the effects of `protocol.exchange` over the links: the journals meet here.

One task for each connected partner feeds its `Exchange` one event after the other and performs each
effect before the next event, so that what is stored is durable before a word is said about it.
Nothing here decides anything about a journal, and nothing else calls in: whoever appends to ours
says so with `appended`, whoever wants to know of theirs listens.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias, assert_never

import structlog

from peer.clock import Clock
from peer.errors import Conflict, NodeError
from peer.index import batches, frontiers, journal, witnesses
from peer.index.batches import Labels
from peer.index.database import Database
from peer.index.frontiers import Frontier
from peer.index.journal import JournalKeys
from peer.link import Links
from peer.partners import Partner, Partners
from protocol.errors import Forked, RemoteProtocolError
from protocol.exchange import (
    Appended,
    Connected,
    Effect,
    Event,
    Exchange,
    Freeze,
    Halt,
    HeldJournal,
    Load,
    Loaded,
    Received,
    Refuse,
    Send,
    Store,
    Stored,
    Tick,
    Witness,
)
from protocol.frontier import claimed, is_ahead, is_fresh
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Head
from protocol.limits import EXCHANGE_S
from protocol.messages import HAVE_DOMAIN, Batches, Have, Refused, Want
from protocol.signing import public_key, sign

_log = structlog.get_logger()

ASKED_AGAIN: Final = "Nothing needs to be done: it is asked for again."
ASK_THEM: Final = "Nothing more of this journal is read; the operators of both sides must talk."

WAITING_MESSAGES: Final = 4
"""Messages of one partner that wait for their turn; the next ones wait in the partner's socket.
Each has at most 4 MiB, so that a hundred partners at once hold 1.6 GiB at the very worst."""

JITTER_S: Final = 15
"""The next HAVE comes up to this much after its minute, so that links do not beat as one."""

FAULT_AGAIN_S: Final = 3600
"""A partner that errs at full speed must not fill the audit trail: one record an hour says it."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far, and since when, a partner's journal can be relied on.

    `last_confirmed_at`: Unix seconds at which the partner last vouched for `head`, None if never.
    `lease_over`: nothing of it may be listed.  `forked`: it signed two histories, and is followed
    no further.
    """

    head: Head | None
    last_confirmed_at: int | None
    connected: bool
    lease_over: bool
    forked: bool


@dataclass(slots=True)
class _Line:
    """One partner's exchange: its events, and room for what has been received."""

    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WAITING_MESSAGES))
    task: asyncio.Task[None] | None = None


WithdrawnListener: TypeAlias = Callable[[PeerId, tuple[EntryId, ...]], Awaitable[None]]
FaultListener: TypeAlias = Callable[[PeerId, RemoteProtocolError], Awaitable[None]]


class Gossip:
    """The exchanges with all connected partners.

    `db` is the index with our journal, `partners_db` keeps the partners'.  `labels` reads the
    labels that stand open in a body, so that searches find them.  `interval_s`: from HAVE to HAVE.
    """

    def __init__(
        self,
        db: Database,
        partners_db: Database,
        links: Links,
        keys: JournalKeys,
        clock: Clock,
        *,
        partners: Partners,
        labels: Labels,
        interval_s: int = EXCHANGE_S,
    ) -> None:
        self._db = db
        self._partners_db = partners_db
        self._links = links
        self._keys = keys
        self._clock = clock
        self._partners = partners
        self._labels = labels
        self._interval_s = interval_s
        self._frontiers: dict[PeerId, Frontier] = {}
        self._lines: dict[PeerId, _Line] = {}
        self._group: asyncio.TaskGroup | None = None
        self._withdrawn: list[WithdrawnListener] = []
        self._faults: list[FaultListener] = []
        self._on_record: dict[tuple[PeerId, str], int] = {}
        self._log_is_full = False
        for kind in (Have, Want, Batches, Refused):
            links.handle(kind, self._receive)
        links.on_connected(self._connected)
        links.on_disconnected(self._disconnected)

    # -- for others

    def on_withdrawn(self, listener: WithdrawnListener) -> None:
        """Have `listener(origin, entry_ids)` awaited after a partner's entries were erased."""
        self._withdrawn.append(listener)

    def on_fault(self, listener: FaultListener) -> None:
        """Have `listener(partner, error)` awaited when a partner broke the protocol.

        Once an hour for each partner and kind of error.
        """
        self._faults.append(listener)

    async def load(self) -> None:
        """Read what is held of each partner; before it `coverage` knows nothing."""
        self._frontiers = await self._partners_db.read(frontiers.read)

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
            for line in self._lines.values():
                line.events.put_nowait(Appended(head))

    def coverage(self) -> Mapping[PeerId, Freshness]:
        """Return how far each active partner's journal can be relied on now."""
        now, connected = self._clock.now(), set(self._links.connected())
        answer: dict[PeerId, Freshness] = {}
        for partner in self._partners.active():
            known = self._frontiers.get(partner.peer_id, Frontier())
            vouched = [] if known.head is None else [min(known.head.issued_at, now)]
            if known.in_step_at is not None:
                vouched.append(known.in_step_at)
            answer[partner.peer_id] = Freshness(
                head=known.head,
                last_confirmed_at=max(vouched, default=None),
                connected=partner.peer_id in connected,
                lease_over=not is_fresh(known.head, now),
                forked=known.forked,
            )
        return answer

    async def acknowledged(self, seq: int) -> Mapping[PeerId, int | None]:
        """Return since when each active partner has applied our journal up to `seq`, if it has."""
        since = await self._partners_db.read(lambda tx: witnesses.acknowledged(tx, seq))
        return {each.peer_id: since.get(each.peer_id) for each in self._partners.active()}

    async def forget(self, peer_id: PeerId) -> None:
        """Erase all that is held of a removed partner; its links are cut already."""
        self._disconnected(peer_id)
        await self._partners_db.write(lambda tx: batches.purge(tx, peer_id))
        self._frontiers.pop(peer_id, None)
        await self._empty_log()

    # -- links

    def _connected(self, peer_id: PeerId) -> None:
        self._disconnected(peer_id)
        # Before `run` it only listens: what is said first is not said again for a while.
        line = self._lines[peer_id] = _Line()
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

    async def _converse(self, peer_id: PeerId, line: _Line) -> None:
        partner = self._partners.get(peer_id)
        if partner is None:
            return
        me = self._keys.peer_id
        frontier = (await self._partners_db.read(frontiers.read)).get(peer_id, Frontier())
        own = await self._db.read(lambda tx: journal.head(tx, me))
        exchange = Exchange(
            me,
            peer_id,
            HeldJournal(own, public_key(self._keys.node_seed)),
            HeldJournal(
                frontier.head,
                partner.record.node_public,
                frontier.incomplete_from,
                frontier.forked,
            ),
            partial(sign, self._keys.node_seed, HAVE_DOMAIN),
            interval_s=self._interval_s,
        )
        event: Event = Connected(_jitter_s())
        while True:
            try:
                await self._turn(exchange, event)
            except NodeError as error:
                # Our own trouble (a full disk, a link that just went) is no fault of the partner's;
                # what is lacking is asked for again when its time has come.
                _log.warning("exchange-interrupted", partner=peer_id.hex(), error=error)
            if isinstance(event, Received):
                line.room.release()
            event = await self._next_event(exchange, line)

    async def _next_event(self, exchange: Exchange, line: _Line) -> Event:
        patience_s = max(1, exchange.wake_at - self._clock.now())
        try:
            # Not wait_for: until Python 3.12 it can swallow a cancellation, and run on for ever.
            async with asyncio.timeout(patience_s):
                return await line.events.get()
        except TimeoutError:
            return Tick(_jitter_s())

    # -- effects

    async def _turn(self, exchange: Exchange, event: Event) -> None:
        """Handle one event, and all that its effects bring about."""
        events = deque([event])
        while events:
            for effect in exchange.handle(events.popleft(), self._clock.now()):
                outcome = await self._perform(exchange, effect)
                if outcome is not None:
                    events.append(outcome)

    async def _perform(self, exchange: Exchange, effect: Effect) -> Event | None:
        partner = exchange.partner
        match effect:
            case Send(message):
                await self._links.tell(partner, message)
            case Store():
                return await self._store(effect)
            case Load(origin, from_batch):
                return await self._load(origin, from_batch)
            case Witness():
                await self._witness(exchange, effect)
            case Freeze(origin, proof):
                now = self._clock.now()
                await self._partners_db.write(
                    lambda tx: witnesses.record_fork(tx, origin, proof, now)
                )
                self._update(origin, forked=True)
                _log.error("journal-forked", partner=origin.hex())
            case Halt(signed, header):
                await self._db.write(lambda tx: journal.halt(tx, exchange.me, signed, header.batch))
                _log.error("journal-halted", partner=partner.hex())
            case Refuse(error):
                await self._refuse(partner, error)
            case _:
                assert_never(effect)
        return None

    async def _store(self, effect: Store) -> Stored:
        origin = effect.origin
        partner = self._partners.get(origin)
        if partner is None:
            raise NodeError("The partner was removed while its journal was being read.")
        node_key = partner.record.node_public
        run = await self._partners_db.write(
            lambda tx: batches.store(tx, origin, node_key, effect.batches, self._labels)
        )
        self._update(origin, head=run.head, incomplete_from=run.incomplete_from)
        if run.erased or self._log_is_full:
            await self._empty_log()
        if run.withdrawn:
            for withdrawn in self._withdrawn:
                await withdrawn(origin, run.withdrawn)
        return Stored(origin, run.head, run.through, effect.more, run.incomplete_from, run.error)

    async def _load(self, origin: PeerId, from_batch: int) -> Loaded:
        database = self._db if origin == self._keys.peer_id else self._partners_db
        return await database.read(lambda tx: batches.load(tx, origin, from_batch))

    async def _witness(self, exchange: Exchange, effect: Witness) -> None:
        now = self._clock.now()
        me, ours = exchange.me, claimed(effect.body, exchange.me)
        last_seq = await self._db.read(lambda tx: journal.applied(tx, me, ours))
        theirs = claimed(effect.body, exchange.partner)
        in_step = theirs is not None and not is_ahead(theirs, exchange.theirs)
        await self._partners_db.write(
            lambda tx: witnesses.record(
                tx,
                exchange.partner,
                effect.statement,
                last_seq=last_seq,
                in_step=in_step,
                now=now,
            )
        )
        if in_step:
            self._update(exchange.partner, in_step_at=now)

    async def _refuse(self, partner: PeerId, error: RemoteProtocolError) -> None:
        _log.warning("exchange-refused", partner=partner.hex(), code=error.code)
        now = self._clock.now()
        if now - self._on_record.get((partner, error.code), now - FAULT_AGAIN_S) >= FAULT_AGAIN_S:
            self._on_record[partner, error.code] = now
            for listener in self._faults:
                await listener(partner, error)
        remedy = ASK_THEM if isinstance(error, Forked) else ASKED_AGAIN
        await self._links.tell(partner, Refused(error.code, str(error), remedy))

    def _update(self, origin: PeerId, **changes: Any) -> None:  # noqa: ANN401 - Frontier's fields
        self._frontiers[origin] = replace(self._frontiers.get(origin, Frontier()), **changes)

    async def _empty_log(self) -> None:
        """Empty the write-ahead log of what was erased; behind a long read, the next time."""
        try:
            await self._partners_db.checkpoint_truncate()
            self._log_is_full = False
        except Conflict:
            self._log_is_full = True
            _log.warning("log-not-emptied")


def _jitter_s() -> int:
    return random.randrange(JITTER_S)  # noqa: S311 - spreads load, keeps no secret
