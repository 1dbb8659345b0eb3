"""Group commit: what arrives together becomes durable together.

A group passes two steps, and the next group is in the first while it is in the second:

1. its instances are compared with what is held, then encrypted and appended to their packs;
2. the packs are synced, then one transaction puts the instances on record.

The first step of a group knows of the one before it, which is not on record yet.

A small group takes both steps at once, in the thread of the one transaction: to hand it from thread
to thread would take longer than what is done with it.  What comes meanwhile is the next group.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from peer.clock import Clock
from peer.config import Ingest as Settings
from peer.errors import NodeError
from peer.index import instances, packs
from peer.index.database import Database, Tx
from peer.index.instances import Known
from peer.ingest.arrival import Arrival
from peer.ingest.incoming import Large, Small, failed
from peer.ingest.outcome import CONFLICT, Outcome
from peer.ingest.records import record_group
from peer.ingest.writers import Group, Writers

SMALL_INSTANCES: Final = 16
SMALL_BYTES: Final = 4 * 1024 * 1024
"""Of a small group: other writes to the index wait for it, some hundredths of a second at most.
More takes long enough that the next group had better be encrypted meanwhile."""

_NONE: Final = Outcome("accepted")


@dataclass(slots=True)
class _Delivery:
    """Instances that came together, and who waits for what becomes of them."""

    arrivals: Sequence[Arrival]
    outcomes: asyncio.Future[list[Outcome]]


@dataclass(slots=True)
class _UnderWay:
    """A group that is appended and not on record yet."""

    deliveries: list[_Delivery] = field(default_factory=list)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """By the identity of the arrival."""
    known: dict[str, Known] = field(default_factory=dict)
    """Its instances, by SOP Instance UID."""
    copies: list[tuple[Arrival, Arrival]] = field(default_factory=list)
    """What has the UID of another one in the group, and that one, which came first."""
    group: Group = field(default_factory=Group)

    @property
    def arrivals(self) -> list[Arrival]:
        """All instances of the group."""
        return [arrival for each in self.deliveries for arrival in each.arrivals]

    def refuse_copies(self) -> None:
        """Refuse the copies of what is refused: of that nothing is held."""
        for copy, first in self.copies:
            why = self.outcomes.get(id(first), _NONE)
            if why.status == "refused":
                self.outcomes[id(copy)] = copy.outcome("refused", why.code, why.reason)


class Commits:
    """Makes arrivals durable, in groups; the one writer of packs and of their rows."""

    def __init__(self, db: Database, writers: Writers, clock: Clock, settings: Settings) -> None:
        self._db = db
        self._writers = writers
        self._clock = clock
        self._settings = settings
        self._waiting: list[_Delivery] = []
        self._committer: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        """Held by whoever appends to packs, or needs that nobody does."""
        self._before = _UnderWay()
        self._recording: asyncio.Task[None] | None = None
        """The second step of `_before`."""

    async def store(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Return what became of each, once that is durable."""
        outcomes = asyncio.get_running_loop().create_future()
        self._waiting.append(_Delivery(arrivals, outcomes))
        if self._committer is None or self._committer.done():
            # A task of its own: the caller may be cancelled, the others of the group must not be.
            self._committer = asyncio.create_task(self._commit_waiting())
        return await asyncio.shield(outcomes)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Let no group be under way as long as the context lasts."""
        async with self._lock:
            await self._recorded()
            yield

    async def finish(self) -> None:
        """Return when nothing waits any more."""
        while self._committer is not None and not self._committer.done():
            await self._committer
        async with self.paused():
            return

    async def _commit_waiting(self) -> None:
        while self._waiting:
            deliveries = self._next_group()
            try:
                async with self._lock:
                    if _is_small(deliveries):
                        await self._recorded()
                        await self._record(_UnderWay(deliveries), self._commit_at_once)
                    else:
                        under_way = await self._append(deliveries)
                        await self._recorded()
                        self._before = under_way
                        self._recording = asyncio.create_task(
                            self._record(under_way, self._commit_appended)
                        )
            except BaseException as error:
                _fail(deliveries, error)
                if not isinstance(error, Exception):
                    _fail(self._waiting, error)
                    self._waiting = []
                    raise

    def _next_group(self) -> list[_Delivery]:
        """Take deliveries whole, in their order, up to the number of instances of a group."""
        count = taken = 0
        for each in self._waiting:
            count += len(each.arrivals)
            if taken and count > self._settings.group_commit_instances:
                break
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _recorded(self) -> None:
        if self._recording is not None:
            await asyncio.wait({self._recording})

    async def _append(self, deliveries: list[_Delivery]) -> _UnderWay:
        """Take the first step."""
        under_way = _UnderWay(deliveries)
        arrivals = under_way.arrivals
        if any(arrival.sop_instance_uid in self._before.known for arrival in arrivals):
            await self._recorded()  # Whether it is held is known only then.
        known, keys = await self._db.read(lambda tx: _look_up(tx, arrivals))
        if fresh := _compare(under_way, known):
            keys = self._before.group.study_keys | keys
            under_way.group = await asyncio.to_thread(self._writers.append, fresh, keys)
        return under_way

    async def _record(
        self, under_way: _UnderWay, commit: Callable[[_UnderWay], Awaitable[None]]
    ) -> None:
        """Take the second step by `commit`, and tell who waits."""
        outcomes = under_way.outcomes
        try:
            try:
                await commit(under_way)
            except NodeError as error:
                why, undone = failed(error), {id(e.arrival) for e in under_way.group.written}
                for arrival in under_way.arrivals:
                    if id(arrival) in undone or id(arrival) not in outcomes:
                        refused = arrival.outcome("refused", why.code, why.reason)
                        outcomes[id(arrival)] = refused
                under_way.refuse_copies()
            useless = [a.data for a in under_way.arrivals if outcomes[id(a)].status != "accepted"]
            if any(isinstance(each, Large) for each in useless):
                await asyncio.to_thread(_discard, useless)
        except BaseException as error:
            _fail(under_way.deliveries, error)
            if not isinstance(error, Exception):
                raise
            return
        finally:
            under_way.known.clear()
        for delivery in under_way.deliveries:
            if not delivery.outcomes.done():
                delivery.outcomes.set_result([outcomes[id(each)] for each in delivery.arrivals])

    async def _commit_appended(self, under_way: _UnderWay) -> None:
        await asyncio.to_thread(self._sync, under_way)
        if under_way.group.written or _conflicts(under_way):
            now = self._clock.now()
            await self._db.write(lambda tx: self._put_on_record(tx, under_way, now))

    async def _commit_at_once(self, under_way: _UnderWay) -> None:
        now = self._clock.now()

        def work(tx: Tx) -> None:
            known, keys = _look_up(tx, under_way.arrivals)
            if fresh := _compare(under_way, known):
                under_way.group = self._writers.append(fresh, keys)
            self._sync(under_way)
            self._put_on_record(tx, under_way, now)

        await self._db.write(work)

    def _sync(self, under_way: _UnderWay) -> None:
        """Make what is written durable, and note what is not.  Blocks on the disk."""
        self._writers.sync(under_way.group)
        for arrival, outcome in under_way.group.refused:
            under_way.outcomes[id(arrival)] = outcome
        under_way.refuse_copies()

    def _put_on_record(self, tx: Tx, under_way: _UnderWay, now: int) -> None:
        """Put on record what is durable, and what contradicts what is held."""
        group = under_way.group
        record_group(tx, group, _conflicts(under_way), self._settings.default_issuer, now)
        for each in group.written:
            under_way.outcomes[id(each.arrival)] = each.arrival.accepted()


def _is_small(deliveries: Sequence[_Delivery]) -> bool:
    left, room = SMALL_INSTANCES, SMALL_BYTES
    for delivery in deliveries:
        for arrival in delivery.arrivals:
            left -= 1
            room -= len(arrival.data)
            if left < 0 or room < 0:
                return False
    return True


def _compare(under_way: _UnderWay, known: dict[str, Known]) -> list[Arrival]:
    """Return the instances that are not held; note what becomes of the others."""
    fresh: dict[str, Arrival] = {}
    for arrival in under_way.arrivals:
        uid = arrival.sop_instance_uid
        held = known.get(uid)
        if held is None:
            fresh[uid] = arrival
            known[uid] = under_way.known[uid] = _as_known(arrival)
        else:
            under_way.outcomes[id(arrival)] = _held(arrival, held)
            if uid in fresh:
                under_way.copies.append((arrival, fresh[uid]))
    return list(fresh.values())


def _conflicts(under_way: _UnderWay) -> list[Arrival]:
    outcomes = under_way.outcomes
    return [a for a in under_way.arrivals if outcomes.get(id(a), _NONE).code == CONFLICT]


def _fail(deliveries: Sequence[_Delivery], error: BaseException) -> None:
    for each in deliveries:
        if not each.outcomes.done():
            each.outcomes.set_exception(error)


def _discard(contents: Sequence[Small | Large]) -> None:
    """Destroy what was written as it came, and is not kept."""
    for each in contents:
        if isinstance(each, Large):
            each.discard()


def _as_known(arrival: Arrival) -> Known:
    return Known(
        arrival.study_instance_uid,
        arrival.header.instance.transfer_syntax_uid,
        arrival.data_set_hash,
    )


def _held(arrival: Arrival, held: Known) -> Outcome:
    if held == _as_known(arrival):
        return arrival.outcome("duplicate")
    return arrival.outcome(
        "refused",
        CONFLICT,
        "Another instance with the same SOP Instance UID is held; nothing was overwritten. "
        "Give the changed instance a new UID, or remove the study that holds the other one.",
    )


def _look_up(tx: Tx, arrivals: Sequence[Arrival]) -> tuple[dict[str, Known], dict[str, bytes]]:
    keys = {}
    for uid in {arrival.study_instance_uid for arrival in arrivals}:
        wrapped = packs.wrapped_study_key(tx, uid)
        if wrapped is not None:
            keys[uid] = wrapped
    return instances.known(tx, [arrival.sop_instance_uid for arrival in arrivals]), keys
