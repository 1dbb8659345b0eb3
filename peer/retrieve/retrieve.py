"""The room: retrievals as people start and see them, and everything that keeps them going."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeAlias

import structlog

from peer.access import Access, Permit
from peer.actors import Actor
from peer.alerts import glass_broken_here
from peer.clock import Clock
from peer.config import Settings
from peer.errors import NodeError, NotFound
from peer.index import Database, Tx, instances, transfers
from peer.index.instances import Location
from peer.index.transfers import RetrievalRow
from peer.ingest import Ingest
from peer.keys import NodeKeys
from peer.link import Links
from peer.partners import Partners
from peer.reciprocity import Reciprocity
from peer.retrieve.leave import Promise, Unreachable
from peer.retrieve.ledger import Ledger, read_actor, record, write_actor
from peer.retrieve.origin import Origin
from peer.retrieve.parking import Parking
from peer.retrieve.receipts import receipts_of
from peer.retrieve.recipient import Attempt, Recipient
from peer.retrieve.repair import NotMended, Repair
from peer.retrieve.status import Retrieval
from peer.retrieve.turns import Turns, is_urgent
from peer.store import Store, StoredInstance, unwrap_pack_key, unwrap_study_key
from protocol.digest import StudyDigest
from protocol.errors import Refusal, RemoteProtocolError
from protocol.identifiers import PeerId
from protocol.manifest import chunk_count
from protocol.messages import GrantRequest, ReceiptMessage
from protocol.quota import QUOTA
from protocol.reciprocity import breaks_glass, is_mended_by_exchange

RETRIEVAL_ID_BYTES: Final = 16

LOOK_S: Final = 0.2
"""How often whoever follows a retrieval is told of it: as often as a person can read it."""


class Prior(Protocol):
    """A partner's study that a search has listed."""

    @property
    def digest(self) -> StudyDigest:
        """What it is said to be."""


PriorLookup: TypeAlias = Callable[[PeerId, str], Awaitable[Prior | None]]
"""What an opened digest says of a study at an origin: `Search.prior`."""

WRONG_CONTENT: Final = "wrong-content"
"""How ingest refuses a study that is not what its manifest says."""

_log = structlog.get_logger()


