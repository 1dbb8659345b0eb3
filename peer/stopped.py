"""What is done to a node that does not run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from peer.actors import Actor
from peer.audit import Audit, AuditEvent
from peer.backup import Backups
from peer.clock import SystemClock
from peer.config import load
from peer.directory import must_hold, only_one
from peer.index import INDEX_MIGRATIONS, Database
from peer.keys import load as load_keys
from peer.people import Link, People

INDEX: Final = "index.db"


async def first_link(data: Path) -> Link:
    """Return the one-time link that signs in whoever has made the node of `data`."""
    async with _opened(data) as (_, audit, people, actor):
        await audit.record(AuditEvent("init", "success", actor))
        return await people.make_link(actor)


@asynccontextmanager
async def backups(data: Path) -> AsyncIterator[tuple[Backups, Actor]]:
    """Let backups of the node be put on record, by whom runs this program."""
    must_hold(data / INDEX)
    async with _opened(data) as (db, _, _, actor):
        yield Backups(db, SystemClock()), actor


@asynccontextmanager
async def _opened(data: Path) -> AsyncIterator[tuple[Database, Audit, People, Actor]]:
    """Open the index; the actor is whoever runs this program.  Raise AlreadyRunning."""
    settings, clock = load(data), SystemClock()
    with only_one(data):
        keys = load_keys(data, settings)
        cache_bytes = settings.index.cache_bytes
        db = await Database.open(data / INDEX, keys.index_key, INDEX_MIGRATIONS, cache_bytes)
        try:
            audit = await Audit.open(db, clock, keys.audit_key)
            people = People(db, clock, settings.people, keys.pseudonym_key)
            yield db, audit, people, people.os_user(os.getuid())
        finally:
            await db.close()
