"""Retrieval between two facilities with real databases and stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from peer.errors import NotFound
from peer.index import grants, packs, studies, transfers
from peer.link import NotConnected
from protocol.errors import Refusal, WrongContent
from protocol.manifest import CHUNK_BYTES
from tests.facilities import CLINICIAN, OFFICER, everyone_shares
from tests.transfers import STUDY, files_below, hospitals, ready

OTHER = f"{STUDY}.9"


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as opened:
        yield opened


async def test_a_study_arrives_byte_for_byte_with_a_receipt_on_both_sides(pair):
    alice, bob = pair
    files = await ready(alice, bob)
    done = await alice.fetch(bob)

    assert done.sentence == "3/3 instances verified"
    assert done.state == "complete"
    assert await alice.kept() == files
    study = await alice.db.read(lambda tx: studies.get(tx, STUDY))
    assert study.origin == bob.peer_id
    (receipt,) = await alice.actions("receipt")
    assert receipt["outcome"] == "success"
    (theirs,) = await bob.actions("receipt")
    assert theirs["detail"]["says"] == "3/3 instances verified"
    (grant,) = await bob.db.read(lambda tx: grants.grants_of(tx, STUDY))
    assert grant.receipt == done.row.receipt
    assert done.to_json()["receipt"]["delivered_at"] is not None
    for facility in pair:
        assert (await facility.audit.verify()).ok


async def test_what_is_stored_is_the_origins_ciphertext_unchanged(pair):
    alice, bob = pair
    await ready(alice, bob)
    await alice.fetch(bob)
    theirs, ours = bob.store.sizes(), alice.store.sizes()
    assert ours == theirs
    for pack_id, size in theirs.items():
        assert alice.store.read_range(pack_id, 0, size) == bob.store.read_range(pack_id, 0, size)
    wrapped = await alice.db.read(lambda tx: packs.wrapped_study_key(tx, STUDY))
    assert wrapped != await bob.db.read(lambda tx: packs.wrapped_study_key(tx, STUDY))


async def test_a_study_that_is_held_costs_one_round_trip(pair):
    alice, bob = pair
    await ready(alice, bob)
    await alice.fetch(bob)
    fetched, asked = alice.links.bytes, len(alice.links.requests)
    again = await alice.fetch(bob)
    assert again.sentence == "3/3 instances verified"
    assert alice.links.bytes == fetched, "bytes were fetched again"
    assert alice.links.requests[asked:] == ["GrantRequest", "ReceiptMessage"]


@pytest.mark.parametrize("cut_after", [1, 2, 4])
async def test_a_retrieval_goes_on_after_a_restart_of_either_side(tmp_path, cut_after):
    """Interrupted after a number of ranges, both nodes stopped: only what is missing is fetched."""
    async with hospitals(tmp_path, "Alice", "Bob", transfer={"parallel_ranges": 2}) as pair:
        alice, bob = pair
        files = await ready(alice, bob, count=6, size=1_500_000)

    async def break_off(path, start, data):
        if len(alice.links.ranges) > cut_after:
            raise NotConnected("the line broke")
        return data

    alice.links.meddle = break_off
    async with alice.open(tmp_path / "Alice"), bob.open(tmp_path / "Bob"):
        started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        await until(alice, started, "waiting")
        assert not await alice.db.read(lambda tx: studies.get(tx, STUDY)), "shown incomplete"
    assert alice.links.bytes > 0
    alice.links.meddle = None
    async with alice.open(tmp_path / "Alice"), bob.open(tmp_path / "Bob"):
        alice.links.connect(bob)
        await until(alice, started, "complete")
        assert await alice.kept() == files
        # Of each range that was cut, the chunk of which a part had come is asked for again.
        twice = alice.links.bytes - sum(bob.store.sizes().values())
        assert 0 <= twice < 2 * CHUNK_BYTES, "more was fetched twice than the chunks that were cut"
        assert (await bob.actions("receipt"))[-1]["detail"]["outcome"] == "verified"


async def test_what_nobody_receives_any_more_is_destroyed_at_the_start(tmp_path):
    """Stopped between the record that nothing arrives any more and the end of its files."""
    async with hospitals(tmp_path, "Alice", "Bob") as (alice, bob):
        await ready(alice, bob, count=6, size=1_500_000)

        async def break_off(path, start, data):
            raise NotConnected("the line broke")

        alice.links.meddle = break_off
        started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        await until(alice, started, "waiting")
    async with alice.open(tmp_path / "Alice"):
        assert alice.store.incoming(), "what still arrives was destroyed"
        await alice.db.write(lambda tx: transfers.forget_packs(tx, started.retrieval_id))
        assert alice.store.room.held_bytes > 0
    async with alice.open(tmp_path / "Alice"):
        assert alice.store.incoming() == {}
        assert alice.store.room.held_bytes == 0


async def until(facility, retrieval, state):
    async with asyncio.timeout(60):
        while (await facility.retrieve.status(retrieval.retrieval_id)).state != state:  # noqa: ASYNC110 - polled as a page polls it
            await asyncio.sleep(0.02)


async def test_a_flipped_byte_costs_one_chunk(pair):
    alice, bob = pair
    files = await ready(alice, bob, count=2, size=1_500_000)
    flipped = []

    async def flip(path, start, data):
        if flipped or len(data) <= CHUNK_BYTES:
            return data
        flipped.append(start)
        return data[:5] + bytes([data[5] ^ 1]) + data[6:]

    alice.links.meddle = flip
    done = await alice.fetch(bob)
    assert done.state == "complete"
    assert await alice.kept() == files
    assert flipped
    extra = alice.links.bytes - sum(bob.store.sizes().values())
    assert extra == CHUNK_BYTES


async def test_a_chunk_that_stays_wrong_ends_in_a_receipt_that_names_what_is_missing(pair):
    alice, bob = pair
    await ready(alice, bob, count=3, size=100_000)
    spoilt = []

    async def spoil(path, start, data):
        if not spoilt:
            spoilt.append(start)
        return bytes(len(data)) if start <= spoilt[0] < start + len(data) else data

    alice.links.meddle = spoil
    done = await alice.fetch(bob)
    assert done.state == "failed"
    receipt = done.receipt
    assert receipt.outcome == "incomplete"
    assert receipt.verified + len(receipt.missing) == receipt.instances == 3
    assert "instances verified" in done.sentence
    assert alice.store.sizes() == alice.store.incoming() == {}
    (theirs,) = await bob.actions("receipt")
    assert "missing" in theirs["detail"]["says"]


async def test_a_grant_that_expires_under_way_is_renewed(tmp_path):
    one_by_one = {"parallel_ranges": 1}
    async with hospitals(tmp_path, "Alice", "Bob", transfer=one_by_one) as (alice, bob):
        files = await ready(alice, bob, count=4, size=1_500_000)

        async def take_long(path, start, data):
            alice.clock.advance(600)
            return data

        alice.links.meddle = take_long
        done = await alice.fetch(bob)
        assert done.state == "complete"
        assert await alice.kept() == files
        assert len(await bob.db.read(lambda tx: grants.grants_of(tx, STUDY))) > 1


async def test_a_study_that_has_grown_is_fetched_as_a_difference(pair):
    alice, bob = pair
    files = await ready(alice, bob)
    await alice.fetch(bob)
    first = alice.links.bytes
    files |= await bob.scan(first=4, count=2)
    await everyone_shares(alice, bob)
    done = await alice.fetch(bob)
    assert done.sentence == "5/5 instances verified"
    assert done.row.manifest_version == 2
    assert await alice.kept() == files
    assert alice.links.bytes == sum(bob.store.sizes().values())
    assert alice.links.bytes > first


async def test_refused_while_it_grows_what_was_held_stays_and_nobody_signs_otherwise(pair):
    alice, bob = pair
    files = await ready(alice, bob)
    await alice.fetch(bob)
    grown = await bob.scan(first=4, count=2, size=1_500_000)
    await everyone_shares(alice, bob)
    (recorded,) = await bob.consents.list()
    held = alice.store.sizes()

    async def revoke(path, start, data):
        alice.links.meddle = None
        await bob.consents.revoke(recorded.directive.directive_id, "changed her mind", OFFICER)
        return data

    alice.links.meddle = revoke
    done = await alice.fetch(bob)
    assert done.state == "revoked"
    assert done.receipt.outcome == "incomplete"
    assert (done.receipt.verified, set(done.receipt.missing)) == (3, grown.keys())
    assert "held as it was" in done.sentence
    assert (alice.store.sizes(), alice.store.incoming()) == (held, {})
    assert await alice.kept() == files
    *_, theirs = await bob.actions("receipt")
    assert theirs["detail"]["outcome"] == "incomplete"


async def test_what_is_refused_before_its_grant_is_noted_is_not_counted(pair, monkeypatch):
    alice, bob = pair
    await ready(alice, bob)

    def not_ours(*_):
        raise WrongContent("a manifest names packs that belong to another study")

    monkeypatch.setattr("peer.retrieve.recipient._held", not_ours)
    done = await alice.fetch(bob)
    assert done.state == "failed"
    assert done.sentence.startswith("The study was not kept: ")
    assert done.receipt is None


async def test_a_study_that_fails_to_grow_is_said_to_be_held(pair):
    alice, bob = pair
    files = await ready(alice, bob)
    await alice.fetch(bob)
    await bob.scan(first=4, count=1)
    await everyone_shares(alice, bob)

    async def spoil(path, start, data):
        return bytes(len(data))

    alice.links.meddle = spoil
    done = await alice.fetch(bob)
    assert done.state == "failed"
    assert done.sentence.startswith("3/4 instances verified. The study is held as it was: ")
    assert await alice.kept() == files


async def test_a_granted_version_stays_servable_while_the_study_grows(pair):
    alice, bob = pair
    await ready(alice, bob, count=4, size=1_500_000)
    grown = []

    async def grow(path, start, data):
        if not grown:
            grown.append(start)
            await bob.scan(first=5, count=1)
        return data

    alice.links.meddle = grow
    done = await alice.fetch(bob)
    assert done.sentence == "4/4 instances verified"
    assert done.row.manifest_version == 1


async def test_revoked_in_mid_transfer_nothing_stays_and_the_receipt_says_so(pair, tmp_path):
    alice, bob = pair
    await bob.scan(count=6, size=1_500_000)
    directive = await bob.consent()
    await everyone_shares(alice, bob)
    await alice.finds()
    served, one_by_one = [], asyncio.Lock()

    async def revoke(path, start, data):
        async with one_by_one:
            served.append(data)
            if len(served) == 2:
                await bob.consents.revoke(directive.directive_id, "changed her mind", OFFICER)
        return data

    alice.links.meddle = revoke
    done = await alice.fetch(bob)
    assert done.state == "revoked"
    assert done.row.code == "revoked"
    assert done.receipt.outcome == "destroyed"
    assert len(served) < 9, "ranges went on after the revocation"
    assert alice.store.sizes() == alice.store.incoming() == {}
    assert not any(served[0][:64] in data for data in files_below(tmp_path / "Alice").values())
    (theirs,) = await bob.actions("receipt")
    assert theirs["detail"]["outcome"] == "destroyed"
    assert [each["outcome"] for each in await bob.actions("release")] == ["refused"]


async def test_no_grant_without_a_digest_that_was_opened(pair):
    alice, bob = pair
    await bob.scan()
    done = await alice.fetch(bob)
    assert done.state == "refused"
    assert done.row.code == "not-published"
    assert done.receipt is None


async def test_only_a_clinician_is_granted_anything(pair):
    alice, bob = pair
    await ready(alice, bob)
    done = await alice.fetch(bob, actor=OFFICER)
    assert (done.state, done.row.code) == ("refused", "role")
    (refused,) = await bob.actions("grant-refused")
    assert refused["detail"]["code"] == "role"


async def test_a_purpose_outside_the_consent_is_refused_at_the_origin(pair):
    alice, bob = pair
    await ready(alice, bob)
    research = CLINICIAN.__class__("dr.grey", "person", frozenset({"clinician"}), "HRESCH")
    done = await alice.fetch(bob, actor=research)
    assert (done.state, done.row.code) == ("refused", "purpose")
    assert done.row.remedy


async def test_a_study_held_back_after_publication_is_refused(pair):
    alice, bob = pair
    await ready(alice, bob)
    await bob.db.write(lambda tx: studies.hold(tx, STUDY, held_back=True, reason="sensitive"))
    done = await alice.fetch(bob)
    assert (done.state, done.row.code) == ("refused", "held-back")


async def test_a_receipt_reaches_an_origin_that_was_away(pair):
    alice, bob = pair
    await ready(alice, bob)

    request = alice.links.request

    async def lose_receipts(peer_id, message, timeout_s):
        if type(message).__name__ == "ReceiptMessage":
            raise NotConnected("no link")
        return await request(peer_id, message, timeout_s)

    alice.links.request = lose_receipts
    done = await alice.fetch(bob)
    assert done.state == "complete"
    assert done.row.receipt_delivered_at is None
    alice.links.request = request
    alice.links.connect(bob)
    async with asyncio.timeout(60):
        while not await bob.actions("receipt"):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_a_retrieval_that_does_not_exist_is_not_found(pair):
    alice, _ = pair
    with pytest.raises(NotFound):
        await alice.retrieve.status(bytes(16))
    with pytest.raises(Refusal):
        await alice.retrieve.retrieve(bytes(32), STUDY, CLINICIAN)


async def test_reading_needs_a_permit_for_that_study(pair):
    _, bob = pair
    await bob.scan()
    await bob.scan("1.2.3.4", count=1)
    permit = await bob.access.permit_local("1.2.3.4", CLINICIAN, "view")
    with pytest.raises(Refusal, match="another study"):
        await bob.retrieve.read_instance(permit, f"{STUDY}.1.1")
    with pytest.raises(NotFound):
        await bob.retrieve.read_instance(permit, "1.2.3")


async def test_a_manifest_that_is_too_long_for_a_message_comes_in_ranges(pair, monkeypatch):
    alice, bob = pair
    monkeypatch.setattr("peer.retrieve.origin.MANIFEST_INLINE_BYTES", 0)
    monkeypatch.setattr("peer.retrieve.leave.PIECE_BYTES", 100)
    files = await ready(alice, bob)
    done = await alice.fetch(bob)
    assert done.state == "complete"
    assert await alice.kept() == files


async def test_a_digest_that_is_hidden_meanwhile_does_not_end_a_retrieval(pair):
    alice, bob = pair
    files = await ready(alice, bob, count=6, size=1_500_000)
    prior, asked = alice.retrieve._errands._prior, []

    async def hidden_from_now_on(*arguments):
        asked.append(arguments)
        return await prior(*arguments) if len(asked) == 1 else None

    async def break_once(path, start, data):
        if len(asked) == 1:
            raise NotConnected("the line broke")
        return data

    alice.retrieve._errands._prior, alice.links.meddle = hidden_from_now_on, break_once
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
    await until(alice, started, "waiting")
    alice.links.connect(bob)
    await until(alice, started, "complete")
    assert len(asked) == 2
    assert await alice.kept() == files


async def test_a_digest_withdrawn_meanwhile_ends_it_and_nothing_stays(pair):
    alice, bob = pair
    await bob.scan(count=6, size=1_500_000)
    directive = await bob.consent()
    await everyone_shares(alice, bob)
    await alice.finds()

    async def break_off(path, start, data):
        if len(alice.links.ranges) > 2:
            raise NotConnected("the line broke")
        return data

    alice.links.meddle = break_off
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
    await until(alice, started, "waiting")
    assert alice.store.incoming()
    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    await everyone_shares(alice, bob)
    alice.links.meddle = None
    alice.links.connect(bob)
    await until(alice, started, "revoked")
    done = await alice.retrieve.finished(started.retrieval_id)
    assert done.receipt.outcome == "destroyed"
    assert alice.store.sizes() == alice.store.incoming() == {}


async def test_a_grant_outlives_a_restart_of_its_origin(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as (alice, bob):
        await ready(alice, bob, count=1)
        await alice.fetch(bob)
        (grant,) = await bob.db.read(lambda tx: grants.grants_of(tx, STUDY))
        (pack_id,) = bob.store.sizes()
        before = bob.store.read_range(pack_id, 0, 100)
    async with bob.open(tmp_path / "Bob"):
        read = bob.retrieve.origin.read_range
        assert await read(bob.partners[0], grant.grant_id, pack_id, 0, 100) == before


async def test_a_retrieval_can_be_followed_to_its_end(pair):
    alice, bob = pair
    await ready(alice, bob)
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
    states = [each async for each in alice.retrieve.follow(started.retrieval_id)]
    assert states[-1].sentence == "3/3 instances verified"
    assert states == list(dict.fromkeys(states)), "the same was told twice"
    assert [each async for each in alice.retrieve.follow(started.retrieval_id)] == states[-1:]
    with pytest.raises(NotFound):
        await anext(alice.retrieve.follow(bytes(16)))


async def test_each_instance_is_decrypted_once_while_others_arrive(pair):
    alice, bob = pair
    files = await ready(alice, bob, count=6, size=1_500_000)
    opened, looked_at = alice.store.open, []

    def noted(pack_id, key, chunks, *, arriving=False):
        looked_at.append((chunks[0].number, arriving))
        return opened(pack_id, key, chunks, arriving=arriving)

    alice.store.open = noted
    done = await alice.fetch(bob)
    alice.store.open = opened
    assert done.state == "complete"
    assert all(arriving for _, arriving in looked_at)
    assert len(set(looked_at)) == len(looked_at) == 6
    assert await alice.kept() == files


async def test_what_had_come_of_a_range_that_broke_off_is_not_asked_for_again(pair):
    alice, bob = pair
    files = await ready(alice, bob, count=4, size=1_500_000)
    broken = []

    async def break_once(path, start, data):
        if len(alice.links.ranges) == 3 and not broken:
            broken.append(start)
            raise NotConnected("the line broke")
        return data

    alice.links.meddle = break_once
    done = await alice.fetch(bob)
    assert done.state == "complete"
    assert await alice.kept() == files
    assert broken
    assert alice.links.bytes == sum(bob.store.sizes().values())


@pytest.mark.parametrize("purpose", ["ETREAT", "BTG"])
async def test_an_emergency_overtakes_what_is_under_way(tmp_path, purpose):
    one = {"at_once": 1, "parallel_ranges": 1}
    async with hospitals(tmp_path, "Alice", "Bob", transfer=one) as (alice, bob):
        first = await ready(alice, bob, count=6, size=1_500_000)
        urgent = await ready(alice, bob, uid=OTHER, count=2, size=1_500_000)
        order, begun = [], asyncio.Event()

        async def note(path, start, data):
            order.append(path.rpartition("/")[2])
            if len(order) == 2:
                begun.set()
                await asked.wait()
            return data

        asked = asyncio.Event()
        alice.links.meddle = note
        slow = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        await begun.wait()
        who = replace(CLINICIAN, purpose=purpose)
        fast = await alice.retrieve.retrieve(
            bob.peer_id, OTHER, who, "unconscious" * (purpose == "BTG")
        )
        asked.set()
        async with asyncio.timeout(60):
            assert (await alice.retrieve.finished(fast.retrieval_id)).state == "complete"
            assert (await alice.retrieve.finished(slow.retrieval_id)).state == "complete"
        assert await alice.kept() == first
        assert await alice.kept(OTHER) == urgent
        of_slow = order[0]
        last_fast = max(at for at, pack in enumerate(order) if pack != of_slow)
        assert order[last_fast + 1 :].count(of_slow) > order[:last_fast].count(of_slow)


async def test_a_retrieval_that_becomes_an_emergency_waits_no_longer(tmp_path):
    one = {"at_once": 1, "parallel_ranges": 1}
    async with hospitals(tmp_path, "Alice", "Bob", transfer=one) as (alice, bob):
        await ready(alice, bob, count=2, size=1_500_000)
        await ready(alice, bob, uid=OTHER, count=2, size=1_500_000)
        held = asyncio.Event()

        async def hold(path, start, data):
            if not alice.retrieve._errands._turns._emergencies:
                await held.wait()
            return data

        alice.links.meddle = hold
        slow = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
        waiting = await alice.retrieve.retrieve(bob.peer_id, OTHER, CLINICIAN)
        who = replace(CLINICIAN, purpose="ETREAT")
        same = await alice.retrieve.retrieve(bob.peer_id, OTHER, who)
        assert same.retrieval_id == waiting.retrieval_id
        async with asyncio.timeout(60):
            assert (await alice.retrieve.finished(same.retrieval_id)).state == "complete"
            held.set()
            assert (await alice.retrieve.finished(slow.retrieval_id)).state == "complete"


async def test_what_has_all_arrived_is_taken_in_before_it_becomes_an_emergency(pair, monkeypatch):
    alice, bob = pair
    files = await ready(alice, bob)
    adopt, begun, go_on = alice.ingest.adopt, asyncio.Event(), asyncio.Event()

    async def slowly(*arguments):
        begun.set()
        await go_on.wait()
        return await adopt(*arguments)

    monkeypatch.setattr(alice.ingest, "adopt", slowly)
    started = await alice.retrieve.retrieve(bob.peer_id, STUDY, CLINICIAN)
    async with asyncio.timeout(60):
        await begun.wait()
        who = replace(CLINICIAN, purpose="ETREAT")
        same = await alice.retrieve.retrieve(bob.peer_id, STUDY, who)
        assert same.retrieval_id == started.retrieval_id
        go_on.set()
        done = await alice.retrieve.finished(same.retrieval_id)
    assert (done.state, done.sentence) == ("complete", "3/3 instances verified")
    assert await alice.kept() == files


async def test_what_did_not_come_is_parked_until_it_is_tried_again_or_taken_off(pair):
    alice, bob = pair
    await ready(alice, bob)
    parking = alice.retrieve.parking
    await bob.db.write(lambda tx: studies.hold(tx, STUDY, held_back=True, reason="sensitive"))
    first = await alice.fetch(bob)
    (parked,) = await parking.list()
    assert (parked.retrieval_id, parked.row.code) == (first.retrieval_id, "held-back")

    async def again(of):
        started = await alice.retrieve.retry(of.retrieval_id, CLINICIAN)
        return await alice.retrieve.finished(started.retrieval_id)

    second = await again(first)
    assert [each.retrieval_id for each in await parking.list()] == [second.retrieval_id]
    await bob.db.write(lambda tx: studies.hold(tx, STUDY, held_back=False, reason=""))
    third = await again(second)
    assert third.state == "complete"
    assert await parking.list() == []
    assert [each.retrieval_id for each in await alice.retrieve.list()] == [third.retrieval_id]
    for wrong in (first.retrieval_id, third.retrieval_id, bytes(16)):
        with pytest.raises(NotFound):
            await parking.take_off(wrong, CLINICIAN)
    twice = await alice.retrieve.retry(first.retrieval_id, CLINICIAN)
    assert twice.retrieval_id == third.retrieval_id, "what came of it was begun once more"
    with pytest.raises(NotFound):
        await alice.retrieve.retry(third.retrieval_id, CLINICIAN)
    assert [each.retrieval_id for each in await alice.retrieve.list()] == [third.retrieval_id]


async def test_the_receipt_of_what_was_taken_off_the_list_stays(pair):
    alice, bob = pair
    await ready(alice, bob, count=3, size=100_000)

    async def spoil(path, start, data):
        return bytes(len(data))

    alice.links.meddle = spoil
    failed = await alice.fetch(bob)
    assert failed.state == "failed"
    await alice.retrieve.parking.take_off(failed.retrieval_id, CLINICIAN)
    assert await alice.retrieve.parking.list() == []
    (receipt,) = await alice.retrieve.receipts(STUDY)
    assert receipt["missing"]
    assert (await alice.actions("retrieve"))[-1]["detail"]["removed"] == "from the list"
