"""A check of the store names exactly what is damaged, at a bounded speed, across restarts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from peer import scrub as module
from peer.config import Store as Settings
from peer.index import verification
from peer.scrub import Scrub
from tests.dicom_samples import instance
from tests.intake import SENDER, STORE_KEY, open_intake


@pytest.fixture
async def intake(tmp_path):
    async with open_intake(tmp_path / "data") as opened:
        for number in range(1, 4):
            data = instance(number, study=f"1.{number % 2}", pixels=bytes([number]) * 3000)
            assert (await opened.take(data)).status == "accepted"
        yield opened


@asynccontextmanager
async def running(intake, **settings):
    scrub = Scrub(intake.db, intake.store, STORE_KEY, intake.clock, Settings(**settings))
    task = asyncio.create_task(scrub.run())
    try:
        yield scrub
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def ended(scrub):
    async with asyncio.timeout(60):
        while (found := await scrub.state()).verification.ended_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def checked(intake):
    async with running(intake) as scrub:
        await scrub.begin(SENDER)
        return await ended(scrub), list(scrub.warnings())


def pack_of(intake, size):
    """The file of the pack that is larger, or smaller, than the other."""
    ids = sorted(intake.store.sizes(), key=intake.store.sizes().get)
    return intake.store._path(ids[-1] if size == "larger" else ids[0])


async def test_what_is_whole_is_said_to_be(intake):
    found, warnings = await checked(intake)
    assert (found.verification.instances, found.verification.packs, found.packs) == (3, 2, 2)
    assert found.verification.bytes == found.bytes > 9000
    assert found.damaged == []
    assert warnings == []
    assert (await intake.audit.verify()).ok


async def test_a_flipped_bit_is_one_instance_and_is_forgotten_once_it_is_mended(intake):
    path = pack_of(intake, "larger")
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    found, warnings = await checked(intake)
    assert [each.sop_instance_uid for each in found.damaged] == ["1.1.1.1"]
    assert found.damaged[0].study_instance_uid == "1.1"
    assert "damaged" in found.damaged[0].reason
    assert "1 stored instance" in warnings[0]
    lines = [line async for line in intake.audit.export(None, None)]
    assert sum('"verify"' in line and '"failed"' in line for line in lines) == 1
    path.write_bytes(whole)
    found, warnings = await checked(intake)
    assert (found.damaged, warnings) == ([], [])


async def test_what_a_start_finds_missing_is_damaged_at_once_and_sound_when_it_is_back(intake):
    path = pack_of(intake, "larger")
    whole = path.read_bytes()
    path.unlink()
    await intake.ingest.recover()
    async with running(intake) as scrub:
        found = await scrub.state()
        assert {each.sop_instance_uid for each in found.damaged} == {"1.1.1.1", "1.1.1.3"}
        assert {each.reason for each in found.damaged} == {verification.LOST}
        path.write_bytes(whole)
        await intake.ingest.recover()
        assert (await scrub.state()).damaged == []


@pytest.mark.parametrize("how", ["cut", "gone"])
async def test_what_is_missing_is_named_too(intake, how):
    path = pack_of(intake, "larger")
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    found, _ = await checked(intake)
    names = {each.sop_instance_uid for each in found.damaged}
    assert names == ({"1.1.1.1", "1.1.1.3"} if how == "gone" else {"1.1.1.3"})


async def test_a_check_goes_on_where_the_last_run_ended(intake, monkeypatch):
    reached, real, seen = asyncio.Event(), Scrub._check, []

    async def check(self, pack):
        if seen:
            reached.set()
            await asyncio.Event().wait()
        seen.append(pack.pack_id)
        return await real(self, pack)

    monkeypatch.setattr(Scrub, "_check", check)
    async with running(intake) as scrub:
        await scrub.begin(SENDER)
        async with asyncio.timeout(60):
            await reached.wait()
        assert (await scrub.state()).verification.packs == 1
    monkeypatch.setattr(Scrub, "_check", real)
    async with running(intake) as scrub:
        found = await ended(scrub)
    assert (found.verification.packs, found.verification.instances) == (2, 3)
    assert (await intake.audit.verify()).ok


async def test_a_second_request_joins_the_check_under_way(intake):
    scrub = Scrub(intake.db, intake.store, STORE_KEY, intake.clock, Settings())
    first = await scrub.begin(SENDER)
    intake.clock.advance(10)
    assert (await scrub.begin(SENDER)).verification == first.verification


async def test_reading_is_as_slow_as_is_set(intake, monkeypatch):
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr(module.time, "monotonic", lambda: 0.0)
    async with running(intake, verify_bytes_per_s=1 << 20) as scrub:
        with monkeypatch.context() as patch:
            patch.setattr(module.asyncio, "sleep", sleep)
            await scrub.begin(SENDER)
            while (found := await scrub.state()).verification.ended_at is None:
                pass
    assert sum(slept) == pytest.approx(found.bytes / (1 << 20))


async def test_what_is_removed_meanwhile_is_not_damaged(intake, monkeypatch):
    real = Scrub._check

    async def check(self, pack):
        await intake.ingest.remove_study(pack.study_instance_uid, lambda _: None)
        return await real(self, pack)

    monkeypatch.setattr(Scrub, "_check", check)
    found, _ = await checked(intake)
    assert found.damaged == []
