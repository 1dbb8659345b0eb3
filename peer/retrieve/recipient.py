"""The recipient's side: one attempt at a study, from the request to the adopted packs.

Every ending leaves the store in order: a study is adopted whole, or nothing of it stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from peer.actors import Actor
from peer.clock import Clock
from peer.config import Transfer as Settings
from peer.errors import NodeError
from peer.index import Database, Tx, studies, transfers
from peer.index.transfers import LeaveRow, RetrievalRow
from peer.ingest import Ingest, ReceivedStudy
from peer.keys import NodeKeys
from peer.link import Links
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from peer.retrieve import repair
from peer.retrieve.arriving import Arriving
from peer.retrieve.chunks import end_of, ends_of
from peer.retrieve.leave import Leave, Promise, Unreachable, ask_leave, streamed
from peer.retrieve.pace import Pace
from peer.retrieve.transfer import Note, Transfer
from peer.retrieve.turns import Turns, is_urgent
from peer.store import Store
from protocol.errors import Refusal, WrongContent
from protocol.hashing import plain_hash

FETCH_PAUSE_S: Final = 0.5
"""Before a range is asked for again.  An origin that is restarting needs longer than any number of
quick attempts would bridge; `transfer.retry_s` waits for it."""


class MovedOn(Exception):
    """A renewed grant is for a newer version of the study; begin anew with what is here."""


@dataclass(slots=True)
class Attempt:
    """One attempt at one retrieval.  `leave` and what follows are None until there are any."""

    row: RetrievalRow
    actor: Actor
    partner: Partner
    promise: Promise
    leave: Leave | None = None
    transfer: Transfer | None = None
    arriving: Arriving | None = None
    """What can be looked at already of a study of which nothing is held."""
    arrived: bool = False
    """Whether nothing is left but to take it in: not to be interrupted, since what lies whole in
    the store and on no record would be in the way of the next attempt."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Carries attempts out.  `parallel`: ranges under way at once."""

    repair: repair.Repair
    db: Database
    store: Store
    keys: NodeKeys
    clock: Clock
    links: Links
    reciprocity: Reciprocity
    ingest: Ingest
    settings: Settings
    turns: Turns
    pace: Pace

    async def carry_out(self, attempt: Attempt) -> None:
        """Fetch, verify and adopt the study; return when all of it is held and on record.

        Raises Refusal, a RemoteProtocolError or a NodeError, Unreachable among them; then what
        has arrived is still there: `destroy` it or try again.
        """
        moved_on = True
        while moved_on:
            try:
                moved_on = await self._carry_out(attempt)
            finally:
                # Nobody looks at what is refused by now, however long its ending takes.
                attempt.arriving = None
                if attempt.transfer is not None:
                    attempt.transfer.close()

    async def _carry_out(self, attempt: Attempt) -> bool:
        """Return whether the origin has a newer version by now, for which to begin anew."""
        leave = attempt.leave = await self._ask(attempt)
        manifest = leave.manifest
        if manifest.study_instance_uid != attempt.row.study_instance_uid:
            raise WrongContent("a grant is for another study than was asked for")
        held = await self.db.read(lambda tx: _held(tx, attempt.row, leave))
        # What stays damaged of a study that has grown, opening the transfer finds.
        unmended = await self.repair.mend(attempt.row, attempt.actor, leave)
        if held is None:
            await self._note_leave(attempt, leave, size=0)
            if unmended is not None:
                raise unmended
            return False
        transfer = Transfer(self.store, manifest, held, self._noting(attempt))
        attempt.transfer = transfer
        await self._note_leave(attempt, leave, size=transfer.bytes)
        await transfer.open(await self._expect(attempt, transfer))
        inspection = self.ingest.inspection(manifest, leave.keys)
        # Of a study that is held, from there or from elsewhere, that is what is looked at.
        if await self.db.read(lambda tx: studies.get(tx, attempt.row.study_instance_uid)) is None:
            attempt.arriving = Arriving(
                attempt.row.retrieval_id, attempt.row.origin, manifest, transfer, inspection
            )
        fetch = _Fetcher(self, attempt, leave).fetch
        try:
            await transfer.run(fetch, self.settings.parallel_ranges, inspection.look)
        except MovedOn:
            return True
        attempt.arrived = True
        await transfer.finish()
        await self.ingest.adopt(
            ReceivedStudy(
                origin=attempt.row.origin,
                manifest=manifest,
                signed=leave.signed,
                pack_keys=leave.keys,
                pack_sizes={pack_id: end_of(those) for pack_id, those in transfer.chunks.items()},
            ),
            attempt.actor,
            inspection,
        )
        return False

    async def _ask(self, attempt: Attempt) -> Leave:
        over = await self.reciprocity.quotas.study_objection(
            attempt.partner, attempt.row.study_instance_uid, attempt.actor.purpose
        )
        if over is not None:
            raise over
        return await ask_leave(
            self.links,
            self.reciprocity,
            self.keys,
            self.clock,
            partner=attempt.partner,
            promise=attempt.promise,
            actor=attempt.actor,
            within_s=self.settings.answer_s,
        )

    async def _expect(self, attempt: Attempt, transfer: Transfer) -> Mapping[bytes, bytes]:
        """Note the packs that will arrive and return what earlier attempts noted of them.

        Packs of an earlier version that no one names now are destroyed.
        """
        retrieval_id = attempt.row.retrieval_id
        arriving = transfer.arriving

        def work(tx: Tx) -> tuple[dict[bytes, bytes], set[bytes]]:
            transfers.expect_packs(tx, retrieval_id, arriving)
            bitmaps = transfers.bitmaps(tx, retrieval_id)
            return bitmaps, bitmaps.keys() - arriving

        def forget(tx: Tx) -> None:
            for pack_id in stale:
                transfers.forget_pack(tx, pack_id)

        bitmaps, stale = await self.db.write(work)
        if stale:
            await self._destroy_unrecorded(stale)
            await self.db.write(forget)
        return bitmaps

    async def _note_leave(self, attempt: Attempt, leave: Leave, size: int) -> None:
        row = LeaveRow(
            grant_id=leave.grant.grant_id,
            retrieve_handle=leave.grant.retrieve_handle,
            manifest_root=leave.grant.manifest_root,
            manifest_version=leave.grant.manifest_version,
            instances=len(leave.manifest.instances),
            bytes=size,
        )
        now, asked = self.clock.now(), attempt.row
        granted = sum((await asyncio.to_thread(ends_of, leave.manifest)).values())

        def work(tx: Tx) -> None:
            transfers.put_leave(tx, asked.retrieval_id, row, now)
            self.reciprocity.quotas.note_received(
                tx, asked.origin, asked.study_instance_uid, granted
            )

        await self.db.write(work)

    def _noting(self, attempt: Attempt) -> Note:
        async def note(maps: Mapping[bytes, bytes], verified: int) -> None:
            now, retrieval_id = self.clock.now(), attempt.row.retrieval_id
            await self.db.write(
                lambda tx: transfers.put_progress(tx, retrieval_id, maps, verified, now)
            )

        return note

    async def renew(self, attempt: Attempt, expired: Leave) -> Leave:
        """Return leave for the same version in the place of `expired`; raise MovedOn if none."""
        fresh = await self._ask(attempt)
        if fresh.grant.manifest_root != expired.grant.manifest_root:
            raise MovedOn
        attempt.leave = fresh
        size = 0 if attempt.transfer is None else attempt.transfer.bytes
        await self._note_leave(attempt, fresh, size)
        return fresh

    # -- endings ----------------------------------------------------------------------------
    async def missing(self, row: RetrievalRow, attempt: Attempt | None) -> list[str]:
        """Return the SOP Instance UIDs of a failed attempt that did not arrive, or arrived wrong.

        All of them if each arrived well by itself and the study as a whole was not accepted; none
        if the attempt ended before its grant was noted.
        """
        if attempt is None or attempt.leave is None:
            return []
        leave, transfer = attempt.leave, attempt.transfer
        if leave.grant.grant_id != row.grant_id:
            return []
        everything = [item.sop_instance_uid for item in leave.manifest.instances]
        if transfer is None:
            return everything
        absent = transfer.missing_instances()
        return absent or await asyncio.to_thread(self._wrong, leave) or everything

    async def holds(self, row: RetrievalRow) -> bool:
        """Whether the study is held from that origin, in whatever version."""
        study = await self.db.read(lambda tx: studies.get(tx, row.study_instance_uid))
        return study is not None and study.origin == row.origin

    async def lacking(self, row: RetrievalRow, attempt: Attempt | None) -> list[str] | None:
        """Return what is not held of the manifest that was granted last; None if nothing is.

        Empty too where that manifest is not at hand, as after a restart.
        """
        if not await self.holds(row):
            return None
        leave = None if attempt is None else attempt.leave
        if leave is None or leave.grant.grant_id != row.grant_id:
            return []

        def work(tx: Tx) -> set[str]:
            return {each.sop_instance_uid for each in studies.list_instances(tx, uid)}

        uid = row.study_instance_uid
        held = await self.db.read(work)
        named = (item.sop_instance_uid for item in leave.manifest.instances)
        return [each for each in named if each not in held]

    def _wrong(self, leave: Leave) -> list[str]:
        wrong = []
        for item in leave.manifest.instances:
            pack_id = leave.manifest.packs[item.pack]
            try:
                data = self.store.read(pack_id, leave.keys[pack_id], item.chunks)
            except NodeError:
                data = b""
            if plain_hash(data) != item.content_hash:
                wrong.append(item.sop_instance_uid)
        return wrong

    async def destroy(self, row: RetrievalRow) -> None:
        """Destroy what has arrived of a study that is not kept; its keys were in memory alone.

        It stays on record until it is gone.  Raises NodeError if any of it could not be destroyed.
        """
        retrieval_id = row.retrieval_id
        await self._destroy_unrecorded(
            await self.db.read(lambda tx: transfers.bitmaps(tx, retrieval_id))
        )
        await self.db.write(lambda tx: transfers.forget_packs(tx, retrieval_id))

    async def _destroy_unrecorded(self, pack_ids: Iterable[bytes]) -> None:
        """Destroy packs, arriving or whole, of which the index knows nothing.

        A pack on record is never touched: a partner chooses the ids that its manifest names.  Each
        is tried before NodeError is raised for one that the disk does not let go of.
        """
        named = set(pack_ids)
        recorded = await self.db.read(lambda tx: transfers.owners(tx, named))
        failure: NodeError | None = None
        for pack_id in named - recorded.keys():
            try:
                await asyncio.to_thread(self.store.destroy, pack_id)
            except NodeError as error:
                failure = error
        if failure is not None:
            raise failure


