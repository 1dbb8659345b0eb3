"""Whether our journal may be written; takes back from the partners what it lacks.

fence
    A file beside the database that says how far the journal had come (`peer.index.fence`).
pen
    The rule: after a start, and after the journal was set back, partners are asked before anything
    is signed (`protocol.recovery`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import structlog

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import Conflict
from peer.index import batches, epochs, journal
from peer.index.batches import Run
from peer.index.database import Database, Tx
from peer.index.epochs import Begun
from peer.index.fence import Fence, Position
from peer.index.held import Held
from peer.index.journal import Halt
from peer.tasks import carry_through
from protocol.entries import SignedBatch, SignedHeader, read_header
from protocol.epochs import EpochRecord, SignedEpoch, verify_epoch
from protocol.errors import Refusal
from protocol.forks import ForkFound
from protocol.identifiers import PeerId
from protocol.journal import Head
from protocol.messages import OriginHead
from protocol.nodekeys import NodeKeys
from protocol.recovery import Pause, Pen

_log = structlog.get_logger()

REBUILDING: Final = "rebuilding"
"""The journal is whole; what is published is being compared with it."""

Listener: TypeAlias = Callable[[], Awaitable[None]]


class Keys(Protocol):
    """What it takes to know our own journal."""

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""

    @property
    def node_keys(self) -> NodeKeys:
        """Every node key of ours, with the part of the journal that it signs."""

    @property
    def are_retired(self) -> bool:
        """Whether partners know later keys of ours, which this node does not have."""


class Partner(Protocol):
    """What is asked of a partner here."""

    @property
    def peer_id(self) -> PeerId:
        """Who it is."""


@dataclass(frozen=True, slots=True)
class JournalState:
    """Our journal as an operator sees it.

    state: "writing", or why nothing is written: a `Pause` or REBUILDING.  since: of that, Unix
    seconds; None while writing.  unheard: the partners that have not said yet what they hold of it.
    answers: what the others hold.  lacking: those who name what has not come back.  epoch_due_at:
    from when on a new epoch may begin without waiting for the rest; next_epoch: its record, yet to
    be dated and signed by the root key.
    """

    head: Head | None
    fence: Position | None
    state: str
    since: int | None
    unheard: frozenset[PeerId]
    answers: dict[PeerId, OriginHead | None]
    lacking: frozenset[PeerId]
    epoch_due_at: int | None
    next_epoch: EpochRecord | None


class Recovery:
    """Our journal's pen and fence.

    `partners` returns the active partners, loaded before `load` is called.
    """

    def __init__(
        self,
        db: Database,
        data: Path,
        keys: Keys,
        clock: Clock,
        partners: Callable[[], Iterable[Partner]],
    ) -> None:
        self._db = db
        self._data = data
        self._keys = keys
        self._me = keys.peer_id
        self._clock = clock
        self._partners = partners
        self._pen = Pen(clock.now())
        self._fence: Fence | None = None
        self._fencing = asyncio.Lock()
        self._listeners: list[Listener] = []

    def on_change(self, listener: Listener) -> None:
        """Have `listener` awaited whenever it may have become possible to write."""
        self._listeners.append(listener)

    # -- at the start -----------------------------------------------------------------------------

    async def load(self) -> None:
        """Find out whether the journal was set back, before anything is signed."""
        self._fence = fence = Fence(self._data, self._me)

        def work(tx: Tx) -> tuple[Head | None, Halt | None]:
            head = journal.head(tx, self._me)
            lost = fence.is_missing and journal.is_fenced(tx)
            if fence.is_in_doubt or lost or fence.is_ahead(_position(head)):
                journal.halt(tx, Halt.BEHIND)
            return head, journal.halted(tx)

        head, halted = await self._db.write(work)
        now = self._clock.now()
        self._pen = Pen(now).among(self._active())
        if halted in {Halt.BEHIND, Halt.FORKED}:
            self._pen = self._pen.set_back(now)
            _log.warning("journal-set-back", fence=fence.position, head=_position(head))
        if halted is Halt.FORKED:
            self._pen = self._pen.found_fork()
        if fence.is_in_doubt and head is not None:
            # That it is in doubt stands in the database by now.
            await self._put(_position(head) or Position(0, 0))
        await self._settle()

    # -- for whoever writes -----------------------------------------------------------------------

    def may_write(self, tx: Tx) -> bool:
        """Return whether the journal may be appended to now; asked in the writer's transaction."""
        is_free = journal.halted(tx) is None and self._pen.pause(self._clock.now()) is None
        return is_free and self._has_key(tx)

    async def cover(self, epoch: int, batch: int) -> None:
        """Make durable that our journal has come so far, before any byte of it leaves."""
        position = Position(epoch, batch)
        async with self._fencing:
            fence = self._fence
            if fence is None or fence.position is None or fence.position < position:
                await self._put(position)

    async def keys_retired(self) -> None:
        """Stop.  With new keys the journal goes on in an epoch that begins behind all lost ones."""
        await self._db.write(lambda tx: journal.halt(tx, Halt.BEHIND))
        self._pen = self._pen.set_back(self._clock.now())

    # -- what partners say ------------------------------------------------------------------------

    async def heard(self, partner: PeerId, claim: OriginHead | None) -> None:
        """Take note of what a partner's HAVE says of our journal."""
        now = self._clock.now()
        held = claim is None or await self._db.read(lambda tx: journal.holds(tx, self._me, claim))
        before = self._pen
        self._pen = before.heard(partner, claim, now, held=held)
        if before.pause(now) is not self._pen.pause(now):
            _log.info("journal-pen", pause=self._pen.pause(now))
        if self._pen.set_back_at is not None:
            await self._settle()
        elif before.pause(now) is not None and self._pen.pause(now) is None:
            await self._tell()

    async def regain(
        self, given_back: Sequence[SignedBatch], newest: SignedHeader | None = None
    ) -> Run:
        """Store batches of our own journal that a partner holds and we lack; sign nothing more.

        Their headers bear our signature (`protocol.regaining`), so that even what cannot be stored
        shows that we are behind ourselves.  `newest`: see `batches.store`.
        """
        keys = self._keys.node_keys

        def work(tx: Tx) -> tuple[Run, bool, bool]:
            head = journal.head(tx, self._me)
            run = batches.store(tx, self._me, keys, given_back, None, newest)
            forked = isinstance(run.error, ForkFound)
            shown = [read_header(each.signed_header, self._me, keys) for each in given_back]
            behind = any(Position(each.epoch, each.batch) > _place(head) for each in shown)
            if forked:
                journal.halt(tx, Halt.FORKED)
                if self._is_longer(head):
                    run = epochs.adopt(tx, self._me, keys, given_back, newest) or run
            elif behind:
                journal.halt(tx, Halt.BEHIND)
            return epochs.drop_void(tx, self._me, run), forked or behind, forked

        run, behind, forked = await self._db.write(work)
        if behind:
            self._pen = self._pen.set_back(self._clock.now())
            _log.warning("journal-regained", through=run.through)
        if forked:
            self._pen = self._pen.found_fork()
            _log.error("own-journal-forked")
        if run.erased or forked:
            await self._empty_log()
        if behind:
            await self._settle()
        return run

    def _is_longer(self, head: Head | None) -> bool:
        """Return whether a partner names more of our journal than a history that ends at `head`.

        Ours is then what a copy signed that was set back; the longer one holds what we have lost.
        """
        claims = [claim for claim in self._pen.answers.values() if claim is not None]
        return any(Position(each.epoch, each.batch) > _place(head) for each in claims)

    async def learn_epochs(self, records: Sequence[SignedEpoch]) -> Begun:
        """Take note of epochs of our own journal that a partner knows and we have lost.

        Raise BadSignature, Malformed or Forked for what our root key did not sign, or signed twice.
        """

        def work(tx: Tx) -> tuple[Begun, bool]:
            before = epochs.newest(tx, self._me)
            begun = epochs.begin(tx, self._me, records, labelled=False)
            lost = epochs.newest(tx, self._me) > before
            if lost:
                journal.halt(tx, Halt.BEHIND)
            return begun, lost

        begun, lost = await self._db.write(work)
        if lost:
            self._pen = self._pen.set_back(self._clock.now())
            _log.warning("journal-epoch-regained")
        return begun

    async def begin_epoch(self, signed: SignedEpoch, actor: Actor, *, wait: bool) -> EpochRecord:
        """Go on in a new epoch, by the word of the root key, without the partners that are silent.

        With `wait` not before they have had their time.  Raise Refusal, and BadSignature or
        Malformed for a record that our root key did not sign.
        """
        record = verify_epoch(signed, self._me)
        if self._keys.are_retired:
            reason = "Partners know later keys of this facility than this node has."
            raise Refusal("keys-retired", reason, "First: openpriors keys rotate")
        now, due_at = self._clock.now(), self._pen.epoch_due_at()
        if due_at is None:
            code = "no-recovery"
            raise Refusal(code, "The journal is in order: there is nothing to recover.")
        if wait and now < due_at and (self._pen.unheard() or not self._pen.forked):
            code = "partners-may-answer"
            remedy = "Wait until then, or say that you cannot: --now."
            raise Refusal(code, f"Some partners may still answer within {due_at - now} s.", remedy)

        def work(tx: Tx) -> None:
            if self._next_epoch(tx) != replace(record, issued_at=0):
                raise Conflict(
                    "The journal has changed since the record was signed. Run the command again."
                )
            epochs.drop_bare(Held(tx, self._me))
            epochs.begin(tx, self._me, [signed], labelled=False)
            journal.end_fork(tx)
            detail = {"epoch": record.epoch, "first_batch": record.first_batch}
            audit.append(tx, AuditEvent("recover", "success", actor, detail=detail), now)

        await self._db.write(work)
        self._pen = self._pen.recovered(now)
        _log.warning("journal-epoch-begun", epoch=record.epoch)
        await self._tell()
        return record

    def _next_epoch(self, tx: Tx) -> EpochRecord:
        claims = [claim.epoch for claim in self._pen.answers.values() if claim is not None]
        claims.append(self._keys.node_keys[-1].from_epoch - 1)
        fence = None if self._fence is None else self._fence.position
        return epochs.following(tx, self._me, [*claims, 0 if fence is None else fence.epoch])

    async def partner_changed(self) -> None:
        """The trust table has changed: other partners must be heard."""
        self._pen = self._pen.among(self._active())
        await self._settle()

    # -- for people -------------------------------------------------------------------------------

    async def state(self) -> JournalState:
        """Return how our journal stands."""
        now, pen = self._clock.now(), self._pen

        def work(tx: Tx) -> tuple[Head | None, Halt | None, EpochRecord, frozenset[PeerId]]:
            lacking = frozenset(
                each
                for each, claim in pen.answers.items()
                if claim is not None and not journal.holds(tx, self._me, claim)
            )
            return journal.head(tx, self._me), journal.halted(tx), self._next_epoch(tx), lacking

        head, halted, epoch, lacking = await self._db.read(work)
        pause = pen.pause(now)
        state = "writing" if pause is None else str(pause)
        since = pen.started_at if pause is Pause.STARTING else pen.set_back_at
        if pause is Pause.CLAIMED:
            since = max(pen.doubts.values())
        if halted is Halt.REGAINED:
            state, since = REBUILDING, pen.started_at
        return JournalState(
            head=head,
            fence=None if self._fence is None else self._fence.position,
            state=state,
            since=None if state == "writing" else since,
            unheard=pen.unheard(),
            answers=dict(pen.answers),
            lacking=lacking,
            epoch_due_at=pen.epoch_due_at(),
            next_epoch=None if pen.set_back_at is None else epoch,
        )

    # -- inside -----------------------------------------------------------------------------------

    def _active(self) -> list[PeerId]:
        return [each.peer_id for each in self._partners()]

    def _has_key(self, tx: Tx) -> bool:
        """Return whether our node key is the one that signs the next batch."""
        head, epoch = journal.head(tx, self._me), epochs.newest(tx, self._me)
        following = (epoch, 0) if head is None else (max(epoch, head.epoch), head.batch + 1)
        return not self._keys.are_retired and self._keys.node_keys[-1].begins <= following

    async def _settle(self) -> None:
        """End the recovery if nothing is lacking, though the link that said so ends meanwhile."""
        await carry_through(self._settle_now())

    async def _settle_now(self) -> None:
        pen = self._pen
        if pen.set_back_at is None or pen.forked or pen.unheard():
            return

        def work(tx: Tx) -> Head | None:
            # Entries that came bare nobody could be shown: a new epoch must begin before them.
            lacks = Held(tx, self._me).joining() or not self._has_key(tx)
            if lacks or not pen.may_continue(lambda claim: journal.holds(tx, self._me, claim)):
                return None
            journal.halt(tx, Halt.REGAINED)
            return journal.head(tx, self._me)

        head = await self._db.write(work)
        if head is None and await self._db.read(journal.halted) is not Halt.REGAINED:
            return
        self._pen = pen.recovered(self._clock.now())
        position = _position(head)
        if position is not None:
            # It may fall: what was signed beyond it, no partner holds.
            async with self._fencing:
                await self._put(position)
        _log.info("journal-recovered", head=position)
        await self._tell()

    async def _put(self, position: Position) -> None:
        fence = self._fence
        if fence is None:
            self._fence = fence = await asyncio.to_thread(Fence, self._data, self._me)
        first = fence.is_missing
        # A thread goes on in any case. Whoever comes next would meet it, or be undone by it.
        await carry_through(asyncio.to_thread(fence.put, position))
        if first:
            await self._db.write(journal.note_fence)

    async def _tell(self) -> None:
        for listener in self._listeners:
            await listener()

    async def _empty_log(self) -> None:
        try:
            await self._db.checkpoint_truncate()
        except Conflict:
            _log.warning("log-not-emptied")


def _place(head: Head | None) -> Position:
    return _position(head) or Position(0, epochs.NONE)


def _position(head: Head | None) -> Position | None:
    return None if head is None else Position(head.epoch, head.batch)
