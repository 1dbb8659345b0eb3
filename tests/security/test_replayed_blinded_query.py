"""A blinded question that was seen before: sent again by who saw it, or used for another search."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from protocol import evaluation
from protocol.agreement import Terms
from protocol.errors import Refusal, RemoteProtocolError
from protocol.messages import Evaluate, decode
from tests.facilities import everyone_shares, facilities
from tests.security.test_sealed_digests import entries_held, opens

STUDY = "1.2.3.1"


@pytest.fixture
async def hospitals(tmp_path):
    """Bob has Jane; Alice searches for her and asks Eve too, who keeps what she was asked."""
    async with facilities(tmp_path, "Alice", "Bob", "Eve") as opened:
        alice, bob, _ = opened
        await bob.acquire(STUDY)
        await bob.consent()
        await everyone_shares(*opened)
        assert await alice.finds() == {("Bob", STUDY)}
        yield opened


def asked(alice):
    """What Alice has sent, which is the same to every partner."""
    (question,) = {decode(each)[1] for each in alice.links.sent}
    return question


async def test_who_replays_a_question_cannot_read_the_answer(hospitals):
    """Eve has Alice's points, but not the numbers that blind them."""
    alice, bob, eve = hospitals
    question = asked(alice)
    answer = await eve.links.request(bob.peer_id, replace(question, clinician="eve"), 5)
    entries = await entries_held(eve, bob)
    guess = evaluation.ask(["whatever"], secrets.token_bytes(evaluation.QUESTION_RANDOM_BYTES))
    for each in answer.answers:
        points = [each.strong[at : at + 32] for at in range(0, len(each.strong), 32)]
        assert all(opens(entry, [point * 2 for point in points]) is None for entry in entries)
        try:
            unblinded = evaluation.outputs(guess, each.strong)
        except RemoteProtocolError:
            continue
        assert all(opens(entry, unblinded) is None for entry in entries)


async def test_a_replay_is_counted_and_recorded_like_any_search(hospitals):
    alice, bob, eve = hospitals
    bob.partners = [
        replace(each, our_terms=Terms(daily_searches=3)) if each.peer_id == eve.peer_id else each
        for each in bob.partners
    ]
    question = replace(asked(alice), clinician="eve")
    for _ in range(3):
        await eve.links.request(bob.peer_id, question, 5)
    with pytest.raises(Refusal) as refused:
        await eve.links.request(bob.peer_id, question, 5)
    assert refused.value.code == "quota"
    lines = [line async for line in bob.audit.export(None, None) if '"evaluate"' in line]
    assert sum(eve.peer_id.hex() in line for line in lines) == 4


async def test_no_point_of_one_search_stands_in_the_next(hospitals):
    alice, _, _ = hospitals
    first = asked(alice)
    alice.links.sent.clear()
    await alice.find()
    second = asked(alice)

    def points(question: Evaluate):
        both = question.strong + question.weak
        return {both[at : at + 32] for at in range(0, len(both), 32)}

    assert points(first).isdisjoint(points(second)), "two searches for one person can be linked"
    assert first.search_id != second.search_id


async def test_an_answer_to_one_search_opens_nothing_in_another(hospitals):
    """Bob's answer of before is played back to Alice: she unblinds with other numbers."""
    alice, bob, _ = hospitals
    answers = []
    honest = bob.links.handlers[Evaluate]

    async def replaying(message, partner):
        answers.append(await honest(message, partner))
        return answers[0]

    bob.links.handlers[Evaluate] = replaying
    assert (await alice.find()).coverage.not_searched == ()
    again = await alice.find()
    assert [each.code for each in again.coverage.not_searched] == ["wrong-key"]
    assert len(answers) == 2
