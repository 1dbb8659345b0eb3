"""Under which key epochs a partner is answered while patients move from one to the next."""

from __future__ import annotations

import pytest

from peer.index import INDEX_MIGRATIONS, Database, key_epochs, publications
from peer.index.publications import PublishedPatient
from protocol.evaluation import EVERYONE
from protocol.limits import KEY_EPOCHS

ALICE, BOB, EVE = (bytes([number]) * 32 for number in range(1, 4))


@pytest.fixture
async def db(tmp_path):
    opened = await Database.open(tmp_path / "index.db", bytes(32), INDEX_MIGRATIONS)
    yield opened
    await opened.close()


def publish(tx, patient, audience=EVERYONE):
    epoch = key_epochs.present(tx, audience)
    entry_id = bytes([patient]) * 16
    row = PublishedPatient(0, patient, audience, epoch, bytes(16), entry_id, b"", 0)
    return publications.add_patient(tx, row)


def hold(tx, *partners, bounded=()):
    return key_epochs.hold(tx, EVERYONE, partners, bounded)


def answered(tx, partner):
    return key_epochs.answered(tx, EVERYONE, partner)


async def test_who_stays_is_answered_under_both_until_the_last_patient_has_moved(db):
    def work(tx):
        hold(tx, ALICE, EVE)
        one, other = publish(tx, 1), publish(tx, 2)
        assert answered(tx, ALICE) == ((1, 1),)
        assert hold(tx, ALICE)
        assert answered(tx, ALICE) == ((2, 1), (1, 1))
        publications.remove_patient(tx, one)
        key_epochs.end(tx)
        assert answered(tx, ALICE) == ((2, 1), (1, 1)), "the other has not moved yet"
        publications.remove_patient(tx, other)
        key_epochs.end(tx)
        assert answered(tx, ALICE) == ((2, 1),)

    await db.write(work)


async def test_who_comes_meanwhile_is_answered_under_the_present_keys_alone(db):
    def work(tx):
        hold(tx, ALICE, EVE)
        publish(tx, 1)
        hold(tx, ALICE)
        assert not hold(tx, ALICE, BOB)
        assert answered(tx, BOB) == ((2, 1),)
        assert hold(tx, ALICE), "Bob leaves again"
        assert answered(tx, ALICE) == ((3, 1), (2, 1), (1, 1))

    await db.write(work)


async def test_who_was_removed_and_came_back_is_not_answered_under_what_stood_before(db):
    def work(tx):
        hold(tx, ALICE, EVE)
        publish(tx, 1)
        publish(tx, 2, EVE)
        hold(tx, ALICE)
        hold(tx, ALICE, EVE)
        assert answered(tx, EVE) == ((2, 2),)
        assert answered(tx, ALICE) == ((2, 1), (1, 1))

    await db.write(work)


async def test_who_comes_with_narrower_terms_begins_an_epoch_and_starts_with_it(db):
    def work(tx):
        hold(tx, ALICE)
        publish(tx, 1)
        assert hold(tx, ALICE, BOB, bounded=[BOB])
        assert answered(tx, BOB) == ((2, 1),)
        assert answered(tx, ALICE) == ((2, 1), (1, 1))

    await db.write(work)


async def test_whose_keys_were_replaced_stays_a_partner_and_is_answered_under_both(db):
    def work(tx):
        hold(tx, ALICE)
        publish(tx, 1)
        publish(tx, 2, ALICE)
        key_epochs.replace(tx, ALICE)
        assert hold(tx, ALICE)
        assert not hold(tx, ALICE), "once"
        assert answered(tx, ALICE) == ((2, 2), (1, 1))

    await db.write(work)


async def test_so_many_epochs_at_most_are_answered_the_newest(db):
    def work(tx):
        for number in range(1, 6):
            hold(tx, ALICE, EVE)
            publish(tx, number)
            hold(tx, ALICE)
        epochs = [everyone for everyone, _ in answered(tx, ALICE)]
        assert epochs == [6, 5, 4]
        assert len(epochs) == KEY_EPOCHS

    await db.write(work)


async def test_who_comes_with_narrower_terms_waits_while_too_many_epochs_are_ending(db):
    """Else those who have not moved since the first of them would be found by nobody."""

    def work(tx):
        come = [bytes([number]) * 32 for number in range(10, 10 + KEY_EPOCHS)]
        hold(tx, ALICE)
        first = publish(tx, 1)
        for number, _ in enumerate(come, 1):
            begun = hold(tx, ALICE, *come[:number], bounded=come)
            assert begun == (number < KEY_EPOCHS)
            publish(tx, 1 + number)
        late = come[-1]
        assert not key_epochs.are_held(tx, late)
        assert answered(tx, ALICE) == ((3, 1), (2, 1), (1, 1)), "the first is still answered"
        assert not hold(tx, ALICE, BOB, *come, bounded=come)
        assert key_epochs.are_held(tx, BOB), "whose terms are as wide as any need not wait"
        publications.remove_patient(tx, first)
        key_epochs.end(tx)
        assert hold(tx, ALICE, BOB, *come, bounded=come)
        assert answered(tx, late) == ((4, 1),)

    await db.write(work)


async def test_who_leaves_makes_nobody_wait(db):
    """What they know must end, and an epoch that begins anyway is the newcomer's too."""

    def work(tx):
        hold(tx, ALICE)
        for number in range(1, KEY_EPOCHS):
            publish(tx, number)
            hold(tx, ALICE, EVE)
            hold(tx, ALICE)
        publish(tx, KEY_EPOCHS)
        hold(tx, ALICE, EVE)
        assert hold(tx, ALICE, BOB, bounded=[BOB])
        assert answered(tx, BOB) == ((KEY_EPOCHS + 1, 1),)

    await db.write(work)
