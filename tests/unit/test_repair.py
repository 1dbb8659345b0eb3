"""A damaged study that came from a partner is mended from there, and from nothing else."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from peer.errors import Damaged, NotFound
from peer.index import grants, verification
from peer.link import NotConnected
from peer.retrieve.pace import NotNow
from peer.scrub import Scrub
from protocol.errors import Refusal
from protocol.manifest import CHUNK_BYTES
from tests.facilities import CLINICIAN, OFFICER, everyone_shares
from tests.transfers import STUDY, hospitals, ready

SIZE = 1_500_000
"""Bytes of an instance here: several chunks."""


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as opened:
        yield opened


@asynccontextmanager
async def scrubbing(facility):
    """Run the check of a facility's store."""
    scrub = Scrub(
        facility.db,
        facility.store,
        facility.keys.store_key,
        facility.clock,
        facility.settings.store.model_copy(update={"verify_bytes_per_s": 1 << 40}),
    )
    facility.retrieve.on_mended(scrub.count_again)
    task = asyncio.create_task(scrub.run())
    try:
        yield scrub
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def check(scrub):
    """Return the SOP Instance UIDs that a whole check finds damaged."""
    await scrub.begin(OFFICER)
    async with asyncio.timeout(60):
        while (found := await scrub.state()).verification.ended_at is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return {each.sop_instance_uid for each in found.damaged}


def the_pack(facility):
    """The file of the one pack that a facility has."""
    (pack_id,) = facility.store.sizes()
    return facility.store._path(pack_id)


def flip(path, *offsets):
    whole = bytearray(path.read_bytes())
    for offset in offsets:
        whole[offset] ^= 1
    path.write_bytes(whole)


async def test_a_flipped_bit_costs_one_chunk(pair):
    alice, bob = pair
    files = await ready(alice, bob, size=SIZE)
    await alice.fetch(bob)
    flip(the_pack(alice), CHUNK_BYTES + 7)
    async with scrubbing(alice) as scrub:
        assert await check(scrub) == {f"{STUDY}.1.1"}
        assert list(scrub.warnings())
        before = alice.links.bytes
        done = await alice.fetch(bob)
        assert (done.state, done.sentence) == ("complete", "3/3 instances verified")
        assert alice.links.bytes - before == CHUNK_BYTES
        async with asyncio.timeout(60):
            while list(scrub.warnings()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await scrub.state()).damaged == []
        assert await check(scrub) == set()
    assert await alice.kept() == files
    (mended,) = [each for each in await alice.actions("verify") if "mended" in each["detail"]]
    assert mended["detail"]["mended"] == 1
    assert (await alice.audit.verify()).ok


async def test_it_holds_to_the_limits_and_goes_on_where_it_was(pair, monkeypatch):
    alice, bob = pair
    files = await ready(alice, bob, size=SIZE)
    await alice.fetch(bob)
    flip(the_pack(alice), 7, CHUNK_BYTES + 7)
    pace, taken = alice.retrieve._pace, []

    async def take(origin, size):
        taken.append((origin, size))
        if len(taken) == 1:
            raise NotNow("Nothing is fetched now.")

    monkeypatch.setattr(pace, "take", take)
    async with scrubbing(alice) as scrub:
        assert await check(scrub) == {f"{STUDY}.1.1"}
        started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        async with asyncio.timeout(60):
            while (seen := await alice.retrieve.status(started.retrieval_id)).state != "waiting":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert seen.row.code == "limited"
            alice.retrieve._errands.wake(bob.peer_id)
            done = await alice.retrieve.finished(started.retrieval_id)
    assert done.state == "complete"
    assert taken == [(bob.peer_id, CHUNK_BYTES)] * 2, "what was mended came again"
    assert await alice.kept() == files


@pytest.mark.parametrize("how", ["cut", "gone", "emptied"])
async def test_what_is_missing_of_a_pack_comes_again(pair, how):
    alice, bob = pair
    files = await ready(alice, bob, size=SIZE)
    await alice.fetch(bob)
    path = the_pack(alice)
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 2 * SIZE] if how == "cut" else b"")
    async with scrubbing(alice) as scrub:
        damaged = await check(scrub)
        assert damaged == ({f"{STUDY}.1.2", f"{STUDY}.1.3"} if how == "cut" else set(files))
        assert (await alice.fetch(bob)).state == "complete"
        assert await check(scrub) == set()
    assert path.read_bytes() == the_pack(bob).read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert await alice.kept() == files


async def test_what_the_origin_has_wrong_too_is_named_and_the_rest_is_mended(pair):
    alice, bob = pair
    await ready(alice, bob, size=SIZE)
    await alice.fetch(bob)
    path = the_pack(alice)
    flip(path, 7, 2 * SIZE)

    async def spoil(_path, start, data):
        return bytes(len(data)) if start == 0 else data

    async with scrubbing(alice) as scrub:
        assert await check(scrub) == {f"{STUDY}.1.1", f"{STUDY}.1.2"}
        alice.links.meddle = spoil
        done = await alice.fetch(bob)
        assert (await scrub.state()).damaged[0].sop_instance_uid == f"{STUDY}.1.1"
        assert len((await scrub.state()).damaged) == 1
    assert done.state == "failed"
    assert done.sentence.startswith("2/3 instances verified. The study is held as it was")
    assert (done.receipt.outcome, done.receipt.missing) == ("incomplete", (f"{STUDY}.1.1",))
    assert path.exists(), "a study that is held was destroyed"
    with pytest.raises(Damaged):
        await alice.kept()


