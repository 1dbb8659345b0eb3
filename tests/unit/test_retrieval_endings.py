"""However a retrieval ends, it ends: nothing stays "fetching", nothing is signed for wrongly."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from peer.errors import NodeError, NotFound, StorageFull
from peer.index import studies, transfers
from peer.retrieve import turns
from peer.retrieve.turns import LEAST_BYTES, SLOW_S, Turns
from protocol.errors import Refusal
from tests.facilities import CLINICIAN
from tests.transfers import STUDY, hospitals, ready


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as opened:
        yield opened


# -- an emergency and the others --------------------------------------------------------------
class Times:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self):
        return self.now


async def pauses(room):
    """Whether an ordinary retrieval has to wait now."""
    waiting = asyncio.create_task(room.give_way(urgent=False))
    for _ in range(5):
        await asyncio.sleep(0)
    if waiting.done():
        return False
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    return True


async def test_the_others_go_on_while_an_emergency_makes_no_progress():
    times = Times()
    room = Turns(1, times)
    async with room.turn(urgent=True):
        assert await pauses(room)
        times.now += SLOW_S - 0.1
        assert await pauses(room)
        times.now += 0.1
        assert not await pauses(room), "an emergency that brings nothing stops all others"
        room.brought(LEAST_BYTES)
        assert not await pauses(room)
        times.now += SLOW_S
        assert await pauses(room), "one that is fast again has the line for itself"
        room.brought(LEAST_BYTES - 1)
        times.now += SLOW_S
        assert not await pauses(room)
    assert not await pauses(room)


async def test_whoever_waits_wakes_by_itself(monkeypatch):
    monkeypatch.setattr(turns, "SLOW_S", 0.02)
    room = Turns(1)
    async with asyncio.timeout(60), room.turn(urgent=True):
        await room.give_way(urgent=False)


async def test_an_origin_that_trickles_in_an_emergency_does_not_stop_the_others(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(turns, "SLOW_S", 0.02)
    async with hospitals(tmp_path, "Alice", "Bob", "Eve") as (alice, bob, eve):
        files = await ready(alice, bob)
        theirs = f"{STUDY}.9"
        await ready(alice, eve, uid=theirs)
        never = asyncio.Event()

        opened = alice.links.open_range

        async def trickle(peer_id, *arguments):
            if peer_id == eve.peer_id:
                await never.wait()
            return await opened(peer_id, *arguments)

        alice.links.open_range = trickle
        who = replace(CLINICIAN, purpose="ETREAT")
        urgent = await alice.retrieve.retrieve(eve.peer_id, theirs, who)
        async with asyncio.timeout(60):
            while (await alice.retrieve.status(urgent.retrieval_id)).state != "fetching":  # noqa: ASYNC110 - polled as a page does
                await asyncio.sleep(0.01)
        assert (await alice.fetch(bob)).state == "complete"
        assert await alice.kept() == files
        assert (await alice.retrieve.status(urgent.retrieval_id)).state == "fetching"


# -- what nobody foresaw ----------------------------------------------------------------------
async def test_an_unforeseen_exception_ends_it_with_its_reason(pair, monkeypatch):
    alice, bob = pair
    await ready(alice, bob)

    async def broken(*_):
        raise ZeroDivisionError("Jane Mueller")

    monkeypatch.setattr(alice.ingest, "adopt", broken)
    done = await alice.fetch(bob)
    assert done.state == "failed"
    assert "ZeroDivisionError" in done.sentence
    assert "Mueller" not in done.sentence
    assert [each.retrieval_id for each in await alice.retrieve.parking.list()] == [
        done.retrieval_id
    ]
    assert alice.store.sizes() == alice.store.incoming() == {}
    monkeypatch.undo()
    assert (await alice.fetch(bob)).state == "complete"


async def test_a_full_disk_while_it_ends_is_said_and_it_is_tried_again(tmp_path, monkeypatch):
    async with hospitals(tmp_path, "Alice", "Bob", transfer={"retry_s": 1}) as (alice, bob):
        files = await ready(alice, bob)
        ledger = alice.retrieve._errands._ledger
        full = [True]
        told = asyncio.Event()

        def end(*arguments, ended=ledger._end):
            if full[0]:
                told.set()
                raise StorageFull("No room.")
            return ended(*arguments)

        monkeypatch.setattr(ledger, "_end", end)
        started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        async with asyncio.timeout(60):
            await told.wait()
            seen = await alice.retrieve.status(started.retrieval_id)
            while seen.state != "waiting":
                await asyncio.sleep(0.01)
                seen = await alice.retrieve.status(started.retrieval_id)
            assert "room on the disk" in seen.sentence
            full[0] = False
            assert (await alice.retrieve.finished(started.retrieval_id)).state == "complete"
        assert await alice.kept() == files


async def test_what_cannot_be_destroyed_stays_on_record_until_it_is(tmp_path, monkeypatch):
    """And the retrieval ends as it would have: revoked, not failed."""
    settings = {"retry_s": 60, "parallel_ranges": 1}
    async with hospitals(tmp_path, "Alice", "Bob", transfer=settings) as (alice, bob):
        await ready(alice, bob)
        stuck = asyncio.Event()

        def destroy(pack_id, destroy=alice.store.destroy):
            if stuck.is_set():
                return destroy(pack_id)
            stuck.set()
            raise NodeError("The disk does not let go.")

        async def refuse(_path, start, data):
            if start:
                raise Refusal("revoked", "Consent has ended.", "Ask the patient.")
            return data

        monkeypatch.setattr(alice.store, "destroy", destroy)
        alice.links.meddle = refuse
        started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        async with asyncio.timeout(60):
            await stuck.wait()
            seen = await alice.retrieve.status(started.retrieval_id)
            while seen.state != "waiting":
                await asyncio.sleep(0.01)
                seen = await alice.retrieve.status(started.retrieval_id)
            noted = await alice.db.read(lambda tx: transfers.bitmaps(tx, started.retrieval_id))
            assert noted.keys() == alice.store.incoming().keys() != set()
            alice.retrieve._errands.wake(bob.peer_id)
            assert (await alice.retrieve.finished(started.retrieval_id)).state == "revoked"
        assert alice.store.sizes() == alice.store.incoming() == {}
        assert not await alice.db.read(lambda tx: transfers.bitmaps(tx, started.retrieval_id))


# -- a study that is purged -------------------------------------------------------------------
async def test_nobody_signs_for_a_study_that_was_purged_meanwhile(pair, monkeypatch):
    alice, bob = pair
    await ready(alice, bob)
    await alice.fetch(bob)
    ledger = alice.retrieve._errands._ledger

    async def late(row, complete=ledger.complete):
        await alice.ingest.remove_study(STUDY, lambda tx: None)
        await complete(row)

    monkeypatch.setattr(ledger, "complete", late)
    done = await alice.fetch(bob)
    assert done.state == "failed"
    assert done.receipt is None or done.receipt.outcome == "incomplete"
    assert await alice.db.read(lambda tx: studies.get(tx, STUDY)) is None


async def test_who_reads_a_study_reads_no_further_once_it_is_purged(pair):
    _, bob = pair
    await bob.scan(count=1, size=1_500_000)
    permit = await bob.access.permit_local(STUDY, CLINICIAN, "view")
    reader = await bob.retrieve.open_instance(permit, f"{STUDY}.1.1")
    assert reader[:100]
    await bob.ingest.remove_study(STUDY, lambda tx: None)
    with pytest.raises(NotFound, match="removed"):
        reader[:100]
    with pytest.raises(NotFound, match="removed"):
        reader[900_000:900_100]
    reader.close()


# -- a double click ---------------------------------------------------------------------------
async def test_a_second_click_on_try_again_finds_what_the_first_has_begun(pair):
    alice, bob = pair
    failed = await alice.fetch(bob, "1.2.3.4")
    assert failed.state == "refused"
    first, second = await asyncio.gather(
        *(alice.retrieve.retry(failed.retrieval_id, CLINICIAN) for _ in range(2))
    )
    third = await alice.retrieve.retry(failed.retrieval_id, CLINICIAN)
    assert first.retrieval_id == second.retrieval_id == third.retrieval_id != failed.retrieval_id
    with pytest.raises(NotFound):
        await alice.retrieve.retry(bytes(16), CLINICIAN)
