"""Every search that is not made, or not answered, is refused in a sentence and is on record."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from peer.search import Question
from protocol.agreement import Terms
from protocol.errors import Refusal
from tests.facilities import ASK_JANE, CLINICIAN, facilities


@pytest.fixture
async def pair(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as opened:
        yield opened


async def records(facility, action):
    found = [json.loads(each) async for each in facility.audit.export(None, None)]
    return [each for each in found if each["action"] == action]


@pytest.mark.parametrize(
    ("question", "actor", "emergency", "code", "words"),
    [
        (Question("Mueller^Jane", ""), CLINICIAN, "", "too-little", "birth date"),
        (Question("", "19800517"), CLINICIAN, "", "too-little", "name"),
        (ASK_JANE, replace(CLINICIAN, purpose=""), "", "no-purpose", "purpose of use"),
        (ASK_JANE, replace(CLINICIAN, purpose="CURIOUS"), "", "no-purpose", "purpose of use"),
        (ASK_JANE, replace(CLINICIAN, purpose="BTG"), "", "reason-needed", "reason"),
        (ASK_JANE, CLINICIAN, "unconscious", "not-an-emergency", "purpose"),
    ],
    ids=["no date", "no name", "no purpose", "no known purpose", "no reason", "no emergency"],
)
async def test_what_is_refused_here_reaches_nobody_and_is_on_record(
    pair, question, actor, emergency, code, words
):
    alice, bob = pair
    with pytest.raises(Refusal) as refused:
        await alice.search.search(question, actor, emergency)
    assert refused.value.code == code
    assert words in refused.value.reason
    assert refused.value.remedy
    assert alice.links.sent == []
    (record,) = await records(alice, "search")
    assert record["outcome"] == "refused"
    assert record["actor"]["name"] == CLINICIAN.name
    assert record["detail"]["code"] == code
    assert record["detail"]["name"] == question.name
    assert await records(bob, "evaluate") == []


async def test_a_partner_without_agreement_says_so_and_both_have_it_on_record(pair):
    alice, bob = pair
    bob.partners = [replace(each, active=False) for each in bob.partners]
    coverage = (await alice.find()).coverage
    assert "Bob (refused: This facility has no active agreement with yours)" in coverage.sentence
    (there,) = await records(bob, "evaluate")
    assert (there["outcome"], there["detail"]["code"]) == ("refused", "not-a-partner")
    (here,) = await records(alice, "search")
    assert here["detail"]["coverage"] == coverage.sentence


async def test_a_purpose_outside_the_agreement_is_refused_there_and_both_have_it_on_record(pair):
    alice, bob = pair
    bob.partners = [replace(each, our_terms=Terms(purposes=("TREAT",))) for each in bob.partners]
    answer = await alice.search.search(ASK_JANE, replace(CLINICIAN, purpose="HPAYMT"))
    assert "agreement does not cover searches for this purpose" in answer.coverage.sentence
    (there,) = await records(bob, "evaluate")
    assert (there["outcome"], there["detail"]["code"]) == ("refused", "purpose")


async def test_over_quota_is_said_here_without_asking_and_there_to_who_asks_all_the_same(pair):
    alice, bob = pair
    bounded = Terms(daily_searches=1)
    bob.partners = [replace(each, our_terms=bounded) for each in bob.partners]
    assert not (await alice.find()).coverage.not_searched
    told = await alice.find()
    assert "more than" in told.coverage.sentence or "1 search a day" in told.coverage.sentence
    (there,) = [each for each in await records(bob, "evaluate") if each["outcome"] == "refused"]
    assert there["detail"]["code"] == "quota"
    sent = len(alice.links.sent)
    again = await alice.find()
    assert len(alice.links.sent) == sent
    assert [each.code for each in again.coverage.not_searched] == ["quota"]
    here = await records(alice, "search")
    assert here[-1]["detail"]["coverage"] == again.coverage.sentence
