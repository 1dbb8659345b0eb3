"""Dave becomes a partner who may find MR studies alone, while CT studies are published to everyone.

He holds the whole journal as soon as the link is up.  Were his questions answered under the keys
of the day before, he would open every CT study until the origin has published them anew.
"""

from __future__ import annotations

import pytest

from peer.clock import ManualClock
from peer.index import key_epochs
from protocol.agreement import Terms
from protocol.evaluation import EVERYONE
from protocol.limits import KEY_EPOCHS
from tests.facilities import START, Facility, facilities

CT, MR = "1.2.3.1", "1.2.3.2"


@pytest.fixture
async def trio(tmp_path):
    dave = Facility("Dave", ManualClock(START))
    async with facilities(tmp_path, "Alice", "Bob") as (alice, bob), dave.open(tmp_path / "Dave"):
        await bob.acquire(CT)
        await bob.acquire(MR, modality="MR")
        await bob.consent()
        yield alice, bob, dave


async def test_he_opens_nothing_outside_his_terms_at_any_time(trio):
    alice, bob, dave = trio
    await bob.share(alice)
    assert await alice.finds() == {("Bob", CT), ("Bob", MR)}

    bob.meet(dave, Terms(modalities=("MR",)))
    await bob.share(dave)
    answer = await dave.find()
    assert [each for each in answer.results if not each.local] == []
    (uncovered,) = answer.coverage.not_searched
    assert "still preparing" in uncovered.reason

    await bob.publish.partner_changed(dave.peer_id, "active")
    await bob.publish.look_at_all()
    await bob.share(alice, dave)
    assert await alice.finds() == {("Bob", CT), ("Bob", MR)}
    assert await dave.finds() == {("Bob", MR)}


async def test_nor_while_the_studies_are_published_anew(trio):
    _, bob, dave = trio
    bob.meet(dave, Terms(modalities=("MR",)))
    await bob.share(dave)
    await bob.db.write(lambda tx: bob.publish._reconcile(tx, []))  # The first step of many.
    answer = await dave.find()
    (uncovered,) = answer.coverage.not_searched
    assert uncovered.code == "unannounced", "the new keys open nothing of what he holds"
    assert [each for each in answer.results if not each.local] == []


async def test_he_is_not_answered_in_the_epoch_before_as_those_are_who_were_there(trio):
    alice, bob, dave = trio
    await bob.share(alice)
    bob.meet(dave, Terms(modalities=("MR",)))
    await bob.db.write(lambda tx: bob.publish._reconcile(tx, []))
    await bob.share(alice, dave)
    answer = await dave.find()
    assert answer.coverage.not_searched == ()
    assert [each for each in answer.results if not each.local] == []
    assert await alice.finds() == {("Bob", CT), ("Bob", MR)}, "whose turn has not come is found"
    await bob.publish.look_at_all()
    await bob.share(alice, dave)
    assert await dave.finds() == {("Bob", MR)}


async def test_he_waits_while_too_many_keys_are_being_replaced(trio):
    """One epoch more, and those whose turn has not come would be found by nobody."""
    alice, bob, dave = trio
    for _ in range(KEY_EPOCHS - 1):
        await bob.db.write(lambda tx: key_epochs.begin(tx, EVERYONE))
    bob.meet(dave, Terms(modalities=("MR",)))
    await bob.db.write(lambda tx: bob.publish._reconcile(tx, []))
    await bob.share(alice, dave)
    (uncovered,) = (await dave.find()).coverage.not_searched
    assert "still preparing" in uncovered.reason
    await bob.publish.partner_changed(dave.peer_id, "active")
    await bob.publish.look_at_all()
    await bob.share(alice, dave)
    assert await alice.finds() == {("Bob", CT), ("Bob", MR)}
    assert await dave.finds() == {("Bob", MR)}, "as soon as the others have moved"


async def test_he_is_answered_where_nothing_is_published(tmp_path):
    dave = Facility("Dave", ManualClock(START))
    async with facilities(tmp_path, "Bob") as (bob,), dave.open(tmp_path / "Dave"):
        bob.meet(dave, Terms(modalities=("MR",)))
        await bob.publish.look_at_all()
        await bob.share(dave)
        assert (await dave.find()).coverage.not_searched == ()