class Retrieve:
    """Fetches studies from partners, and lets partners fetch ours (`origin`)."""

    def __init__(  # noqa: PLR0913 - the rooms it works with, each by name
        self,
        *,
        db: Database,
        store: Store,
        keys: NodeKeys,
        access: Access,
        partners: Partners,
        links: Links,
        reciprocity: Reciprocity,
        ingest: Ingest,
        prior: PriorLookup,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self.origin = Origin(db, store, keys, access, reciprocity, clock, settings)
        self._db = db
        self._store = store
        self._keys = keys
        self._partners = partners
        self._ledger = Ledger(db, keys, reciprocity, clock, settings.transfer.answer_s)
        self._repair = Repair(db, store, keys.store_key, clock, links, ingest)
        self._prior = prior
        self._clock = clock
        self._retry_s = settings.transfer.retry_s
        self._listed = settings.lists.retrievals
        self.parking = Parking(db, clock, partners.name, self._listed)
        self._turns = Turns(settings.transfer.at_once)
        self._recipient = Recipient(
            db=db,
            store=store,
            keys=keys,
            repair=self._repair,
            clock=clock,
            links=links,
            reciprocity=reciprocity,
            ingest=ingest,
            settings=settings.transfer,
            turns=self._turns,
        )
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._attempts: dict[bytes, Attempt] = {}
        self._woken: dict[PeerId, asyncio.Event] = {}
        links.handle(GrantRequest, self.origin.grant)
        links.handle(ReceiptMessage, self.origin.receipt)
        links.on_connected(self._connected)

    # -- what people ask for ----------------------------------------------------------------
    async def retrieve(
        self, peer_id: PeerId, study_instance_uid: str, actor: Actor, emergency: str = ""
    ) -> Retrieval:
        """Begin to fetch a study from a partner, or go on with it; return how far it is.

        `emergency`: why the glass is broken, for the purpose BTG and no other.  Raises Refusal for
        a facility that is no partner.
        """
        self._partners.trusted(peer_id)
        now = self._clock.now()

        def work(tx: Tx) -> RetrievalRow:
            glass_broken_here(tx, actor, emergency, "retrieve", now)
            row = transfers.under_way(tx, peer_id, study_instance_uid)
            if row is not None:
                # One that waits for its origin's leave goes on as the emergency that it is now.
                if breaks_glass(actor.purpose) or (is_urgent(actor.purpose) and not _urgent(row)):
                    transfers.set_actor(tx, row.retrieval_id, write_actor(actor))
                return row
            retrieval_id = secrets.token_bytes(RETRIEVAL_ID_BYTES)
            row = transfers.add_retrieval(
                tx, retrieval_id, peer_id, study_instance_uid, write_actor(actor), now
            )
            record(tx, row, "retrieve", "success", now, {"state": row.state})
            return row

        row = await self._db.write(work)
        if is_urgent(actor.purpose) and not _urgent(row):
            await self._interrupt(row)  # It has an ordinary turn, or waits for one.
            row = await self._current(row)
        self._start(row)
        if breaks_glass(actor.purpose):
            self._wake(peer_id)
        return self._seen(row)

    async def status(self, retrieval_id: bytes) -> Retrieval:
        """Return how far a retrieval is; raise NotFound."""
        row = await self._db.read(lambda tx: transfers.retrieval(tx, retrieval_id))
        if row is None:
            raise NotFound("There is no such retrieval; the list of retrievals shows all of them.")
        return self._seen(row)

    async def list(self) -> list[Retrieval]:
        """Return the latest retrievals, newest first."""
        rows = await self._db.read(lambda tx: transfers.retrievals(tx, self._listed))
        return [self._seen(row) for row in rows]

    async def retry(self, retrieval_id: bytes, actor: Actor, emergency: str = "") -> Retrieval:
        """Begin anew to fetch what did not come, in the name of `actor`; return how far that is.

        Raises NotFound if it is not parked, and what `retrieve` raises.
        """
        row = await self.parking.get(retrieval_id)
        started = await self.retrieve(row.origin, row.study_instance_uid, actor, emergency)
        await self.parking.take_off(retrieval_id, actor)
        return started

    async def receipts(self, study_instance_uid: str) -> Sequence[dict[str, object]]:
        """Return the receipts for a study on either side, newest first, as the API shows them."""
        found = await self._db.read(lambda tx: receipts_of(tx, study_instance_uid))
        return [each.to_json(self._partners.name(each.partner)) for each in found]

    async def finished(self, retrieval_id: bytes) -> Retrieval:
        """Return a retrieval once nothing more will happen to it."""
        task = self._tasks.get(retrieval_id)
        if task is not None:
            await asyncio.wait([task])
        return await self.status(retrieval_id)

    async def follow(self, retrieval_id: bytes) -> AsyncIterator[Retrieval]:
        """Yield how far a retrieval is, whenever that changes, up to its end; raise NotFound."""
        seen: Retrieval | None = None
        while True:
            task = self._tasks.get(retrieval_id)
            now = await self.status(retrieval_id)
            if now != seen:
                yield now
            if task is None:
                return
            seen = now
            await asyncio.wait([task], timeout=LOOK_S)

    async def read_instance(
        self, permit: Permit, sop_instance_uid: str, most: int | None = None
    ) -> bytes:
        """Return the bytes of an instance that is held here, exactly as it came; the first `most`.

        Raises NotFound, Refusal if `permit` is for another study, Damaged.
        """
        found, pack_key = await self._located(permit, sop_instance_uid)
        chunks = found.chunks if most is None else found.chunks[: chunk_count(most)]
        return (await asyncio.to_thread(self._store.read, found.pack_id, pack_key, chunks))[:most]

    async def open_instance(self, permit: Permit, sop_instance_uid: str) -> StoredInstance:
        """Return such an instance to be read piece by piece; close it.  Raises as before."""
        found, pack_key = await self._located(permit, sop_instance_uid)
        return await asyncio.to_thread(self._store.open, found.pack_id, pack_key, found.chunks)

    async def _located(self, permit: Permit, sop_instance_uid: str) -> tuple[Location, bytes]:
        """Return where an instance is, and the key of its pack."""
        found = await self._db.read(lambda tx: instances.locate(tx, sop_instance_uid))
        if found is None:
            raise NotFound("This instance is not held here.")
        permit.check(found.study_instance_uid)
        study_key = unwrap_study_key(
            self._keys.store_key, found.wrapped_study_key, found.study_instance_uid
        )
        return found, unwrap_pack_key(study_key, found.wrapped_pack_key, found.pack_id)

    def on_mended(self, listener: Callable[[], None]) -> None:
        """Have `listener` called when damaged instances were mended."""
        self._repair.listeners.append(listener)

    # -- keeping it going -------------------------------------------------------------------
    async def run(self) -> None:
        """Go on with what an earlier run left unfinished, until cancelled."""
        try:
            for row in await self._db.read(transfers.unfinished):
                self._start(row)
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop; what has arrived is noted and goes on at the next start."""
        under_way = [*self._tasks.values(), *self._deliveries]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _start(self, row: RetrievalRow) -> None:
        if row.finished or row.retrieval_id in self._tasks:
            return
        task = asyncio.create_task(self._see_through(row))
        self._tasks[row.retrieval_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(row.retrieval_id, None))
        task.add_done_callback(_tell_of_failure)

    async def _interrupt(self, row: RetrievalRow) -> None:
        """End what is fetched of a retrieval now; what has arrived is noted."""
        task = self._tasks.get(row.retrieval_id)
        attempt = self._attempts.get(row.retrieval_id)
        if task is not None and not (attempt and attempt.arrived):
            task.cancel()
            await asyncio.wait([task])

    def _connected(self, peer_id: PeerId) -> None:
        self._wake(peer_id)
        task = asyncio.create_task(self._ledger.deliver(peer_id))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        task.add_done_callback(_tell_of_failure)

    def _wake(self, peer_id: PeerId) -> None:
        """Have what waits for a partner tried again at once."""
        self._woken.setdefault(peer_id, asyncio.Event()).set()

    async def _see_through(self, row: RetrievalRow) -> None:
        """Try until a retrieval has ended, one way or another."""
        woken = self._woken.setdefault(row.origin, asyncio.Event())
        while True:
            woken.clear()
            async with self._turns.turn(urgent=_urgent(row)):
                if await self._try(row):
                    break
            try:
                async with asyncio.timeout(self._retry_s):
                    await woken.wait()
            except TimeoutError:
                pass
        await self._ledger.deliver(row.origin)

    async def _try(self, row: RetrievalRow) -> bool:
        """Make one attempt; return whether the retrieval has ended with it."""
        attempt: Attempt | None = None
        try:
            attempt = self._attempts[row.retrieval_id] = await self._begin(row)
            await self._recipient.carry_out(attempt)
            await self._ledger.complete(await self._current(row))
        except Unreachable:
            name = self._partners.name(row.origin)
            await self._ledger.wait(
                row,
                "not-connected",
                f"{name} cannot be reached now; the retrieval goes on by itself when it can.",
                "See the list of partners for the state of the connection.",
            )
            return False
        except Refusal as refusal:
            if is_mended_by_exchange(refusal.code) or refusal.code == QUOTA:
                await self._ledger.wait(row, refusal.code, refusal.reason, refusal.remedy)
                return False
            await self._end_refused(row, attempt, refusal)
        except (RemoteProtocolError, NodeError) as error:
            await self._end_failed(row, attempt, error)
        finally:
            self._attempts.pop(row.retrieval_id, None)
        return True

    async def _begin(self, row: RetrievalRow) -> Attempt:
        partner = self._partners.trusted(row.origin)
        promise = await self._promise(row)
        current = await self._current(row)
        return Attempt(row, read_actor(current.actor), partner, promise)

    async def _promise(self, row: RetrievalRow) -> Promise:
        """Return what the digest promises now; what it did before, once there was a grant.

        A digest is hidden when its origin has been silent for long, as well as when it is
        withdrawn: of a study that was granted before, the origin itself says which it is.
        """
        prior = await self._prior(row.origin, row.study_instance_uid)
        if prior is not None:
            digest = prior.digest
            return Promise(digest.retrieve_handle, digest.manifest_root, digest.manifest_version)
        known = await self._current(row)
        if known.retrieve_handle is not None and known.manifest_root is not None:
            return Promise(known.retrieve_handle, known.manifest_root, known.manifest_version)
        raise Refusal(
            "not-published",
            "No study of this UID is published to this facility by that partner now.",
            "Search for the patient again; then ask the partner.",
        )

    async def _end_refused(
        self, row: RetrievalRow, attempt: Attempt | None, refusal: Refusal
    ) -> None:
        """End with the origin's "no"; what had arrived under an earlier grant is destroyed."""
        if refusal.code == WRONG_CONTENT:
            await self._end_failed(row, attempt, refusal)
            return
        await self._recipient.destroy(row)
        current = await self._current(row)
        if current.grant_id is None:
            await self._ledger.refused(current, refusal)
        else:
            lacking = await self._recipient.lacking(current, attempt)
            await self._ledger.revoked(current, refusal, lacking)

    async def _end_failed(
        self, row: RetrievalRow, attempt: Attempt | None, error: Exception
    ) -> None:
        code = error.code if isinstance(error, (Refusal, RemoteProtocolError)) else "failed"
        _log.warning("retrieval-failed", retrieval=row.retrieval_id.hex(), code=code)
        if isinstance(error, NotMended):
            missing, reason = list(error.missing), str(error)
        else:
            missing = await self._recipient.missing(await self._current(row), attempt)
            held = await self._recipient.holds(row)
            kept = "The study is held as it was" if held else "The study was not kept"
            reason = f"{kept}: {error}"
        await self._recipient.destroy(row)
        current = await self._current(row)
        if missing:
            total = current.instances
            reason = f"{total - len(missing)}/{total} instances verified. {reason}"
        why = Refusal(code, reason, "Try again; if it persists, tell the partner's operator.")
        await self._ledger.failed(current, why, missing)

    async def _current(self, row: RetrievalRow) -> RetrievalRow:
        found = await self._db.read(lambda tx: transfers.retrieval(tx, row.retrieval_id))
        return row if found is None else found

    def _seen(self, row: RetrievalRow) -> Retrieval:
        attempt = self._attempts.get(row.retrieval_id)
        if attempt is not None and attempt.transfer is not None:
            row = replace(row, bytes_verified=attempt.transfer.bytes_verified)
        return Retrieval(row, self._partners.name(row.origin))


def _urgent(row: RetrievalRow) -> bool:
    return is_urgent(read_actor(row.actor).purpose)


def _tell_of_failure(task: asyncio.Task[None]) -> None:
    """Log what ended a task that should have dealt with it; the next start goes on from there."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("retrieval-interrupted", exc_info=error)
