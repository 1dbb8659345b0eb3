"""Attack: an origin answers every search, and so that nothing of its is ever found.

It multiplies by another key than the one under which it publishes: for everybody, or for one
facility that it means to starve while its own searches are answered.  Or it names a key epoch that
it never announced, or takes its announcement back.  A search asks for the canary as well; the
origin cannot tell which of the points that is.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.index import key_epochs, labels
from peer.index.announced import is_live
from protocol import announcement, evaluation
from protocol.evaluation import EVERYONE, Tier
from protocol.limits import EVALUATION_BYTES
from protocol.messages import Evaluate, Evaluated
from tests.facilities import everyone_shares, facilities, named

UID = "1.2.840.9"


@pytest.fixture
async def pair(tmp_path):
    """Mallory publishes a study that Bob finds as long as she is honest."""
    async with facilities(tmp_path, "Bob", "Mallory") as (bob, mallory):
        await mallory.acquire(UID)
        await mallory.consent()
        await everyone_shares(bob, mallory)
        assert await bob.finds() == {("Mallory", UID)}
        # What was opened before is found by itself.
        await bob.search.forget_partner(mallory.peer_id)
        yield bob, mallory


def answers(mallory, change):
    """Let Mallory answer with what `change` makes of everyone's answer."""
    honest = mallory.links.handlers[Evaluate]

    async def evaluate(message, partner):
        everyone, own = (await honest(message, partner)).answers
        return Evaluated((change(message, everyone), own))

    mallory.links.handlers[Evaluate] = evaluate


def with_another_key(message, answer):
    key = evaluation.evaluation_key(b"another master".ljust(32), Tier.STRONG, EVERYONE, 1)
    return replace(answer, strong=evaluation.answer(key, message.strong))


def with_a_later_key(message, answer):
    key = evaluation.evaluation_key(b"another master".ljust(32), Tier.STRONG, EVERYONE, 7)
    return replace(answer, key_epoch=7, strong=evaluation.answer(key, message.strong))


def with_the_question_itself(message, answer):
    return replace(answer, strong=message.strong)


def for_half_of_the_points(message, answer):
    half = EVALUATION_BYTES // 2
    wrong = with_another_key(message, answer).strong
    return replace(answer, strong=answer.strong[:half] + wrong[half:])


async def uncovered(bob):
    """Return why the one partner was not searched, '' if it was."""
    missing = (await bob.find()).coverage.not_searched
    return missing[0].code if missing else ""


@pytest.mark.parametrize("attack", [with_another_key, with_the_question_itself])
async def test_another_key_is_noticed_at_the_first_search(pair, attack):
    bob, mallory = pair
    answers(mallory, attack)
    assert await uncovered(bob) == "wrong-key"
    assert await uncovered(bob) == "wrong-key"
    (alert,) = await bob.alerts.list(open_only=True)
    assert "another key than it announces" in alert["sentence"]
    assert alert["name"] == "Mallory"
    faults = [each for each in await records(bob) if '"partner-fault"' in each]
    assert len(faults) == 1, "once in audit.fault_s"
    assert "wrong-key" in faults[0]


async def test_a_key_that_was_never_announced_finds_nothing_and_says_so(pair):
    bob, mallory = pair
    answers(mallory, with_a_later_key)
    assert await uncovered(bob) == "unannounced"
    assert await bob.alerts.list(open_only=True) == [], "it may be on its way"


async def test_an_announcement_that_is_taken_back_is_missed(pair):
    bob, mallory = pair
    (entry,) = await bob.partners_db.read(
        lambda tx: labels.find(tx, announcement.LABEL, mallory.peer_id)
    )
    await bob.partners_db.write(
        lambda tx: tx.execute(
            "DELETE FROM journal_new_labels WHERE prefix = ?",
            (announcement.LABEL[: labels.PREFIX_BYTES],),
        )
    )
    assert entry.body.startswith(b"\x01\x03")
    assert await uncovered(bob) == "unannounced"


async def test_spoiling_some_of_the_points_hits_the_canary_in_time(pair):
    """It stands at another place in every search: one in two misses it each time, not 64 times."""
    bob, mallory = pair
    answers(mallory, for_half_of_the_points)
    for _ in range(64):
        said = await uncovered(bob)
        await bob.search.forget_partner(mallory.peer_id)
        if said == "wrong-key":
            return
        bob.clock.advance(60)
    raise AssertionError("the canary was never hit")


async def test_an_honest_origin_is_searched_before_it_publishes_anything(tmp_path):
    async with facilities(tmp_path, "Bob", "Carol") as (bob, carol):
        assert await uncovered(bob) == ""
        assert not await carol.db.read(lambda tx: is_live(tx, 1))


async def test_it_is_announced_before_the_first_entry_and_after_each_change_of_keys(tmp_path):
    async with facilities(tmp_path, "Bob", "Carol", "Dora") as (bob, carol, dora):
        await carol.acquire(UID)
        await carol.consent(recipients=named(bob))
        await everyone_shares(bob, carol, dora)
        assert await uncovered(bob) == ""
        carol.remove(dora)
        await carol.publish.partner_changed(dora.peer_id, "removed")
        await carol.publish.look_at_all()
        assert await carol.db.read(lambda tx: key_epochs.present(tx, EVERYONE)) == 2
        before = [each.code for each in (await bob.find()).coverage.not_searched]
        assert "unannounced" in before, "what is published under the new keys is not here yet"
        await carol.share(bob)
        assert await uncovered(bob) in {"", "not-a-partner", "refused"}
        assert await bob.finds() == {("Carol", UID)}


async def records(facility):
    return await facility.db.read(
        lambda tx: [row["record"] for row in tx.execute("SELECT record FROM audit")]
    )