async def test_a_no_under_way_leaves_the_study_as_it_is(pair):
    alice, bob = pair
    await ready(alice, bob, size=SIZE)
    await alice.fetch(bob)
    flip(the_pack(alice), 7, 2 * SIZE)
    damaged = the_pack(alice).read_bytes()

    async def refuse(_path, _start, _data):
        raise Refusal("revoked", "Consent has ended.", "Ask the patient.")

    async with scrubbing(alice) as scrub:
        both = await check(scrub)
        alice.links.meddle, before = refuse, len(alice.links.ranges)
        done = await alice.fetch(bob)
        assert len(alice.links.ranges) == before + 1, "it was asked on after a no"
    assert done.state == "failed"
    assert "Consent has ended" in done.sentence
    assert set(done.receipt.missing) == both
    assert the_pack(alice).read_bytes() == damaged


async def test_a_cut_line_is_gone_on_with_and_nothing_is_mended_twice(pair):
    alice, bob = pair
    files = await ready(alice, bob, size=SIZE)
    await alice.fetch(bob)
    flip(the_pack(alice), 7, SIZE + 2 * CHUNK_BYTES)
    before = alice.links.bytes

    async def break_off(_path, start, data):
        if start > 0:
            raise NotConnected("the line broke")
        return data

    async with scrubbing(alice) as scrub:
        assert len(await check(scrub)) == 2
        alice.links.meddle = break_off
        started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        async with asyncio.timeout(60):
            while (await alice.retrieve.status(started.retrieval_id)).state != "waiting":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert len((await scrub.state()).damaged) == 1, "what was mended is not on record"
        alice.links.meddle = None
        alice.links.connect(bob)
        async with asyncio.timeout(60):
            done = await alice.retrieve.finished(started.retrieval_id)
    assert done.state == "complete"
    assert alice.links.bytes - before == 2 * CHUNK_BYTES
    assert await alice.kept() == files


async def test_a_study_that_is_damaged_and_has_grown_is_mended_and_completed(pair):
    alice, bob = pair
    files = await ready(alice, bob, size=SIZE)
    await alice.fetch(bob)
    flip(the_pack(alice), 7)
    files |= await bob.scan(first=4, count=1, size=SIZE)
    await everyone_shares(alice, bob)
    async with scrubbing(alice) as scrub:
        assert await check(scrub) == {f"{STUDY}.1.1"}
        done = await alice.fetch(bob)
        assert done.sentence == "4/4 instances verified"
        assert await check(scrub) == set()
    assert await alice.kept() == files


async def test_a_study_that_is_destroyed_meanwhile_does_not_come_back(pair):
    alice, bob = pair
    await ready(alice, bob, size=SIZE)
    await alice.fetch(bob)
    flip(the_pack(alice), 7)
    (pack_id,) = alice.store.sizes()

    async def destroy(_path, _start, data):
        await alice.ingest.remove_study(STUDY, lambda _: None)
        return data

    async with scrubbing(alice) as scrub:
        await check(scrub)
        alice.links.meddle = destroy
        done = await alice.fetch(bob)
    assert done.state == "failed"
    assert "removed meanwhile" in done.sentence
    assert alice.store.sizes() == {}
    with pytest.raises(NotFound):
        await alice.ingest.mend(pack_id, 0, b"ciphertext")


async def test_a_study_of_our_own_is_never_mended_from_a_partner(pair):
    alice, bob = pair
    await ready(alice, bob, size=SIZE)
    await alice.scan(size=SIZE)
    flip(the_pack(alice), 7)
    async with scrubbing(alice) as scrub:
        assert await check(scrub) == {f"{STUDY}.1.1"}
        found = await alice.db.read(lambda tx: verification.damaged_of(tx, STUDY, bob.peer_id))
        assert found == []
        before = the_pack(alice).read_bytes()
        await alice.fetch(bob)
        assert len((await scrub.state()).damaged) == 1
    assert the_pack(alice).read_bytes() == before
    assert await bob.db.read(lambda tx: grants.grants_of(tx, STUDY))


async def test_a_pack_that_vanished_takes_no_room_from_its_repair(pair):
    alice, bob = pair
    files = await ready(alice, bob, count=1, size=SIZE)
    await alice.fetch(bob)
    held = alice.store.room.held_bytes
    alice.store.room._settings = alice.settings.store.model_copy(
        update={"keep_free_bytes": 0, "quota_bytes": held + SIZE // 2}
    )
    the_pack(alice).unlink()
    async with scrubbing(alice) as scrub:
        assert await check(scrub) == set(files)
        assert (await alice.fetch(bob)).state == "complete"
    assert await alice.kept() == files
    assert alice.store.room.held_bytes == held
