"""Performs the effects of `protocol.exchange`: what is stored is durable before the next word."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, TypeAlias, assert_never

import structlog

from peer import audit
from peer.actors import NODE
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import Conflict, NodeError
from peer.gossip.memberships import Memberships
from peer.index import batches, epochs, forks, frontiers, journal, relaying, witnesses
from peer.index.batches import Labels, Run
from peer.index.database import Database, Tx
from peer.index.frontiers import Frontier
from peer.index.held import Held
from peer.link import Links
from peer.logs import Seldom
from peer.partners import Partners
from peer.recovery import Recovery
from protocol.entries import Header
from protocol.epochs import SignedEpoch
from protocol.errors import Forked, RemoteProtocolError
from protocol.events import (
    Begin,
    Begun,
    Effect,
    Event,
    FindHeader,
    ForkKnown,
    Freeze,
    HeaderFound,
    HeldJournal,
    KeepMembership,
    Load,
    Loaded,
    Refuse,
    Regain,
    Renew,
    Send,
    Store,
    Stored,
    Vouch,
    Witness,
    Witnessed,
)
from protocol.exchange import Exchange
from protocol.forks import ForkProof, place_of
from protocol.frontier import claimed
from protocol.identifiers import EntryId, PeerId
from protocol.limits import HEADER_BYTES
from protocol.messages import Refused
from protocol.nodekeys import NodeKeys
from protocol.reciprocity import Progress
from protocol.records import from_bytes

_log = structlog.get_logger()

ASKED_AGAIN: Final = "Nothing needs to be done: it is asked for again."
ASK_THEM: Final = "Nothing more of this journal is read; the operators of both sides must talk."

WithdrawnListener: TypeAlias = Callable[[PeerId, tuple[EntryId, ...]], Awaitable[None]]
FaultListener: TypeAlias = Callable[[PeerId, RemoteProtocolError], Awaitable[None]]


class Effects:
    """What the exchanges bring about here: in both databases, on the links, for listeners.

    `frontiers` is what is known of each partner's journal, as `partners_db` has it; `broadcast`
    feeds an event to every exchange; None: our own journal has changed other than by growing.  A
    partner that errs at full speed must not fill the audit trail: it is told of each kind once in
    `fault_s`.
    """

    def __init__(  # noqa: PLR0913 - one parameter for each room that it acts in
        self,
        db: Database,
        partners_db: Database,
        links: Links,
        clock: Clock,
        *,
        partners: Partners,
        recovery: Recovery,
        labels: Labels,
        memberships: Memberships,
        fault_s: int,
    ) -> None:
        self.frontiers: dict[PeerId, Frontier] = {}
        self.withdrawn: list[WithdrawnListener] = []
        self.faults: list[FaultListener] = []
        self._db = db
        self._partners_db = partners_db
        self._links = links
        self._clock = clock
        self._partners = partners
        self._recovery = recovery
        self._labels = labels
        self._memberships = memberships
        self._faults = Seldom(fault_s)
        self._log_is_full = False
        self.broadcast: Callable[[Event | None], None] = lambda _: None

    async def load(self) -> None:
        """Read what is held of each partner, and what each has signed for us."""
        self.frontiers = await self._partners_db.read(frontiers.read)
        await self._memberships.load()

    async def forget(self, peer_id: PeerId) -> None:
        """Erase all that is held of a partner's journal."""
        await self._partners_db.write(lambda tx: batches.purge(tx, peer_id))
        await self._memberships.forget(peer_id)
        self.frontiers.pop(peer_id, None)
        await self._empty_log()

    async def drop_void(self, peer_id: PeerId, keys: NodeKeys) -> None:
        """Erase a journal whose newest batch none of the keys that were to sign it has signed."""
        if await self._partners_db.write(lambda tx: frontiers.drop_void(tx, peer_id, keys)):
            _log.warning("journal-void", partner=peer_id.hex())
            # A fork that was proved stays proved, and an epoch that has ended is over.
            old = self.frontiers.get(peer_id, Frontier())
            self.frontiers[peer_id] = Frontier(forked=old.forked, newest_epoch=old.newest_epoch)
            await self._empty_log()

    def others(self, peer_id: PeerId) -> dict[PeerId, HeldJournal]:
        """Return what is held of each active partner's journal, `peer_id` excepted."""
        found: dict[PeerId, HeldJournal] = {}
        linked = set(self._links.connected())
        for partner in self._partners.active():
            if partner.peer_id != peer_id:
                known = self.frontiers.get(partner.peer_id, Frontier())
                found[partner.peer_id] = HeldJournal(
                    known.head,
                    partner.record.node_keys,
                    known.incomplete_from,
                    known.forked,
                    known.joining,
                    linked=partner.peer_id in linked,
                    membership=self._memberships.held.get(partner.peer_id),
                    ended=known.ended,
                )
        return found

    async def turn(self, exchange: Exchange, event: Event | None) -> None:
        """Handle one event, and all that its effects bring about.  None: see `broadcast`."""
        events = deque([await self._own_again(exchange.me) if event is None else event])
        while events:
            for effect in exchange.handle(events.popleft(), self._clock.now()):
                outcome = await self._perform(exchange, effect)
                if outcome is not None:
                    events.append(outcome)

    async def _perform(self, exchange: Exchange, effect: Effect) -> Event | None:
        partner = exchange.partner
        match effect:
            case Send(message):
                if exchange.own is not None:
                    await self._recovery.cover(exchange.own.epoch, exchange.own.batch)
                await self._links.tell(partner, message)
            case Renew():
                await self._renew(exchange, effect)
            case Vouch():
                await self._links.tell(partner, self._memberships.vouch(partner))
            case KeepMembership(statement):
                await self._memberships.keep(partner, statement)
            case Freeze(origin, proof):
                await self._freeze(origin, proof, partner)
            case Refuse(error):
                await self._refuse(partner, error)
            case _:
                return await self._answer(exchange, effect)
        return None

    async def _answer(
        self, exchange: Exchange, effect: Store | Load | Begin | Witness | FindHeader | Regain
    ) -> Event | None:
        """Perform an effect whose outcome the exchange waits for."""
        match effect:
            case Store():
                return await self._store(effect, relayed=effect.origin != exchange.partner)
            case Load():
                return await self._load(exchange, effect)
            case Begin(origin, records):
                return await self._begin(exchange, origin, records)
            case Witness():
                return await self._witness(exchange, effect)
            case FindHeader():
                return await self._find_header(exchange, effect)
            case Regain():
                return await self._regain(exchange, effect)
            case _:
                assert_never(effect)

    async def _store(self, effect: Store, *, relayed: bool) -> Stored:
        origin = effect.origin
        partner = self._partners.get(origin)
        if partner is None:
            raise NodeError("The partner was removed while its journal was being read.")
        keys = partner.record.node_keys
        now, known = self._clock.now(), self.frontiers.get(origin, Frontier())

        def work(tx: Tx) -> tuple[bool, Run, dict[str, Progress]]:
            void = frontiers.drop_void(tx, origin, keys)
            follow = relaying.store if relayed else batches.store
            run = follow(tx, origin, keys, effect.batches, self._labels, effect.newest)
            run = epochs.drop_forked(tx, origin, run)
            if relayed:
                return void, run, {}  # Its origin has said nothing, or meanwhile more than we know.
            advanced = run.head != known.head
            progress = known.progress.stored(run.head, now, whole=run.whole, advanced=advanced)
            if progress.completed_at == now:
                witnesses.completed(tx, origin, now)
            return void, run, {"progress": progress}

        with self._blamed_on_us(origin):
            void, run, said = await self._partners_db.write(work)
        if void:
            _log.warning("journal-void", partner=origin.hex())
        self._update(
            origin,
            head=run.head,
            incomplete_from=run.incomplete_from,
            joining=run.joining,
            early=run.early,
            **said,
        )
        if run.erased or void or self._log_is_full:
            await self._empty_log()
        if run.withdrawn:
            for withdrawn in self.withdrawn:
                await withdrawn(origin, run.withdrawn)
        return Stored(
            origin,
            run.head,
            run.through,
            effect.more,
            run.incomplete_from,
            run.error,
            run.joining,
            run.early,
        )

    async def _regain(self, exchange: Exchange, effect: Regain) -> Stored:
        me = exchange.me
        run = await self._recovery.regain(effect.batches, effect.newest)
        if run.head != exchange.own:
            self.broadcast(None)
        return Stored(me, run.head, run.through, effect.more, run.incomplete_from, run.error)

    async def _own_again(self, me: PeerId) -> Begun:
        """Return where our journal ends now: what was true when this was asked may be overtaken."""
        held = await self._db.read(lambda tx: (Held(tx, me).head(), Held(tx, me).incomplete_from()))
        return Begun(me, *held)

    async def _begin(
        self, exchange: Exchange, origin: PeerId, records: tuple[SignedEpoch, ...]
    ) -> Begun | None:
        """Take note of new epochs; what they make void is erased before anything else is read."""

        def work(tx: Tx) -> tuple[epochs.Begun, bool]:
            return epochs.begin(tx, origin, records), origin in forks.all_of(tx)

        try:
            if origin == exchange.me:
                begun, forked = await self._recovery.learn_epochs(records), False
            else:
                begun, forked = await self._partners_db.write(work)
        except RemoteProtocolError as error:
            await self._refuse(exchange.partner, error)
            return None
        event = Begun(origin, begun.head, begun.incomplete_from, begun.joining, forked, begun.early)
        if origin == exchange.me:
            if begun.rewound:
                self.broadcast(None)
            return event
        progress = self.frontiers.get(origin, Frontier()).progress
        if begun.rewound:
            whole = begun.incomplete_from is None and not begun.joining
            progress = progress.rewound(begun.head, self._clock.now(), whole=whole)
        self._update(
            origin,
            head=begun.head,
            incomplete_from=begun.incomplete_from,
            joining=begun.joining,
            early=begun.early,
            progress=progress,
            forked=forked,
            newest_epoch=begun.newest,
        )
        if begun.rewound:
            _log.warning("journal-rewound", partner=origin.hex())
            await self._empty_log()
            for listener in self.withdrawn:
                await listener(origin, begun.dropped)
        return event

    async def _load(self, exchange: Exchange, effect: Load) -> Loaded:
        origin, start, epoch = effect.origin, effect.from_batch, effect.epoch
        if origin != exchange.me:
            to_origin = origin == exchange.partner
            return await self._partners_db.read(
                lambda tx: batches.load(tx, origin, start, epoch=epoch, to_origin=to_origin)
            )
        loaded = await self._db.read(lambda tx: batches.load(tx, origin, start, epoch=epoch))
        if loaded.batches:
            last = from_bytes(Header, loaded.batches[-1].header, HEADER_BYTES)
            await self._recovery.cover(last.epoch, last.batch)
        return loaded

    async def _find_header(self, exchange: Exchange, effect: FindHeader) -> HeaderFound:
        database = self._db if effect.origin == exchange.me else self._partners_db
        held = await database.read(lambda tx: Held(tx, effect.origin).header(effect.batch))
        return HeaderFound(effect.origin, effect.batch, held, effect.because)

    async def _freeze(self, origin: PeerId, proof: ForkProof, partner: PeerId) -> None:
        """Keep a proof; if it says something new, put it on record and tell everyone."""
        now, told_by = self._clock.now(), None if partner == origin else partner
        if not await self._partners_db.write(
            lambda tx: forks.record(tx, origin, proof, now, told_by)
        ):
            return
        self._update(origin, forked=True)
        epoch, batch = place_of(proof)
        _log.error("journal-forked", partner=origin.hex(), epoch=epoch, batch=batch)
        detail: dict[str, str | int] = {"epoch": epoch, "batch": batch}
        detail["told_by"] = (told_by or origin).hex()
        event = AuditEvent("journal-forked", "failed", NODE, partner=origin, detail=detail)
        await self._db.write(lambda tx: audit.append(tx, event, now))
        self.broadcast(ForkKnown(origin, proof))

    async def _witness(self, exchange: Exchange, effect: Witness) -> Witnessed:
        now = self._clock.now()
        me, ours = exchange.me, claimed(effect.body, exchange.me)
        await self._recovery.heard(exchange.partner, ours)
        last_seq = await self._db.read(lambda tx: journal.applied(tx, me, ours))
        known = self.frontiers.get(exchange.partner, Frontier())
        theirs = claimed(effect.body, exchange.partner)
        progress = known.progress.heard(theirs, known.head, now, whole=known.whole)
        with self._blamed_on_us(exchange.partner):
            await self._partners_db.write(
                lambda tx: witnesses.record(
                    tx,
                    exchange.partner,
                    effect.statement,
                    last_seq=last_seq,
                    in_step=progress.outstanding_since is None,
                    now=now,
                )
            )
        self._update(exchange.partner, progress=progress)
        return Witnessed(effect.body)

    async def _renew(self, exchange: Exchange, effect: Renew) -> None:
        partner, me, now = exchange.partner, exchange.me, self._clock.now()
        last_seq = await self._db.read(lambda tx: journal.applied(tx, me, effect.ours))
        known = self.frontiers.get(partner, Frontier())
        progress = known.progress.heard(effect.theirs, known.head, now, whole=known.whole)
        in_step = progress.outstanding_since is None
        with self._blamed_on_us(partner):
            await self._partners_db.write(
                lambda tx: witnesses.renew(tx, partner, last_seq=last_seq, in_step=in_step, now=now)
            )
        self._update(partner, progress=progress)

    async def _refuse(self, partner: PeerId, error: RemoteProtocolError) -> None:
        _log.warning("exchange-refused", partner=partner.hex(), code=error.code)
        now = self._clock.now()
        if self._faults.is_due((partner, error.code), now):
            for listener in self.faults:
                await listener(partner, error)
        remedy = ASK_THEM if isinstance(error, Forked) else ASKED_AGAIN
        await self._links.tell(partner, Refused(error.code, str(error), remedy))

    @contextmanager
    def _blamed_on_us(self, origin: PeerId) -> Iterator[None]:
        """Note that a partner is not to blame for what could not be kept here."""
        try:
            yield
        except NodeError:
            known = self.frontiers.get(origin, Frontier())
            self._update(origin, progress=known.progress.failed(self._clock.now()))
            raise

    def _update(self, origin: PeerId, **changes: Any) -> None:  # noqa: ANN401 - Frontier's fields
        self.frontiers[origin] = replace(self.frontiers.get(origin, Frontier()), **changes)

    async def _empty_log(self) -> None:
        """Empty the write-ahead log of what was erased; behind a long read, the next time."""
        try:
            await self._partners_db.checkpoint_truncate()
            self._log_is_full = False
        except Conflict:
            self._log_is_full = True
            _log.warning("log-not-emptied")
