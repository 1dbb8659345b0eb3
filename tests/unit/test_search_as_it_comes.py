"""What a search tells before it is done, what is seen of it, what is left of an abandoned one."""

from __future__ import annotations

import asyncio
from dataclasses import fields

import pytest

from peer.search import Filters, Question
from protocol.errors import Refusal
from protocol.messages import Evaluate
from tests.facilities import ASK_JANE, CLINICIAN, everyone_shares, facilities

STUDY = "1.2.3.1"
DEADLINE_S = 30


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob", "Carol") as opened_ones:
        alice, bob, carol = opened_ones
        await alice.acquire("1.2.3.0", date="20240301")
        for place, each in enumerate((bob, carol), 1):
            await each.acquire(
                f"1.2.3.{place}", date=f"2025010{place}", modality=("CT", "MR")[place - 1]
            )
            await each.consent()
        await everyone_shares(*opened_ones)
        yield opened_ones


class Slow:
    """A partner who answers when told to."""

    def __init__(self, facility):
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.answers = facility.links.handlers[Evaluate]
        facility.links.handlers[Evaluate] = self

    async def __call__(self, message, partner):
        self.asked.set()
        await self.may_answer.wait()
        return await self.answers(message, partner)


def searching(alice, heard):
    async def hear(one):
        await heard.put(one)

    return asyncio.create_task(alice.search.search(ASK_JANE, CLINICIAN, hear=hear))


async def records(facility):
    return [each async for each in facility.audit.export(None, None) if '"action":"search"' in each]


async def test_each_facility_is_heard_while_slower_ones_are_still_asked(hospitals):
    alice, _, carol = hospitals
    slow, heard = Slow(carol), asyncio.Queue()
    task = searching(alice, heard)
    async with asyncio.timeout(DEADLINE_S):
        own, quick = await heard.get(), await heard.get()
        assert (own.facility.name, [r.study_instance_uid for r in own.results]) == (
            "Alice",
            ["1.2.3.0"],
        )
        assert (own.waiting, quick.waiting) == (2, 1)
        assert (quick.facility.name, [r.study_instance_uid for r in quick.results]) == (
            "Bob",
            [STUDY],
        )
        assert not task.done()
        assert quick.to_json()["sentence"] == "Bob: 1 study found."
        slow.may_answer.set()
        last = await heard.get()
        assert (last.facility.name, last.waiting) == ("Carol", 0)
        answer = await task
    dates = [each.study_date for each in answer.results]
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == 3
    assert len(answer.coverage.searched) == 3


async def test_a_facility_that_was_not_searched_is_heard_with_its_reason(hospitals):
    alice, bob, _ = hospitals
    alice.links.offline = {bob.peer_id}
    heard = asyncio.Queue()
    await searching(alice, heard)
    said = {one.facility.name: one.to_json() for one in (heard.get_nowait() for _ in range(3))}
    assert said["Bob"]["searched"] is False
    assert said["Bob"]["not_searched"]["code"] == "offline"
    assert said["Bob"]["sentence"].startswith("Bob: not searched (offline since ")
    assert said["Carol"]["searched"] is True


async def test_an_abandoned_search_asks_no_further_and_is_on_record(hospitals):
    alice, _, carol = hospitals
    slow, heard = Slow(carol), asyncio.Queue()
    task = searching(alice, heard)
    async with asyncio.timeout(DEADLINE_S):
        await slow.asked.wait()
        for _ in range(2):
            await heard.get()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not [each for each in asyncio.all_tasks() if "Asking._ask" in repr(each.get_coro())]
    (record,) = await records(alice)
    assert '"failed"' in record
    assert '"abandoned":1' in record
    assert ASK_JANE.name in record


async def test_a_refused_search_is_on_record_with_its_reason(hospitals):
    alice, *_ = hospitals
    with pytest.raises(Refusal):
        await alice.find(Question("Mueller^Jane", ""))
    (record,) = await records(alice)
    assert '"refused"' in record
    assert '"too-little"' in record
    assert alice.links.sent == []


@pytest.mark.parametrize(
    ("filters", "seen"),
    [
        (Filters(), {"1.2.3.0", "1.2.3.1", "1.2.3.2"}),
        (Filters(modality="mr"), {"1.2.3.2"}),
        (Filters(modality="US"), set()),
        (Filters(date_from="20240302"), {"1.2.3.1", "1.2.3.2"}),
        (Filters(date_to="20250101"), {"1.2.3.0", "1.2.3.1"}),
        (Filters(date_from="20250101", date_to="20250101"), {"1.2.3.1"}),
        (Filters(facility="BOB"), {"1.2.3.1"}),
        (Filters(facility="Bob", modality="MR"), set()),
        (Filters(body_part="SPLEEN"), set()),
        (Filters(description="no such words"), set()),
        (Filters(accession_number="none"), set()),
    ],
    ids=lambda value: str(value) if isinstance(value, Filters) else "",
)
async def test_filters_say_which_studies_are_seen_and_count_the_others(hospitals, filters, seen):
    found = await hospitals[0].find()
    shown = found.only(filters.admit)
    assert {each.study_instance_uid for each in shown.results} == seen
    assert shown.left_out == 3 - len(seen)
    assert shown.coverage == found.coverage


async def test_every_filter_admits_the_study_it_describes(hospitals):
    first = (await hospitals[0].find()).results[0]
    itself = Filters(
        modality=first.modalities[0],
        body_part=first.body_parts[0] if first.body_parts else "",
        date_from=first.study_date,
        date_to=first.study_date,
        facility=first.facility.peer_id.hex(),
        description=" ".join(reversed(first.description.upper().split())),
        accession_number=first.accession_number.lower(),
    )
    assert itself.admit(first)
    assert not Filters()
    assert {each.name for each in fields(Filters)} == set(Filters.__slots__)
