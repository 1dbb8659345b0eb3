"""A node's store and ingest on a directory, without the rest of the node."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from peer.actors import Actor
from peer.audit import Audit
from peer.clock import ManualClock
from peer.config import Settings
from peer.index import INDEX_MIGRATIONS, Database, instances
from peer.ingest import Ingest, Recovered
from peer.store import Store, unwrap_pack_key, unwrap_study_key

NOW = 1_750_000_000
SENDER = Actor(name="CT1", kind="ae", roles=frozenset())
STORE_KEY = bytes(range(32))


@dataclass
class Intake:
    """What an instance passes on its way in."""

    root: Path
    db: Database
    audit: Audit
    store: Store
    ingest: Ingest
    clock: ManualClock
    settings: Settings
    recovered: Recovered
    listener: object = None
    """Of DICOM, if a test has started one."""

    async def take(self, data: bytes, source: str = "test"):
        """Store one instance."""
        return await self.ingest.store_instance(data, SENDER, source)

    async def read(self, sop_instance_uid: str) -> bytes:
        """Return the bytes of an instance as they are stored."""
        found = await self.db.read(lambda tx: instances.locate(tx, sop_instance_uid))
        study_key = unwrap_study_key(STORE_KEY, found.wrapped_study_key, found.study_instance_uid)
        key = unwrap_pack_key(study_key, found.wrapped_pack_key, found.pack_id)
        return self.store.read(found.pack_id, key, found.chunks)


@asynccontextmanager
async def open_intake(root: Path, *, store=None, **ingest_settings):
    """Start on `root` as a node does: recover before anything else.

    `store` is that section of the settings.
    """
    root.mkdir(exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
    settings = Settings(ingest=ingest_settings, store=store or {"keep_free_bytes": 0})
    clock = ManualClock(NOW)
    db = await Database.open(root / "index.db", bytes(32), INDEX_MIGRATIONS)
    try:
        audit = await Audit.open(db, clock, bytes(32))
        kept = Store(root / "store", settings.store)
        ingest = Ingest(db, kept, STORE_KEY, clock, settings)
        recovered = await ingest.recover()
        yield Intake(root, db, audit, kept, ingest, clock, settings, recovered)
        await ingest.close()
    finally:
        await db.close()
