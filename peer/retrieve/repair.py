"""Repair of a study that is held: what was found damaged comes from its origin again.

A pack is the origin's ciphertext unchanged, and the hash of each chunk is on record here: what has
that hash is what the disk has lost, whoever sends it.  One chunk after the other, since damage is
rare; it gives way to emergencies and holds to the operator's limits as any retrieval does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import NodeError, NotFound
from peer.index import Database, Tx, instances, verification
from peer.index.instances import Location
from peer.index.transfers import RetrievalRow
from peer.ingest import Ingest
from peer.link import Links
from peer.retrieve.leave import Leave, Unreachable, fetched
from peer.retrieve.pace import NotNow, Pace
from peer.retrieve.transfer import ATTEMPTS
from peer.retrieve.turns import Turns, is_urgent
from peer.store import Store, unwrap_pack_key, unwrap_study_key
from protocol.errors import Refusal, RemoteProtocolError, WrongContent
from protocol.hashing import plain_hash
from protocol.manifest import Chunk

GRANT_EXPIRED: Final = "grant-expired"
"""The origin's word for a grant that must be asked for again."""


class NotMended(NodeError):
    """A study stays damaged.  `missing`: SOP Instance UIDs of the instances that do."""

    def __init__(self, why: Exception, missing: Sequence[str]) -> None:
        super().__init__(
            f"The study is held as it was: what is damaged of it could not be mended. {why}"
        )
        self.missing = tuple(missing)


@dataclass(frozen=True, slots=True)
class Repair:
    """Mends what `peer.scrub` has put on record as damaged."""

    db: Database
    store: Store
    store_key: bytes
    clock: Clock
    links: Links
    ingest: Ingest
    turns: Turns
    pace: Pace
    listeners: list[Callable[[], None]] = field(default_factory=list)
    """Called after anything was mended."""

    async def mend(self, row: RetrievalRow, actor: Actor, leave: Leave) -> NotMended | None:
        """Fetch what is damaged of a study under its origin's leave; return why any of it stays so.

        Nothing happens to a study of another source.  Raises Unreachable or NotNow: what was mended
        until then stays mended, and the rest may be tried again.
        """
        uid, origin = row.study_instance_uid, row.origin
        damaged = await self.db.read(lambda tx: verification.damaged_of(tx, uid, origin))
        mended: list[str] = []
        missing: list[str] = []
        why: Exception | None = None
        try:
            for position, each in enumerate(damaged):
                try:
                    await self._mend(row, leave, each, urgent=is_urgent(actor.purpose))
                    mended.append(each)
                except (Unreachable, NotNow):
                    raise
                except Refusal as refusal:
                    if refusal.code == GRANT_EXPIRED:
                        raise Unreachable(str(refusal)) from refusal
                    why, missing = refusal, [*missing, *damaged[position:]]
                    break  # The next range would be refused too.
                except (RemoteProtocolError, NodeError) as error:
                    why = error
                    missing.append(each)
        finally:
            if mended:
                await self._note(row, actor, mended)
        return None if why is None else NotMended(why, missing)

    async def _mend(
        self, row: RetrievalRow, leave: Leave, sop_instance_uid: str, *, urgent: bool
    ) -> None:
        found = await self.db.read(lambda tx: instances.locate(tx, sop_instance_uid))
        if found is None:
            raise NotFound("The instance was removed meanwhile.")
        path = leave.path + found.pack_id.hex()
        for chunk in found.chunks:
            if not await asyncio.to_thread(self._is_sound, found.pack_id, chunk):
                await self.turns.give_way(urgent=urgent)
                data = await self._fetched(row, path, chunk)
                await self.ingest.mend(found.pack_id, chunk.offset, data)
                if urgent:
                    self.turns.brought(len(data))
                else:
                    await self.pace.take(row.origin, len(data))
        await asyncio.to_thread(self._verify, found)

    def _is_sound(self, pack_id: bytes, chunk: Chunk) -> bool:
        try:
            data = self.store.read_range(pack_id, chunk.offset, chunk.length)
        except NodeError:  # The pack is gone, or the disk cannot read that place.
            return False
        return plain_hash(data) == chunk.hash

    async def _fetched(self, row: RetrievalRow, path: str, chunk: Chunk) -> bytes:
        end = chunk.offset + chunk.length
        for _ in range(ATTEMPTS):
            data = await fetched(self.links, row.origin, path, chunk.offset, end)
            if plain_hash(data) == chunk.hash:
                return data
        raise WrongContent(f"a chunk arrived {ATTEMPTS} times with other bytes than promised")

    def _verify(self, found: Location) -> None:
        study_key = unwrap_study_key(
            self.store_key, found.wrapped_study_key, found.study_instance_uid
        )
        key = unwrap_pack_key(study_key, found.wrapped_pack_key, found.pack_id)
        self.store.verify(found.pack_id, key, found.chunks, found.content_hash)

    async def _note(self, row: RetrievalRow, actor: Actor, mended: Sequence[str]) -> None:
        now = self.clock.now()
        event = AuditEvent(
            action="verify",
            outcome="success",
            actor=actor,
            study_instance_uid=row.study_instance_uid,
            partner=row.origin,
            detail={"mended": len(mended)},
        )

        def work(tx: Tx) -> None:
            for each in mended:
                verification.mended(tx, each)
            audit.append(tx, event, now)

        await self.db.write(work)
        for listener in self.listeners:
            listener()
