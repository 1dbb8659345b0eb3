"""Images stop before the disk is full, and the sender is told so in the protocol's words."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from peer.config import Store as Settings
from peer.errors import StorageFull
from peer.index import studies
from peer.store import Store
from tests.dicom_samples import instance
from tests.intake import open_intake

KEEP = 1 << 20


@pytest.fixture
def disk(monkeypatch):
    """A disk whose free bytes the test sets."""
    left = [100 * KEEP]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=left[0]))
    return left


async def test_images_leave_room_on_the_disk(tmp_path, disk):
    async with open_intake(tmp_path / "data", store={"keep_free_bytes": KEEP}) as intake:
        assert not list(intake.ingest.warnings())
        disk[0] = KEEP + len(instance(1)) - 1
        outcome = await intake.take(instance(1))
        assert (outcome.status, outcome.code) == ("refused", "no-space")
        assert intake.store.sizes() == {}
        assert "has" in next(intake.ingest.warnings())
        disk[0] += 1
        assert (await intake.take(instance(1))).status == "accepted"
        assert await intake.read("1.2.3.1.1") == instance(1)


async def test_a_quota_bounds_what_the_store_holds_and_a_purge_makes_room(tmp_path):
    size = len(instance(1, pixels=bytes(5000)))
    bounds = {"keep_free_bytes": 0, "quota_bytes": 2 * size + 200}
    async with open_intake(tmp_path / "data", store=bounds) as intake:
        for number in (1, 2):
            data = instance(number, study=f"1.{number}", pixels=bytes(5000))
            assert (await intake.take(data)).status == "accepted"
        third = instance(3, study="1.3", pixels=bytes(5000))
        outcome = await intake.take(third)
        assert (outcome.status, outcome.code) == ("refused", "no-space")
        assert "quota_bytes" in outcome.reason
        assert "quota_bytes" in next(intake.ingest.warnings())
        assert (await intake.take(instance(1, study="1.1", pixels=bytes(5000)))).status == (
            "duplicate"
        )
    async with open_intake(tmp_path / "data", store=bounds) as intake:
        assert (await intake.take(third)).code == "no-space", "a restart counts what is there"
        await intake.ingest.remove_study("1.1", lambda _: None)
        assert (await intake.take(third)).status == "accepted"
        assert await intake.db.read(studies.count) == (2, 2)


def test_a_retrieval_leaves_room_and_goes_on_with_what_it_has_taken(tmp_path, disk):
    store = Store(tmp_path, Settings(keep_free_bytes=KEEP))
    disk[0] = KEEP + 999
    with pytest.raises(StorageFull):
        store.receive(b"p" * 16, 1000)
    assert store.incoming() == {}
    disk[0] = KEEP + 1000
    store.receive(b"p" * 16, 1000).close()
    disk[0] = KEEP
    store.receive(b"p" * 16, 1000).close()
    assert store.room.held_bytes == 1000
    store.destroy(b"p" * 16)
    assert store.room.held_bytes == 0
