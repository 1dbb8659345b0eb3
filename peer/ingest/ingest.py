"""The way in: group commit, settling, recovery, adoption, removal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

import structlog

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Conflict, NodeError, NotFound
from peer.index import instances, packs, studies, verification
from peer.index.database import Database, Tx
from peer.ingest.adoption import Adopted, ReceivedStudy, record
from peer.ingest.arrival import Arrival, examine
from peer.ingest.commits import Commits
from peer.ingest.files import NamedFile, read_file
from peer.ingest.incoming import Incoming, Large, Taken, failed
from peer.ingest.inspection import Inspection
from peer.ingest.memory import Memory
from peer.ingest.outcome import OTHER_STUDY, Outcome
from peer.ingest.writers import Writers
from peer.store import Store
from protocol.errors import Refusal
from protocol.manifest import Manifest

SETTLE_CHECK_S: Final = 1.0
"""How often studies are looked at that may have settled."""

_OTHER_STUDY: Final = "The instance belongs to another study than the address names."

Settled: TypeAlias = Callable[[str], Awaitable[None]]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found at start."""

    cut: int
    """Packs whose torn tail was cut."""
    removed: int
    """Packs of which nothing was on record."""
    damaged: tuple[bytes, ...]
    """Packs that are missing or shorter than what is on record."""


