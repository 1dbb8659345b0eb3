"""Who turned out to be one person is merged: the right ones, of the sender's own, or nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.hl7.admissions import MERGES
from tests.facilities import ISSUER, JANE, OFFICER, facilities
from tests.unit.test_hl7 import OLSEN, OTHERS, OWN, PID, message, receiving, sender


@pytest.fixture
async def alice(tmp_path):
    async with facilities(tmp_path, "Alice") as (opened,):
        await opened.acquire(OWN, JANE)
        yield opened


@pytest.fixture
async def receiver(alice):
    async with receiving(alice) as opened:
        yield opened


async def test_a_merge_moves_the_studies_and_can_be_undone(alice, receiver):
    await alice.acquire(OTHERS, OLSEN)
    text = message("A40", PID, "MRG|MRN-00099^^^NGH")
    assert (await receiver.tell(text))[0] == "AA"
    kept = await receiver.patient("MRN-00017")
    assert (await receiver.patient("MRN-00099")).patient == kept.patient
    (change,) = await alice.patients.list()
    assert (change.row.moved, change.row.made_by) == ((OTHERS,), "RIS")
    await alice.patients.undo(change.row.change, OFFICER)
    assert (await receiver.patient("MRN-00099")).patient != kept.patient


async def test_a_merge_into_whom_nobody_knew_keeps_the_studies(alice, receiver):
    text = message("A40", "PID|1||NEW^^^NGH||Mueller^Jane||19800517|F", "MRG|MRN-00017^^^NGH")
    assert (await receiver.tell(text))[0] == "AA"
    known = await receiver.patient("NEW")
    assert known.patient == (await receiver.patient("MRN-00017")).patient
    assert known.birth_date == "19800517"


async def test_images_that_come_under_a_merged_number_belong_to_whom_it_means(alice, receiver):
    assert (await receiver.tell(message("A40", PID, "MRG|MRN-00099^^^NGH")))[0] == "AA"
    await alice.acquire(OTHERS, OLSEN)
    known = await receiver.patient("MRN-00017")
    assert (await receiver.patient("MRN-00099")).patient == known.patient


async def test_several_merges_of_one_message_are_made_or_none(alice, receiver):
    await alice.acquire(OTHERS, OLSEN)
    groups = [PID, "PD1", "MRG|MRN-00099^^^NGH", PID, "MRG|17^^^ELSEWHERE"]
    broken = [segment for segment in groups if segment != "PD1"]
    assert (await receiver.tell(message("A40", *broken)))[1] == "204"
    assert await alice.patients.list() == []
    assert (await receiver.tell(message("A40", PID)))[:2] == ("AE", "100")
    assert (await receiver.tell(message("A40", PID, "MRG|")))[:2] == ("AE", "101")


async def test_a_merge_of_strangers_or_of_one_with_oneself_changes_nothing(receiver):
    for number, (pid, mrg) in enumerate(
        [("PID|1||A^^^NGH||A^B", "MRG|B^^^NGH"), (PID, "MRG|MRN-00017^^^NGH")]
    ):
        told = await receiver.tell(message("A40", pid, mrg, number=f"M{number}"))
        assert told[0] == "AA"
    assert await receiver.patient("A") is None
    assert await receiver.facility.patients.list() == []


async def test_merges_of_one_message_are_counted_before_they_are_made(receiver):
    told = await receiver.tell(message("A40", *[PID, "MRG|MRN-00099^^^NGH"] * (MERGES + 1)))
    assert told[:2] == ("AE", "100")
    assert await receiver.patient("MRN-00099") is None


@pytest.mark.parametrize(
    "mrg", ["MRN-00099^^^NGH^VN", "MRN-00099^^^NGH&9.9.9&ISO", "MRN-00099^^^ANNEX"]
)
async def test_what_is_no_identifier_of_the_same_authority_merges_nobody(alice, mrg):
    await alice.acquire(OTHERS, OLSEN)
    await alice.acquire("1.2.3.9", replace(OLSEN, issuer="ANNEX"))
    authorities = {"NGH": ISSUER, "ANNEX": "ANNEX"}
    async with receiving(alice, sender(authorities=authorities)) as receiver:
        assert (await receiver.tell(message("A40", PID, f"MRG|{mrg}")))[0] == "AE"
        assert await alice.patients.list() == []


async def test_a_merge_goes_to_the_identifier_that_stays(alice, receiver):
    await alice.acquire(OTHERS, OLSEN)
    pid = "PID|1||MRN-00099^^^NGH~MRN-00017^^^NGH||Mueller^Jane"
    assert (await receiver.tell(message("A40", pid, "MRG|MRN-00099^^^NGH")))[0] == "AA"
    kept = await receiver.patient("MRN-00017")
    assert kept.patient_id == "MRN-00017"
    assert (await receiver.patient("MRN-00099")).patient == kept.patient


async def test_a_merge_goes_to_whom_another_identifier_of_pid_has_on_record(alice):
    await alice.acquire(OTHERS, replace(OLSEN, issuer="ANNEX"))
    authorities = {"NGH": ISSUER, "ANNEX": "ANNEX"}
    async with receiving(alice, sender(authorities=authorities)) as receiver:
        pid = "PID|1||MRN-00017^^^NGH~NEW^^^ANNEX||Mueller^Jane"
        assert (await receiver.tell(message("A40", pid, "MRG|MRN-00099^^^ANNEX")))[0] == "AA"
        kept = await receiver.patient("MRN-00017")
        assert (await receiver.patient("MRN-00099", "ANNEX")).patient == kept.patient
        text = message("A40", PID, "MRG|MRN-00017^^^NGH~X^^^ANNEX", number="M2")
        assert (await receiver.tell(text))[:2] == ("AE", "204")


@pytest.mark.parametrize(
    "second",
    ["MRN-00099^^^NGH^VN", "MRN-00099^^^NGH^an", "MRN-00099^^^NGH&9.9.9&ISO^MR"],
)
async def test_what_is_no_patient_id_of_the_sender_describes_nobody(alice, receiver, second):
    await alice.acquire(OTHERS, OLSEN)
    for number, field in enumerate((second, f"{second}~NEW^^^NGH^MR")):
        told = await receiver.tell(message("A08", f"PID|1||{field}||X^Y", number=f"M{number}"))
        assert told[0] == ("AA" if number else "AE")
        assert (await receiver.patient("MRN-00099")).names == OLSEN.names


async def test_who_is_two_on_record_is_not_described(alice, receiver):
    await alice.acquire(OTHERS, OLSEN)
    pid = "PID|1||MRN-00017^^^NGH~MRN-00099^^^NGH||X^Y"
    for number, text in enumerate(
        [
            message("A08", pid, number="M1"),
            message("A40", pid, "MRG|NEW^^^NGH", number="M2"),
            message("A40", "PID|1||N^^^NGH", "MRG|MRN-00017^^^NGH~MRN-00099^^^NGH", number="M3"),
        ]
    ):
        assert (await receiver.tell(text))[:2] == ("AE", "205"), number
    assert (await receiver.patient("MRN-00017")).names == JANE.names
    assert (await receiver.patient("MRN-00099")).names == OLSEN.names
    assert await alice.patients.list() == []


async def test_patients_of_other_issuers_are_out_of_reach(alice, receiver):
    foreign = replace(JANE, issuer="ELSEWHERE", patient_id="17", names=("Berg^Karl",))
    await alice.acquire("1.2.3.9", foreign)
    told = await receiver.tell(message("A08", "PID|1||17^^^ELSEWHERE||Other^Name"))
    assert told[:2] == ("AE", "204")
    told = await receiver.tell(message("A40", PID, "MRG|17^^^ELSEWHERE", number="M2"))
    assert told[:2] == ("AE", "204")
    assert (await receiver.patient("17", "ELSEWHERE")).names == ("Berg^Karl",)
