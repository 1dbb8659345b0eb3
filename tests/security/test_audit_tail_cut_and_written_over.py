"""Mallory can write to the index, without the audit key: she cuts off the records of her own deeds,
rewrites the head and waits for the node to record something, and so to seal what she left.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.actors import Actor
from peer.audit import Audit, AuditEvent
from peer.clock import ManualClock
from peer.index import INDEX_MIGRATIONS, Database

EVENT = AuditEvent("view", "success", Actor("Mallory", "person", frozenset()))
UNGUARD = ("DROP TRIGGER audit_is_never_altered", "DROP TRIGGER audit_is_never_deleted")


@pytest.fixture
async def trail(tmp_path):
    db = await Database.open(tmp_path / "index.db", bytes(32), INDEX_MIGRATIONS)
    audit = await Audit.open(db, ManualClock(1_000), bytes(range(32)))
    for _ in range(6):
        await audit.record(EVENT)
    yield db, audit
    await db.close()


CUTS = {
    "head rewritten": (
        "DELETE FROM audit WHERE number > 4",
        "UPDATE audit_head SET hash = (SELECT hash FROM audit WHERE number = 4)",
        "UPDATE audit_head SET records = 4, seal = zeroblob(32)",
    ),
    "head removed": ("DELETE FROM audit WHERE number > 4", "DELETE FROM audit_head"),
    "head emptied": (
        "DELETE FROM audit",
        "UPDATE audit_head SET records = 0, hash = zeroblob(32)",
    ),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_what_is_recorded_afterwards_does_not_make_it_whole(trail, cut):
    db, audit = trail
    await db.write(lambda tx: [tx.execute(statement) for statement in (*UNGUARD, *cut)][:0])
    assert not (await audit.verify()).ok
    for _ in range(6):
        await audit.record(replace(EVENT, action="search"))
    verified = await audit.verify()
    assert not verified.ok
    assert "head of the trail was altered" in verified.reason
