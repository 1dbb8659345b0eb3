"""Reads everything in the store back, slowly, and says which instances are damaged.

A disk loses bytes without telling anyone.  A check reads each pack, decrypts each chunk and
compares each instance with the hash that it had when it came.  It goes on after a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from peer import audit
from peer.actors import NODE, Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Store as Settings
from peer.errors import NodeError
from peer.index import Database, Tx, verification
from peer.index.verification import DamagedInstance, StoredInstance, StoredPack, Verification
from peer.store import Store, unwrap_pack_key, unwrap_study_key

SHOWN: Final = 10_000
"""Most damaged instances of one answer; beyond it is the disk that is damaged, not an instance."""

RETRY_S: Final = 60
"""Pause after an error of the index, such as a full disk."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """Where a check stands; `packs` and `bytes` are those of all that is stored."""

    verification: Verification | None
    packs: int
    bytes: int
    damaged: Sequence[DamagedInstance]


class Scrub:
    """Checks what the store holds, one instance after the other, at a bounded speed."""

    def __init__(
        self, db: Database, store: Store, store_key: bytes, clock: Clock, settings: Settings
    ) -> None:
        self._db = db
        self._store = store
        self._store_key = store_key
        self._clock = clock
        self._settings = settings
        self._wanted = asyncio.Event()
        self._wanted.set()  # One may be under way since before the start.
        self._damaged = 0

    async def begin(self, actor: Actor) -> Scrubbed:
        """Begin a check, unless one is under way; return where it stands."""
        now = self._clock.now()

        def work(tx: Tx) -> None:
            if verification.begin(tx, now):
                audit.append(tx, AuditEvent("verify", "success", actor), now)

        await self._db.write(work)
        self._wanted.set()
        return await self.state()

    async def state(self) -> Scrubbed:
        """Return where the check stands that is under way, or what the last one found."""

        def work(tx: Tx) -> Scrubbed:
            packs, size, _ = verification.totals(tx)
            found = verification.damaged(tx, SHOWN)
            return Scrubbed(verification.current(tx), packs, size, found)

        return await self._db.read(work)

    def warnings(self) -> Iterator[str]:
        """Yield a sentence for the operator if anything was found damaged."""
        if self._damaged:
            yield (
                f"{self._damaged} stored instance(s) are damaged: openpriors store verify names "
                "them. Look at the disk, and restore them or fetch them again."
            )

    def count_again(self) -> None:
        """Look how many instances are damaged now: some were mended."""
        self._wanted.set()

    async def run(self) -> None:
        """Go on with whatever check is under way, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._go_on()
            except NodeError as error:
                _log.warning("verification-interrupted", error=type(error).__name__)
                self._wanted.set()
                await asyncio.sleep(RETRY_S)

    async def _go_on(self) -> None:
        _, _, self._damaged = await self._db.read(verification.totals)
        while True:
            at = await self._db.read(verification.current)
            if at is None or at.ended_at is not None:
                return
            pack = await self._db.read(partial(verification.next_pack, after=at.after_pack))
            if pack is None:
                await self._end()
                return
            reasons = await self._check(pack)
            note = partial(verification.note, pack=pack, reasons=reasons, now=self._clock.now())
            await self._db.write(note)
            _, _, self._damaged = await self._db.read(verification.totals)

    async def _end(self) -> None:
        now = self._clock.now()

        def work(tx: Tx) -> int:
            verification.end(tx, now)
            _, _, damaged = verification.totals(tx)
            outcome = "failed" if damaged else "success"
            audit.append(tx, AuditEvent("verify", outcome, NODE, detail={"damaged": damaged}), now)
            return damaged

        self._damaged = await self._db.write(work)
        if self._damaged:
            _log.error("instances-damaged", count=self._damaged)

    async def _check(self, pack: StoredPack) -> dict[str, str]:
        """Return why each instance of a pack that is damaged cannot be read, by its UID."""
        reasons = {}
        for each in pack.instances:
            began = time.monotonic()
            reason = await asyncio.to_thread(self._check_instance, pack, each)
            if reason:
                reasons[each.sop_instance_uid] = reason
            due = each.length / self._settings.verify_bytes_per_s
            await asyncio.sleep(max(0.0, due - (time.monotonic() - began)))
        return reasons

    def _check_instance(self, pack: StoredPack, instance: StoredInstance) -> str:
        try:
            study_key = unwrap_study_key(
                self._store_key, pack.wrapped_study_key, pack.study_instance_uid
            )
            key = unwrap_pack_key(study_key, pack.wrapped_pack_key, pack.pack_id)
            self._store.verify(pack.pack_id, key, instance.chunks, instance.content_hash)
        except NodeError as error:
            return str(error)
        return ""
