"""Points that would tell of a key or void a question: the identity, low order, second encodings."""

from __future__ import annotations

import secrets

import pytest

from protocol import evaluation
from protocol.errors import RemoteProtocolError
from protocol.limits import EVALUATION_POINTS
from protocol.messages import AudienceAnswer, Evaluate, Evaluated
from tests.facilities import everyone_shares, facilities

STUDY = "1.2.3.1"
FIELD = 2**255 - 19

HOSTILE = {
    "identity": bytes(32),
    "one": (1).to_bytes(32, "little"),
    "minus one": (FIELD - 1).to_bytes(32, "little"),
    "order four": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "order eight": bytes.fromhex(
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    ),
    "field size": FIELD.to_bytes(32, "little"),
    "second encoding of one": (FIELD + 1).to_bytes(32, "little"),
    "identity with the highest bit": (1 << 255).to_bytes(32, "little"),
    "second encoding of the generator": bytes.fromhex(
        "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2df6"
    ),
    "all ones": b"\xff" * 32,
}
"""RFC 9496, section 4.3.1: what does not decode, and the identity, which RFC 9497 refuses."""


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as (alice, bob):
        await bob.acquire(STUDY)
        await bob.consent()
        await everyone_shares(alice, bob)
        yield alice, bob


def spoilt(honest, point, place=0):
    """Return points of which one is hostile."""
    return honest[: 32 * place] + point + honest[32 * (place + 1) :]


@pytest.mark.parametrize("point", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", [0, 7])
async def test_the_origin_multiplies_none_of_them(hospitals, point, place):
    alice, bob = hospitals
    await alice.find()
    question = Evaluate(
        bytes(16),
        "eve",
        "clinician",
        "TREAT",
        spoilt(_points(), point, place),
        _points(),
    )
    with pytest.raises(RemoteProtocolError):
        await bob.links.handlers[Evaluate](question, bob.partners[0])


@pytest.mark.parametrize("point", HOSTILE.values(), ids=HOSTILE)
async def test_the_searcher_takes_none_of_them_for_an_answer(hospitals, point):
    alice, bob = hospitals
    honest = bob.links.handlers[Evaluate]

    async def hostile(message, partner):
        answer = await honest(message, partner)
        first, own = answer.answers
        return Evaluated(
            # All of them: which places stand for a match key only the searcher knows.
            (AudienceAnswer(first.key_epoch, point * EVALUATION_POINTS, first.weak), own)
        )

    bob.links.handlers[Evaluate] = hostile
    answer = await alice.find()
    assert [each.code for each in answer.coverage.not_searched] == ["faulty"]
    assert answer.results == ()


def _points():
    """Return as many honest points as a question has."""
    return evaluation.ask([], secrets.token_bytes(evaluation.QUESTION_RANDOM_BYTES)).points