class Ingest:
    """The one writer of the store and of the studies in the index."""

    def __init__(
        self, db: Database, store: Store, store_key: bytes, clock: Clock, settings: Settings
    ) -> None:
        self._db = db
        self._store = store
        self._store_key = store_key
        self._clock = clock
        self._settings = settings.ingest
        self.memory = Memory(settings.ingest)
        """Whoever takes instances in has a share of it for each."""
        self._writers = Writers(store, store_key, settings.ingest.open_packs)
        self._commits = Commits(db, self._writers, clock, settings.ingest)
        self._listeners: list[Settled] = []

    def on_settled(self, listener: Settled) -> None:
        """Have `listener` called with the Study Instance UID of each study that settles."""
        self._listeners.append(listener)

    def store_from_thread(
        self, data: Taken, actor: Actor, source: str, named: str, loop: asyncio.AbstractEventLoop
    ) -> Future[list[Outcome]]:
        """Do as `store_instance` does, for a thread that is not the event loop's.

        The instance is examined in that thread.
        """
        looked = self._examined(data, actor, source, named)
        return asyncio.run_coroutine_threadsafe(self._stored([looked]), loop)

    def incoming(self) -> Incoming:
        """Return what takes an instance in whose bytes are still coming; hand it on when taken."""
        return Incoming(self._store, self._settings)

    async def store_instance(
        self, data: Taken, actor: Actor, source: str, *, named: str = ""
    ) -> Outcome:
        """Take one instance in; return when it is durable, or why it is not kept.

        `source` names the door ("dimse", "stow", "folder", ...) for the audit record;
        `named` is the SOP Instance UID that the sender announced, if the door announces one.
        """
        (outcome,) = await self.store_instances([data], actor, source, named=named)
        return outcome

    async def store_instances(
        self,
        contents: Sequence[Taken],
        actor: Actor,
        source: str,
        *,
        named: str = "",
        study: str = "",
    ) -> list[Outcome]:
        """Take several instances in together, and return what became of each in their order.

        The contents must not change before that.  `study`: the Study Instance UID that all have,
        if the sender says so.
        """

        def look() -> list[Arrival | Outcome]:
            return [self._examined(each, actor, source, named, study) for each in contents]

        return await self._stored(await asyncio.to_thread(look))

    async def store_files(
        self, files: Sequence[NamedFile], actor: Actor, source: str
    ) -> list[Outcome | None]:
        """Take instances in from files, as `store_instances` does; None for one that is not read.

        Their sizes are the caller's to account for, as far as they are not large.
        """

        def look() -> list[Arrival | Outcome | None]:
            read = (read_file(each, self.incoming()) for each in files)
            return [None if each is None else self._examined(each, actor, source) for each in read]

        looked = await asyncio.to_thread(look)
        stored = iter(await self._stored([each for each in looked if each is not None]))
        return [None if each is None else next(stored) for each in looked]

    async def _stored(self, looked: Sequence[Arrival | Outcome]) -> list[Outcome]:
        """Return what became of each, stored those that were found good."""
        arrivals = [each for each in looked if isinstance(each, Arrival)]
        stored = iter(await self._commits.store(arrivals) if arrivals else ())
        return [next(stored) if isinstance(each, Arrival) else each for each in looked]

    def _examined(
        self, content: Taken, actor: Actor, source: str, named: str = "", study: str = ""
    ) -> Arrival | Outcome:
        if isinstance(content, Outcome):
            return content
        try:
            arrival = examine(content, actor, source, self._settings, named)
        except Refusal as refusal:
            outcome = Outcome("refused", refusal.code, str(refusal))
        except NodeError as error:  # A large one is read back from the disk.
            outcome = failed(error)
        else:
            if not study or arrival.study_instance_uid == study:
                return arrival
            outcome = arrival.outcome("refused", OTHER_STUDY, _OTHER_STUDY)
        if isinstance(content, Large):
            content.discard()
        return outcome

    def warnings(self) -> Iterator[str]:
        """Yield a sentence for the operator where images will soon be refused."""
        if warning := self._store.room.warning():
            yield warning

    async def known_contents(self, content_hashes: Collection[bytes]) -> set[bytes]:
        """Return which of these files (BLAKE3 of all their bytes) need not be sent."""
        return await self._db.read(lambda tx: instances.known_contents(tx, content_hashes))

    async def settle(self, study_instance_uid: str | None = None) -> tuple[str, ...]:
        """Treat a study, or all, as complete without waiting; return those that settled by it."""
        due = await self._db.read(studies.unsettled)
        if study_instance_uid is not None:
            due = [uid for uid in due if uid == study_instance_uid]
        return await self._settle(due)

    async def settle_due(self) -> tuple[str, ...]:
        """Settle the studies that have had no new instance for settle_s."""
        since = self._clock.now() - self._settings.settle_s
        return await self._settle(await self._db.read(lambda tx: studies.unsettled(tx, since)))

    async def run(self) -> None:
        """Settle studies as they fall due, until cancelled."""
        while True:
            try:
                await self.settle_due()
            except (NodeError, Refusal) as error:
                _log.warning("settle-failed", error=type(error).__name__)
            await asyncio.sleep(SETTLE_CHECK_S)

    async def recover(self) -> Recovered:
        """Make store and index agree after whatever ended the last run.  Call before anything."""
        async with self._commits.paused():
            await self._db.write(studies.unsettle_unsigned)
            recorded = await self._db.read(packs.sizes)
            arriving = await self._db.read(packs.arriving)
            recovered = await asyncio.to_thread(_recover, self._store, recorded, arriving)
        now = self._clock.now()
        await self._db.write(lambda tx: verification.note_lost(tx, recovered.damaged, now))
        if recovered.damaged:
            _log.error("packs-damaged", count=len(recovered.damaged))
        return recovered

    def inspection(self, manifest: Manifest, pack_keys: Mapping[bytes, bytes]) -> Inspection:
        """Return what looks at the instances of a study while it arrives from a partner."""
        return Inspection(self._store, manifest, pack_keys, self._settings.max_inflated_bytes)

    async def adopt(
        self, received: ReceivedStudy, actor: Actor, inspection: Inspection | None = None
    ) -> Adopted:
        """Keep a study that was retrieved from a partner; return when it is durable.

        `inspection`: what has been looked at before is not looked at again.

        All or nothing.  Raises Refusal "wrong-content", Damaged, or Conflict if other content of
        the same UIDs is held already; the packs are then the caller's to destroy.
        """
        inspection = inspection or self.inspection(received.manifest, received.pack_keys)
        verified = await asyncio.to_thread(inspection.verified)
        now = self._clock.now()
        uid = received.manifest.study_instance_uid

        def work(tx: Tx) -> Adopted:
            adopted, patient = record(tx, received, verified, self._store_key, now)
            event = AuditEvent(
                action="import",
                outcome="success",
                actor=actor,
                patient=str(patient),
                study_instance_uid=uid,
                partner=received.origin,
                detail={"source": "partner", "instances": adopted.added},
            )
            audit.append(tx, event, now)
            return adopted

        async with self._commits.paused():
            adopted = await self._db.write(work)
            await asyncio.to_thread(self._destroy, adopted.surplus)
            return adopted

    async def mend(self, pack_id: bytes, offset: int, data: bytes) -> None:
        """Write ciphertext that the disk has lost of a pack, verified by the caller; durable then.

        Raises NotFound if the pack was destroyed meanwhile: nothing of it comes back.
        """
        async with self._commits.paused():
            recorded = await self._db.read(lambda tx: packs.size(tx, pack_id))
            if recorded is None:
                raise NotFound("The study was removed meanwhile.")
            await asyncio.to_thread(self._store.mend, pack_id, offset, data, recorded)

    async def remove_study(self, study_instance_uid: str, also: Callable[[Tx], None]) -> None:
        """Destroy a study's key and rows, in one transaction with `also`, then its packs."""

        def work(tx: Tx) -> tuple[bytes, ...]:
            also(tx)
            return packs.remove_study(tx, study_instance_uid)

        async with self._commits.paused():
            ids = await self._db.write(work)
            self._writers.close(study_instance_uid)
            try:
                await self._db.checkpoint_truncate()
            except Conflict:  # A long read; the log is truncated by a later erasure or at stop.
                _log.warning("erasure-incomplete")
            await asyncio.to_thread(self._destroy, ids)

    async def close(self) -> None:
        """Finish what is waiting and end every pack."""
        self.memory.close()
        await self._commits.finish()
        async with self._commits.paused():
            self._writers.close_all()

    def _destroy(self, pack_ids: Collection[bytes]) -> None:
        for pack_id in pack_ids:
            self._store.destroy(pack_id)

    async def _settle(self, due: Sequence[str]) -> tuple[str, ...]:
        settled = []
        for uid in due:
            mark = partial(studies.settle, study_instance_uid=uid, now=self._clock.now())
            async with self._commits.paused():
                self._writers.close(uid)
                changed = await self._db.write(mark)
            if not changed:
                continue
            try:
                for listener in self._listeners:
                    await listener(uid)
            except BaseException:
                await self._db.write(partial(studies.unsettle, study_instance_uid=uid))
                raise
            settled.append(uid)
        return tuple(settled)


def _recover(store: Store, recorded: dict[bytes, int], arriving: frozenset[bytes]) -> Recovered:
    on_disk = store.sizes()
    orphans = (on_disk.keys() - recorded.keys()) | (
        store.incoming().keys() - arriving - recorded.keys()
    )
    for pack_id in orphans:
        store.destroy(pack_id)
    cut = 0
    damaged = []
    for pack_id, length in recorded.items():
        size = on_disk.get(pack_id, -1)
        if size < 0:
            store.note_missing((pack_id,))
        if size < length:
            damaged.append(pack_id)
        elif size > length:
            store.cut(pack_id, length)
            cut += 1
    return Recovered(cut, len(orphans), tuple(damaged))
