"""One group is encrypted while the one before it becomes durable, and nothing is mixed up by it."""

from __future__ import annotations

import asyncio
import errno
import os
import threading

import pytest

from peer.errors import StorageFull
from peer.index import database, studies
from peer.ingest import commits
from peer.ingest.writers import Writers
from tests.dicom_samples import instance
from tests.intake import SENDER, open_intake


@pytest.fixture
async def intake(tmp_path):
    async with open_intake(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def no_group_is_small(monkeypatch):
    monkeypatch.setattr(commits, "SMALL_INSTANCES", 0)


def held_in_sync(monkeypatch, fail=None):
    """Hold the first sync of a pack until `release` is set; return that and what shows it."""
    reached, release, real, count = threading.Event(), threading.Event(), os.fdatasync, []

    def sync(file):
        count.append(file)
        if len(count) == 1:
            reached.set()
            assert release.wait(60)
            if fail is not None:
                raise fail
        real(file)

    monkeypatch.setattr(os, "fdatasync", sync)
    return reached, release


def seen(monkeypatch, reached):
    """Return an event that is set once a group was appended after `reached`."""
    appended, loop, real = asyncio.Event(), asyncio.get_running_loop(), Writers.append

    def append(*args):
        group = real(*args)
        if reached.is_set():
            loop.call_soon_threadsafe(appended.set)
        return group

    monkeypatch.setattr(Writers, "append", append)
    return appended


@pytest.mark.usefixtures("no_group_is_small")
async def test_a_group_is_encrypted_while_the_one_before_it_becomes_durable(intake, monkeypatch):
    reached, release = held_in_sync(monkeypatch)
    appended = seen(monkeypatch, reached)
    first = asyncio.create_task(intake.take(instance(1)))
    await asyncio.to_thread(reached.wait, 60)
    second = asyncio.create_task(intake.take(instance(2)))
    async with asyncio.timeout(60):
        await appended.wait()
    assert not first.done()
    assert not second.done()
    release.set()
    assert [(await each).status for each in (first, second)] == ["accepted", "accepted"]
    assert [await intake.read(f"1.2.3.1.{n}") for n in (1, 2)] == [instance(1), instance(2)]
    assert len(intake.store.sizes()) == 1, "both are in one pack, under one key"


@pytest.mark.parametrize("small", [0, commits.SMALL_INSTANCES])
@pytest.mark.parametrize("fails", [False, True], ids=["kept", "lost"])
async def test_a_copy_of_what_is_not_durable_yet_waits_for_what_becomes_of_it(
    intake, monkeypatch, fails, small
):
    monkeypatch.setattr(commits, "SMALL_INSTANCES", small)
    error = OSError(errno.EIO, "broken") if fails else None
    reached, release = held_in_sync(monkeypatch, error)
    first = asyncio.create_task(intake.take(instance(1)))
    await asyncio.to_thread(reached.wait, 60)
    copy = asyncio.create_task(intake.take(instance(1)))
    while not intake.ingest._commits._lock.locked():  # noqa: ASYNC110 - a thread sets no event
        await asyncio.sleep(0.01)
    release.set()
    statuses = [(await each).status for each in (first, copy)]
    assert statuses == (["refused", "accepted"] if fails else ["accepted", "duplicate"])
    assert await intake.read("1.2.3.1.1") == instance(1)


@pytest.mark.usefixtures("no_group_is_small")
async def test_nothing_in_a_pack_is_believed_after_a_sync_of_it_failed(intake, monkeypatch):
    reached, release = held_in_sync(monkeypatch, OSError(errno.EIO, "broken"))
    appended = seen(monkeypatch, reached)
    first = asyncio.create_task(intake.take(instance(1)))
    await asyncio.to_thread(reached.wait, 60)
    second = asyncio.create_task(intake.take(instance(2)))
    async with asyncio.timeout(60):
        await appended.wait()
    release.set()
    outcomes = [await first, await second]
    assert [each.code for each in outcomes] == ["disk-error", "disk-error"]
    assert await intake.db.read(studies.count) == (0, 0)
    assert (await intake.take(instance(2))).status == "accepted", "in a new pack"


async def test_of_a_small_group_only_what_the_disk_did_not_keep_is_refused(intake, monkeypatch):
    """Two packs are synced at the same time; the sync of one of them fails."""
    real, broken = os.fdatasync, []

    def sync(file):
        if not broken:
            broken.append(file)
            raise OSError(errno.EIO, "broken")
        real(file)

    monkeypatch.setattr(os, "fdatasync", sync)
    sent = {study: instance(1, study=study) for study in ("1.2.4", "1.2.5")}
    stored = await intake.ingest.store_instances([*sent.values()], SENDER, "test")
    assert sorted(each.status for each in stored) == ["accepted", "refused"]
    kept = next(each for each in stored if each.status == "accepted")
    assert await intake.db.read(studies.count) == (1, 1)
    assert await intake.read(kept.sop_instance_uid) == sent[kept.study_instance_uid]
    again = await intake.ingest.store_instances([*sent.values()], SENDER, "test")
    assert {each.status for each in again} == {"accepted", "duplicate"}


async def test_a_small_group_whose_commit_fails_is_refused_and_comes_again(intake, monkeypatch):
    real, failing = database._transact, [True]

    def transact(tx, begin, work):
        def full(tx):
            work(tx)
            raise StorageFull("No room.")

        return real(tx, begin, full if failing and begin == "BEGIN IMMEDIATE" else work)

    monkeypatch.setattr(database, "_transact", transact)
    outcome = await intake.take(instance(1))
    assert (outcome.status, outcome.code) == ("refused", "no-space")
    failing.clear()
    assert (await intake.take(instance(1))).status == "accepted"
    assert await intake.read("1.2.3.1.1") == instance(1)


@pytest.mark.parametrize("small", [0, 16], ids=["two steps", "one step"])
@pytest.mark.parametrize("fails", ["fdatasync", "commit"])
async def test_a_copy_in_the_group_of_what_is_lost_is_refused_with_it(
    intake, monkeypatch, small, fails
):
    """Else its sender believes that the instance is held, and deletes its own."""
    monkeypatch.setattr(commits, "SMALL_INSTANCES", small)
    other = instance(1, PatientComments="not the same")
    with monkeypatch.context() as broken:

        def sync(_file):
            raise OSError(errno.EIO, "broken")

        def transact(tx, begin, work, real=database._transact):
            def full(tx):
                work(tx)
                raise StorageFull("No room.")

            return real(tx, begin, full if begin == "BEGIN IMMEDIATE" else work)

        if fails == "commit":
            broken.setattr(database, "_transact", transact)
        else:
            broken.setattr(os, "fdatasync", sync)
        stored = await intake.ingest.store_instances(
            [instance(1), instance(1), other], SENDER, "test"
        )
    code = "no-space" if fails == "commit" else "disk-error"
    assert [(each.status, each.code) for each in stored] == [("refused", code)] * 3
    stored = await intake.ingest.store_instances([instance(1), instance(1)], SENDER, "test")
    assert [each.status for each in stored] == ["accepted", "duplicate"]