class _Fetcher:
    """Fetches ranges under a grant that it renews when it has expired."""

    def __init__(self, recipient: Recipient, attempt: Attempt, leave: Leave) -> None:
        self._recipient = recipient
        self._attempt = attempt
        self._leave = leave
        self._renewing = asyncio.Lock()

    async def fetch(self, pack_id: bytes, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield ciphertext from the origin; raise Refusal, Unreachable or MovedOn.

        Where a connection breaks off, another goes on.
        """
        failures = 0
        urgent = is_urgent(self._attempt.actor.purpose)
        await self._recipient.turns.give_way(urgent=urgent)
        while start < end:
            leave = self._leave
            links, origin = self._recipient.links, self._attempt.row.origin
            path = leave.path + pack_id.hex()
            try:
                async with aclosing(streamed(links, origin, path, start, end)) as parts:
                    async for part in parts:
                        start += len(part)
                        failures = 0
                        if urgent:
                            self._recipient.turns.brought(len(part))
                        yield part
                        await self._recipient.turns.give_way(urgent=urgent)
                        if not urgent:
                            await self._recipient.pace.take(origin, len(part))
            except Unreachable:
                failures += 1
                if failures == self._recipient.settings.range_attempts:
                    raise
                await asyncio.sleep(FETCH_PAUSE_S)
            except Refusal as refusal:
                if refusal.code != repair.GRANT_EXPIRED:
                    raise
                await self._renew(leave)

    async def _renew(self, expired: Leave) -> None:
        async with self._renewing:
            if self._leave is expired:
                self._leave = await self._recipient.renew(self._attempt, expired)


def _held(tx: Tx, row: RetrievalRow, leave: Leave) -> frozenset[bytes] | None:
    """Return which packs of the manifest this study has here; None if it is held as granted.

    Raises WrongContent if the manifest names a pack that belongs to another study here.
    """
    study = studies.get(tx, row.study_instance_uid)
    ours = study is not None and study.origin == row.origin
    if ours and study is not None and study.manifest_root == leave.grant.manifest_root:
        return None
    recorded = transfers.owners(tx, leave.manifest.packs)
    if any(not ours or owner != row.study_instance_uid for owner in recorded.values()):
        raise WrongContent("a manifest names packs that belong to another study")
    return frozenset(recorded)
