"""The blind question: same outputs on both sides, other keys other outputs, constant sizes."""

from __future__ import annotations

import hashlib

import pytest

from protocol import evaluation
from protocol.errors import LocalProtocolError, Malformed
from protocol.evaluation import EVERYONE, QUESTION_RANDOM_BYTES, Tier
from protocol.limits import EVALUATION_BYTES

MASTER = bytes(range(32))
BOB = b"B" * 32
TEXTS = ("1|id|12345|urn:oid:1.2.3", "1|S1|latin|doe|jane|19800517")


def stream(seed, length):
    return hashlib.shake_256(seed.encode()).digest(length)


@pytest.fixture
def question():
    return evaluation.ask(TEXTS, stream("question", QUESTION_RANDOM_BYTES))


def test_the_asker_obtains_what_the_origin_derived_for_its_own_patient(question):
    key = evaluation.evaluation_key(MASTER, Tier.STRONG, EVERYONE, 1)
    answered = evaluation.answer(key, question.points)
    expected = tuple(evaluation.output(key, text) for text in TEXTS)
    assert evaluation.outputs(question, answered) == expected


def test_every_tier_audience_epoch_and_master_has_its_own_key():
    keys = {
        evaluation.evaluation_key(master, tier, audience, epoch)
        for master in (MASTER, bytes(32))
        for tier in Tier
        for audience in (EVERYONE, BOB, b"C" * 32)
        for epoch in (1, 2)
    }
    assert len(keys) == 2 * 2 * 3 * 2


def test_a_question_has_one_size_and_no_two_equal_points(question):
    empty = evaluation.ask((), stream("empty", QUESTION_RANDOM_BYTES))
    assert len(question.points) == len(empty.points) == EVALUATION_BYTES
    points = {
        each.points[start : start + 32]
        for each in (question, empty)
        for start in range(0, EVALUATION_BYTES, 32)
    }
    assert len(points) == 16


def test_the_same_keys_look_different_in_the_next_search(question):
    again = evaluation.ask(TEXTS, stream("again", QUESTION_RANDOM_BYTES))
    assert not {again.points[i : i + 32] for i in range(0, 256, 32)} & {
        question.points[i : i + 32] for i in range(0, 256, 32)
    }


def test_neither_texts_nor_blinds_are_shown(question):
    assert "doe" not in repr(question)


@pytest.mark.parametrize("points", [b"", bytes(EVALUATION_BYTES), b"\xff" * EVALUATION_BYTES])
def test_points_that_are_no_group_elements_are_refused(points):
    key = evaluation.evaluation_key(MASTER, Tier.WEAK, EVERYONE, 1)
    with pytest.raises(Malformed):
        evaluation.answer(key, points)


def test_too_many_keys_or_too_little_randomness_is_our_own_mistake():
    with pytest.raises(LocalProtocolError):
        evaluation.ask(["x"] * 9, stream("nine", QUESTION_RANDOM_BYTES))
    with pytest.raises(LocalProtocolError):
        evaluation.ask(TEXTS, b"short")
    with pytest.raises(LocalProtocolError):
        evaluation.evaluation_key(MASTER, Tier.STRONG, b"short", 1)


def test_every_text_stands_at_every_place_in_some_question():
    """Else an origin could tell the padding, or spare the canary, by its place."""
    seen = [
        evaluation.ask(TEXTS, stream(f"question {n}", QUESTION_RANDOM_BYTES)).places
        for n in range(100)
    ]
    assert {first for first, _ in seen} == {second for _, second in seen} == set(range(8))
    assert all(first != second for first, second in seen)
