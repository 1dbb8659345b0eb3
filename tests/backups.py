"""A node's data directory with images in it, small enough to be backed up in a test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from peer import config
from peer import keys as node_keys
from peer.audit import Audit
from peer.clock import ManualClock
from peer.index import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database, instances
from peer.ingest import Ingest
from peer.keys import NodeKeys
from peer.store import Store, unwrap_pack_key, unwrap_study_key
from tests.intake import NOW, SENDER

PASSPHRASE = "correct horse battery staple"


@dataclass
class SmallNode:
    """A node's keys, index and store, open; nothing listens."""

    data: Path
    keys: NodeKeys
    db: Database
    store: Store
    ingest: Ingest

    async def take(self, content: bytes):
        """Store one instance."""
        return await self.ingest.store_instance(content, SENDER, "test")

    async def read(self, sop_instance_uid: str) -> bytes:
        """Return the bytes of an instance as they are stored."""
        found = await self.db.read(lambda tx: instances.locate(tx, sop_instance_uid))
        study_key = unwrap_study_key(
            self.keys.store_key, found.wrapped_study_key, found.study_instance_uid
        )
        key = unwrap_pack_key(study_key, found.wrapped_pack_key, found.pack_id)
        return self.store.read(found.pack_id, key, found.chunks)


def new_node(folder: Path, issuer: str = "urn:oid:2.999.1.1") -> Path:
    """Make the keys and settings of a node; return its data directory."""
    data = folder / "data"
    data.mkdir(mode=0o700, parents=True)
    config.write_default(data, facility={"name": "Northgate"}, ingest={"default_issuer": issuer})
    node_keys.create(data, folder / "root.key", "Northgate", now=NOW)
    return data


@asynccontextmanager
async def opened(data: Path):
    """Open a node as its process does, and recover first."""
    settings, clock = config.load(data), ManualClock(NOW)
    keys = node_keys.load(data, settings)
    db = await Database.open(data / "index.db", keys.index_key, INDEX_MIGRATIONS)
    partners_db = await Database.open(data / "partners.db", None, PARTNERS_MIGRATIONS)
    try:
        await Audit.open(db, clock, keys.audit_key)
        store = Store(data / "store")
        ingest = Ingest(db, store, keys.store_key, clock, settings)
        await ingest.recover()
        yield SmallNode(data, keys, db, store, ingest)
        await ingest.close()
    finally:
        await db.close()
        await partners_db.close()
