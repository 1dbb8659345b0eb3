"""The room: retrievals as people start and see them, and the studies that came of them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Final

from peer.access import Access, Permit
from peer.actors import Actor
from peer.alerts import glass_broken_here
from peer.clock import Clock
from peer.config import Settings
from peer.errors import NotFound
from peer.index import Database, Tx, instances, transfers
from peer.index.instances import Location
from peer.index.transfers import RetrievalRow
from peer.ingest import Ingest
from peer.keys import NodeKeys
from peer.link import Links
from peer.partners import Partners
from peer.reciprocity import Reciprocity
from peer.retrieve.arriving import Arriving
from peer.retrieve.errands import Errands, PriorLookup, urgent
from peer.retrieve.ledger import Ledger, record, write_actor
from peer.retrieve.origin import Origin
from peer.retrieve.pace import Pace
from peer.retrieve.parking import Parking
from peer.retrieve.receipts import receipts_of
from peer.retrieve.recipient import Recipient
from peer.retrieve.repair import Repair
from peer.retrieve.status import Retrieval
from peer.retrieve.turns import Turns, is_urgent
from peer.store import Store, StoredInstance, unwrap_pack_key, unwrap_study_key
from protocol.identifiers import PeerId
from protocol.manifest import chunk_count
from protocol.messages import GrantRequest, ReceiptMessage
from protocol.reciprocity import breaks_glass

RETRIEVAL_ID_BYTES: Final = 16

ARRIVING_S: Final = 5.0
"""Longest wait of whoever looks at a study for its origin's leave: they have just asked for it."""

LOOK_S: Final = 0.2
"""How often whoever follows a retrieval is told of it: as often as a person can read it."""


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
        self._clock = clock
        self._listed = settings.lists.retrievals
        self.parking = Parking(db, clock, partners.name, self._listed)
        self._pace = Pace(settings.transfer.limits, clock, partners.name)
        turns = Turns(settings.transfer.at_once)
        self._repair = Repair(db, store, keys.store_key, clock, links, ingest, turns, self._pace)
        recipient = Recipient(
            db=db,
            store=store,
            keys=keys,
            repair=self._repair,
            clock=clock,
            links=links,
            reciprocity=reciprocity,
            ingest=ingest,
            settings=settings.transfer,
            turns=turns,
            pace=self._pace,
        )
        self._errands = Errands(
            db=db,
            partners=partners,
            ledger=Ledger(db, keys, reciprocity, clock, settings.transfer.answer_s),
            recipient=recipient,
            turns=turns,
            pace=self._pace,
            prior=prior,
            retry_s=settings.transfer.retry_s,
        )
        links.handle(GrantRequest, self.origin.grant)
        links.handle(ReceiptMessage, self.origin.receipt)
        links.on_connected(self._errands.connected)

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
                if breaks_glass(actor.purpose) or (is_urgent(actor.purpose) and not urgent(row)):
                    transfers.set_actor(tx, row.retrieval_id, write_actor(actor))
                return row
            retrieval_id = secrets.token_bytes(RETRIEVAL_ID_BYTES)
            row = transfers.add_retrieval(
                tx, retrieval_id, peer_id, study_instance_uid, write_actor(actor), now
            )
            record(tx, row, "retrieve", "success", now, {"state": row.state})
            return row

        row = await self._db.write(work)
        if is_urgent(actor.purpose) and not urgent(row):
            await self._errands.interrupt(row)  # It has an ordinary turn, or waits for one.
            row = await self._errands.current(row)
        self._errands.start(row)
        if breaks_glass(actor.purpose):
            self._errands.wake(peer_id)
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

        What was tried again already is not begun twice.  Raises NotFound if it is not parked, and
        what `retrieve` raises.
        """
        try:
            row = await self.parking.get(retrieval_id)
        except NotFound:
            again = await self._db.read(lambda tx: transfers.successor(tx, retrieval_id))
            if again is None:
                raise
            return self._seen(again)
        started = await self.retrieve(row.origin, row.study_instance_uid, actor, emergency)
        with suppress(NotFound):  # A second click came first.
            await self.parking.take_off(retrieval_id, actor)
        return started

    async def receipts(self, study_instance_uid: str) -> Sequence[dict[str, object]]:
        """Return the receipts for a study on either side, newest first, as the API shows them."""
        found = await self._db.read(lambda tx: receipts_of(tx, study_instance_uid))
        return [each.to_json(self._partners.name(each.partner)) for each in found]

    async def finished(self, retrieval_id: bytes) -> Retrieval:
        """Return a retrieval once nothing more will happen to it."""
        task = self._errands.task(retrieval_id)
        if task is not None:
            await asyncio.wait([task])
        return await self.status(retrieval_id)

    async def follow(self, retrieval_id: bytes) -> AsyncIterator[Retrieval]:
        """Yield how far a retrieval is, whenever that changes, up to its end; raise NotFound."""
        seen: Retrieval | None = None
        while True:
            task = self._errands.task(retrieval_id)
            now = await self.status(retrieval_id)
            if now != seen:
                yield now
            if task is None:
                return
            seen = now
            await asyncio.wait([task], timeout=LOOK_S)

    async def arriving(self, study_instance_uid: str) -> Arriving | None:
        """Return a study that is on its way, to be looked at before all of it is here.

        None if it is not, if it waits, or if its origin does not give leave within ARRIVING_S.
        """
        return await self._errands.arriving(study_instance_uid, ARRIVING_S)

    async def waiting(self, study_instance_uid: str) -> str | None:
        """Return why a study does not come now that comes by itself later, None if none does."""
        return await self._errands.waiting(study_instance_uid)

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
                self._errands.start(row)
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop; what has arrived is noted and goes on at the next start."""
        await self._errands.close()

    def _seen(self, row: RetrievalRow) -> Retrieval:
        return Retrieval(
            self._errands.seen(row),
            self._partners.name(row.origin),
            self._errands.viewable(row.retrieval_id),
            "" if row.finished or urgent(row) else self._pace.reason(row.origin),
        )
