"""Expected patients are searched for ahead: within limits, in a name, and after a restart too."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from peer.cli.output import CommandError
from peer.cli.prefetch import read
from peer.config import Search as SearchSettings
from peer.search import Prefetch, Question, Wanted
from peer.search.prefetch import RETRY_S
from protocol.errors import Refusal
from tests.facilities import ASK_JANE, CLINICIAN, everyone_shares, facilities

STUDY = "1.2.3.1"
SOMEONE = Question("Berg^Karl", "19500101")
ASKER = replace(CLINICIAN, purpose="HOPERAT")
DEADLINE_S = 30


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob", "Carol") as opened:
        _, bob, _ = opened
        await bob.acquire(STUDY)
        await bob.consent()
        await everyone_shares(*opened)
        yield opened


def prefetch_of(facility, **settings):
    return Prefetch(facility.db, facility.clock, facility.search, SearchSettings(**settings))


async def records(facility, action):
    found = [json.loads(each) async for each in facility.audit.export(None, None)]
    return [each for each in found if each["action"] == action]


async def states(prefetch):
    return {each.question.name: each.to_json() for each in await prefetch.list(10)}


async def test_an_expected_patient_is_found_although_their_facility_went_offline_since(hospitals):
    alice, bob, _ = hospitals
    prefetch = prefetch_of(alice)
    assert await prefetch.add([ASK_JANE], CLINICIAN) == 1
    assert await prefetch.step()
    assert not await prefetch.step()
    done = (await states(prefetch))[ASK_JANE.name]
    assert (done["state"], done["studies"]) == ("done", 1)
    assert done["sentence"] == "Searched 3 of 3 facilities."
    alice.links.offline = {bob.peer_id}
    assert await alice.finds() == {("Bob", STUDY)}


async def test_person_and_purpose_are_on_record_here_and_there(hospitals):
    alice, bob, _ = hospitals
    prefetch = prefetch_of(alice)
    await prefetch.add([ASK_JANE], ASKER)
    await prefetch.step()
    (listed,) = await records(alice, "prefetch")
    assert (listed["actor"]["name"], listed["detail"]["patients"]) == (ASKER.name, 1)
    (searched,) = await records(alice, "search")
    assert searched["actor"]["name"] == ASKER.name
    assert searched["actor"]["purpose"] == "HOPERAT"
    (there,) = await records(bob, "evaluate")
    assert there["actor"]["purpose"] == "HOPERAT"


def test_the_newest_priors_that_fit_are_chosen_once_each():
    def study(uid, date, facility=1, **more):
        told = {"local": False, "is_sure": True, "held_here": False, "body_parts": ("CHEST",)}
        told |= {"study_time": "", "modalities": ("CT", "SR")} | more
        return SimpleNamespace(study_instance_uid=uid, study_date=date, facility=facility, **told)

    results = [
        study("old", "20200101"),
        study("mr", "20260105", modalities=("MR",)),
        study("ours", "20260104", local=True),
        study("doubtful", "20260103", is_sure=False),
        study("elsewhere", "20260102", body_parts=("KNEE",)),
        study("first", "20260101"),
        study("first", "20260101", facility=2),
        study("held", "20251231", held_here=True),
        study("second", "20251230"),
        study("third", "20251229"),
    ]
    wanted = Wanted(("ct",), ("chest",), "20250101", most=3)
    assert Wanted.read(wanted.written()) == wanted
    assert [each.study_instance_uid for each in wanted.chosen(results, ())] == ["first", "second"]
    after = wanted.chosen(results, ("first", "second"))
    assert after == [], "the one that is held here counts"
    assert Wanted.read("").chosen(results, ()) == []


async def test_the_list_survives_a_restart(hospitals):
    alice, *_ = hospitals
    before = prefetch_of(alice)
    await before.add([ASK_JANE, SOMEONE], CLINICIAN)
    await before.step()
    after = prefetch_of(alice)
    assert await after.step()
    assert not await after.step()
    assert {each["state"] for each in (await states(after)).values()} == {"done"}
    assert len(await records(alice, "search")) == 2


async def test_only_the_facility_that_was_missing_is_tried_again_and_later(hospitals):
    alice, bob, carol = hospitals
    prefetch = prefetch_of(alice)
    alice.links.offline = {bob.peer_id}
    await prefetch.add([ASK_JANE], CLINICIAN)
    await prefetch.step()
    assert (await states(prefetch))[ASK_JANE.name]["state"] == "waiting"
    assert "Bob (offline" in (await states(prefetch))[ASK_JANE.name]["sentence"]
    assert not await prefetch.step()
    alice.links.offline = set()
    alice.clock.advance(RETRY_S)
    await everyone_shares(*hospitals)
    assert await prefetch.step()
    assert (await states(prefetch))[ASK_JANE.name]["state"] == "done"
    assert (await states(prefetch))[ASK_JANE.name]["studies"] == 1
    assert len(await records(carol, "evaluate")) == 1


async def test_half_of_the_hour_is_left_for_what_cannot_wait(hospitals):
    alice, *_ = hospitals
    alice.search._pace._most = 4
    prefetch = prefetch_of(alice)
    await prefetch.add([ASK_JANE, SOMEONE, replace(SOMEONE, birth_date="19510101")], CLINICIAN)
    assert [await prefetch.step() for _ in range(3)] == [True, True, False]
    assert not (await alice.find()).coverage.not_searched
    # Someone else's list goes on meanwhile.
    await prefetch.add([ASK_JANE], replace(CLINICIAN, name="Bea"))
    assert await prefetch.step()
    alice.clock.advance(3601)
    await everyone_shares(*hospitals)
    assert await prefetch.step()
    assert not await prefetch.step()


async def test_who_is_expected_for_too_long_is_forgotten(hospitals):
    alice, *_ = hospitals
    prefetch = prefetch_of(alice, prefetch_keep_s=3600)
    await prefetch.add([ASK_JANE], CLINICIAN)
    alice.clock.advance(3600)
    assert not await prefetch.step()
    assert await prefetch.list(10) == []
    assert await records(alice, "search") == []


async def test_nobody_is_listed_twice_and_nobody_who_cannot_be_searched(hospitals):
    alice, *_ = hospitals
    prefetch = prefetch_of(alice)
    assert await prefetch.add([ASK_JANE, ASK_JANE], CLINICIAN) == 1
    assert await prefetch.add([ASK_JANE], CLINICIAN) == 1
    with pytest.raises(Refusal) as refused:
        await prefetch.add([SOMEONE, Question("Nobody", "")], CLINICIAN)
    assert refused.value.code == "too-little"
    assert refused.value.reason.startswith("Patient 2 of the list: ")
    assert await prefetch.add([], CLINICIAN) == 1
    (listed,) = await prefetch.list(10)
    await prefetch.drop(listed.row.expected, CLINICIAN)
    assert await prefetch.add([], CLINICIAN) == 0


async def test_it_works_by_itself_at_the_pace_that_is_set(hospitals):
    alice, *_ = hospitals
    prefetch = prefetch_of(alice, prefetch_per_minute=600)
    task = asyncio.create_task(prefetch.run())
    await prefetch.add([ASK_JANE, SOMEONE], CLINICIAN)
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(600):
            if {each["state"] for each in (await states(prefetch)).values()} == {"done"}:
                break
            await asyncio.sleep(0.05)
    task.cancel()
    assert {each["state"] for each in (await states(prefetch)).values()} == {"done"}


def test_a_file_lists_patients_by_name_and_date_or_identifier(tmp_path):
    file = tmp_path / "tomorrow.csv"
    file.write_text(
        "name,birth_date,identifier,issuer\n"
        '"Mueller, Jane",1980-05-17,,\n'
        ",,MRN-00017,urn:oid:2.999.1\n",
        encoding="utf-8",
    )
    assert read(file) == [
        {"name": "Mueller, Jane", "birth_date": "19800517", "sex": "", "identifiers": []},
        {
            "name": "",
            "birth_date": "",
            "sex": "",
            "identifiers": [{"issuer": "urn:oid:2.999.1", "value": "MRN-00017"}],
        },
    ]
    file.write_text("surname\nMueller\n", encoding="utf-8")
    with pytest.raises(CommandError) as error:
        read(file)
    assert error.value.code == "wrong-columns"
