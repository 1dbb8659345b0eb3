"""Orders: for whom priors are searched and fetched ahead, which, and until when."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from peer.config import Hl7Sender, PriorsRule
from peer.hl7.message import read_message
from peer.hl7.orders import Order, fits, orders_of
from peer.hl7.refused import Refused
from peer.search import Question
from tests.facilities import CLINICIAN, JANE, everyone_shares, facilities
from tests.unit.test_hl7 import PID, message, receiving, sender

OLD, NEW, NEWER = "1.2.3.1", "1.2.3.2", "1.2.3.3"
RULE = {"modalities": ["CT"], "prior_modalities": ["CT", "MR"], "months": 24, "most": 1}
RIS = sender(allowed=["adt", "orders"], purpose="HOPERAT")


def order(number="P1", control="NW", modality="CT", state="", name="CT THORAX"):
    orc = f"ORC|{control}|{number}|F{number}||{state}"
    return orc, f"OBR|1|{number}|F{number}|3012^{name}^L{'|' * 20}{modality}"


def read(*segments):
    text = "\r".join([message("O01", code="ORM"), PID, *segments])
    return orders_of(read_message(text.encode(), "UNICODE UTF-8"))


def test_each_examination_of_a_message_is_an_order():
    first, second = read(*order("P1"), *order("P2", modality="MR", name="MR KNIE"))
    causes = ("placer P1", "filler FP1")
    assert first == Order("P1", causes, False, ("CT",), ("", "", "3012", "CT THORAX"))
    assert (second.number, second.modalities) == ("P2", ("MR",))
    alone, other = read("ORC|NW", "OBR|1|P1||A", "OBR|2||F2|B")
    assert (alone.number, other.number) == ("P1", "F2")
    (imaging,) = read("ORC|NW|P1", "OBR|1|P1||A", "IPC|ACC^X|RP|1.2.3|SPS|US")
    assert imaging.modalities == ("US",)


@pytest.mark.parametrize(
    ("control", "state"), [("CA", ""), ("DC", ""), ("OC", ""), ("SC", "CM"), ("SC", "DC")]
)
def test_an_order_that_is_over_is_told(control, state):
    (found,) = read(*order(control=control, state=state))
    assert found.is_over


def test_a_message_without_an_order_is_refused():
    for segments, error in (((), "100"), (("ORC|NW", "OBR|1"), "101")):
        with pytest.raises(Refused) as refused:
            read(*segments)
        assert refused.value.error == error


@pytest.mark.parametrize(
    ("rule", "is_for"),
    [
        ({}, True),
        ({"modalities": ["ct", "MR"]}, True),
        ({"modalities": ["US"]}, False),
        ({"procedures": ["*thorax*"]}, True),
        ({"procedures": ["3012"]}, True),
        ({"procedures": ["301"], "modalities": ["CT"]}, False),
    ],
)
def test_a_rule_fits_by_modality_and_by_name(rule, is_for):
    assert (
        fits(PriorsRule(**rule), Order("P1", (), False, ("CT",), ("3012", "CT THORAX"))) == is_for
    )


def test_no_sender_acts_in_an_emergency():
    with pytest.raises(ValidationError):
        Hl7Sender(name="RIS", host="127.0.0.1", purpose="BTG")


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as (alice, bob):
        await bob.acquire(OLD, date="20200102")
        await bob.acquire(NEW, date="20260102", modality="MR")
        await bob.acquire(NEWER, date="20260302", modality="US")
        await bob.consent(JANE)
        await everyone_shares(alice, bob)
        yield alice, bob


async def test_an_order_fetches_the_newest_priors_that_its_rule_wants(hospitals):
    alice, bob = hospitals
    asked = []

    async def fetch(*arguments):
        asked.append(arguments)

    async with receiving(alice, RIS, priors=[RULE]) as receiver:
        receiver.prefetch.fetch_with(fetch)
        assert (await receiver.tell(message("O01", PID, *order(), code="ORM")))[0] == "AA"
        assert await receiver.prefetch.step()
        (listed,) = await receiver.prefetch.list(10)
        ((facility, uid, actor),) = asked
        assert (facility, uid) == (bob.peer_id, NEW)
        assert (actor.name, actor.kind, actor.purpose) == ("RIS", "hl7", "HOPERAT")
        shown = listed.to_json()
        assert (shown["note"], shown["fetched"]) == ("Order P1: CT THORAX", [NEW])
        assert shown["studies"] == 3
        (record,) = await receiver.trail("prefetch")
        assert (record["actor"]["name"], record["detail"]["note"]) == ("RIS", shown["note"])


async def test_an_order_that_no_rule_fits_asks_nobody(hospitals):
    alice, _ = hospitals
    async with receiving(alice, RIS, priors=[RULE]) as receiver:
        text = message("O23", PID, *order(modality="US"), code="OMI")
        assert (await receiver.tell(text))[0] == "AA"
        assert await receiver.prefetch.list(10) == []


async def test_an_order_is_changed_and_taken_back(hospitals):
    alice, _ = hospitals
    async with receiving(alice, RIS, priors=[RULE]) as receiver:
        messages = [
            message("O01", PID, *order(), *order("P2"), code="ORM", number="M1"),
            message("O01", PID, *order(), code="ORM", number="M2"),
            message("O01", PID, *order(control="XO", name="CT HALS"), code="ORM", number="M3"),
            message("O01", PID, *order("P2", control="CA"), code="ORM", number="M4"),
        ]
        counts, notes = [], []
        for text in messages:
            assert (await receiver.tell(text))[0] == "AA"
            listed = await receiver.prefetch.list(10)
            counts.append(len(listed))
            notes.append({each.row.note for each in listed})
        assert counts == [2, 2, 2, 1]
        assert notes[-1] == {"Order P1: CT HALS"}


@pytest.mark.parametrize(
    "segments",
    [
        ("ORC|CA|P1",),
        ("ORC|CA||FP1",),
        ("ORC|CA|G1", "OBR|1||FP1"),
        order(control="XO", modality="US"),
    ],
)
async def test_an_order_is_taken_back_under_any_of_its_numbers(hospitals, segments):
    alice, _ = hospitals
    async with receiving(alice, RIS, priors=[RULE]) as receiver:
        text = message("O01", PID, *order(), *order("P2"), code="ORM")
        assert (await receiver.tell(text))[0] == "AA"
    # The sender's entry was changed meanwhile.
    async with receiving(alice, RIS | {"purpose": "TREAT", "per_hour": 7}, priors=[RULE]) as after:
        text = message("O01", PID, *segments, code="ORM", number="M2")
        assert (await after.tell(text))[0] == "AA"
        (left,) = await after.prefetch.list(10)
        assert left.row.note == "Order P2: CT THORAX"
    async with receiving(alice, RIS | {"name": "OTHER"}, priors=[RULE]) as other:
        text = message("O01", PID, *order("P2", control="CA"), code="ORM")
        assert (await other.tell(text))[0] == "AA"
        assert len(await other.prefetch.list(10)) == 1


async def test_an_order_of_somebody_who_is_two_on_record_is_taken_back(hospitals):
    alice, _ = hospitals
    two = f"PID|1||{JANE.patient_id}^^^NGH^MR~MRN-2^^^NGH^PI||DOE^JANE||19800517|F"
    async with receiving(alice, RIS, priors=[RULE]) as receiver:
        text = message("O01", PID, *order(), code="ORM", number="M1")
        assert (await receiver.tell(text))[0] == "AA"
        for patient_id in (JANE.patient_id, "MRN-2"):
            await alice.acquire(f"1.2.9.{len(patient_id)}", replace(JANE, patient_id=patient_id))
        text = message("O01", two, *order("P2"), code="ORM", number="M2")
        assert (await receiver.tell(text))[:2] == ("AE", "205"), "no new one is taken"
        text = message("O01", two, *order(control="CA"), code="ORM", number="M3")
        assert (await receiver.tell(text))[0] == "AA"
        assert await receiver.prefetch.list(10) == []


async def test_an_order_that_was_taken_back_during_the_search_fetches_nothing(hospitals):
    alice, _ = hospitals
    asked = []

    async def fetch(*arguments):
        asked.append(arguments)
        text = message("O01", PID, *order(control="CA"), code="ORM", number="M2")
        assert (await receiver.tell(text))[0] == "AA"
        await receiver.prefetch.add([Question("Berg^Karl", "19500101")], CLINICIAN)

    async with receiving(
        alice, RIS, priors=[RULE | {"prior_modalities": [], "most": 2}]
    ) as receiver:
        receiver.prefetch.fetch_with(fetch)
        assert (await receiver.tell(message("O01", PID, *order(), code="ORM")))[0] == "AA"
        assert await receiver.prefetch.step()
        (listed,) = await receiver.prefetch.list(10)
    assert len(asked) == 1
    assert (listed.row.tried_at, listed.row.fetched) == (None, "[]"), "another took its number"


async def test_orders_are_taken_from_whom_they_are_allowed_alone(hospitals):
    alice, _ = hospitals
    async with receiving(alice, priors=[RULE]) as receiver:
        told = await receiver.tell(message("O01", PID, *order(), code="ORM"))
        assert told[:2] == ("AR", "200")
        assert "orders is not in its allowed" in told[2]
        assert await receiver.prefetch.list(10) == []
