"""Whatever changes whom a patient key stands for, the old one opens nothing that comes after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.index import publications
from protocol import digest
from protocol.errors import RemoteProtocolError
from protocol.identifiers import PatientIdentifier
from tests.facilities import JANE, OFFICER, START, everyone_shares, facilities
from tests.security.test_sealed_digests import entries_held

STUDY, OTHERS, LATER = "1.2.3.1", "1.2.3.2", "1.2.3.3"
TWIN = replace(JANE, patient_id="MRN-00099")
DAY = 24 * 3600


@pytest.fixture
async def hospitals(tmp_path):
    """Bob publishes; Alice and Eve hold his journal."""
    async with facilities(tmp_path, "Alice", "Bob", "Eve") as opened:
        _, bob, _ = opened
        await bob.acquire(STUDY, JANE)
        await bob.acquire(OTHERS, TWIN)
        yield opened


async def keys_of(bob):
    """Return every patient key under which something is published now, with its entry."""

    def work(tx):
        rows = [
            each
            for patient in publications.patients(tx)
            for each in publications.of_patient(tx, patient).values()
        ]
        return {row.patient_key: row.entry_id for row in rows}

    return await bob.db.read(work)


def opened_by(key, entries):
    """Return how many of the entries a patient key opens."""
    count = 0
    for entry in entries:
        if entry.payload[1] == digest.BodyKind.STUDY:
            labels = {digest.study_label(key, position) for position in range(64)}
            count += not labels.isdisjoint(digest.labels(entry.payload))
            continue
        try:
            digest.open_card(entry.payload, key, entry.salt)
        except RemoteProtocolError:
            continue
        count += 1
    return count


async def merge(bob):
    one, other = (PatientIdentifier(p.issuer, p.patient_id) for p in (TWIN, JANE))
    return await bob.patients.merge(one, other, OFFICER, "one woman")


async def undone_merge(bob):
    await bob.patients.undo((await merge(bob)).row.change, OFFICER)


async def split(bob):
    await bob.acquire(LATER, JANE)
    return await bob.patients.split([LATER], TWIN, OFFICER, "hers")


async def undone_split(bob):
    await bob.patients.undo((await split(bob)).row.change, OFFICER)


async def granted_again(bob):
    for each in await bob.consents.list():
        await bob.consents.revoke(each.directive.directive_id, "", OFFICER)
    await bob.consent(JANE)
    await bob.consent(TWIN)


async def another_name(bob):
    for patient in (JANE, TWIN):
        await bob.acquire(f"{STUDY}.{patient.patient_id[-1]}", replace(patient, names=("Olsen^J",)))


async def partner_removed(bob):
    eve = next(each for each in bob.knows.values() if each.name == "Eve")
    bob.remove(eve)
    await bob.publish.partner_changed(eve.peer_id, "removed")
    await bob.publish.look_at_all()


CAUSES = [
    merge,
    undone_merge,
    split,
    undone_split,
    granted_again,
    another_name,
    partner_removed,
]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
async def test_old_keys_open_nothing_that_is_published_afterwards(hospitals, cause):
    alice, bob, eve = hospitals
    await bob.consent(JANE)
    await bob.consent(TWIN)
    await everyone_shares(bob, alice, eve)
    old = await keys_of(bob)
    assert len(old) == 2
    before = await entries_held(eve, bob)
    assert [opened_by(key, before) for key in old] == [2, 2]
    await cause(bob)
    await bob.acquire("1.2.9.9", JANE)
    await everyone_shares(bob, alice, eve)
    new, entries = await keys_of(bob), await entries_held(eve, bob)
    assert new.keys().isdisjoint(old), "a patient key lives on"
    assert set(new.values()).isdisjoint(old.values()), "an entry id is used again"
    assert [opened_by(key, entries) for key in old] == [0, 0]
    assert all(opened_by(key, entries) >= 2 for key in new)
    assert ("Bob", "1.2.9.9") in await alice.finds()


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
async def test_no_position_of_a_match_key_is_used_twice(hospitals, cause):
    """A searcher must never meet two records under one label, and no box has one key twice."""
    alice, bob, eve = hospitals
    await bob.consent(JANE)
    await bob.consent(TWIN)
    seen = set()
    labels = [label for each in await published(bob) for label in each]
    seen.update(labels)
    await cause(bob)
    fresh = [label for each in await published(bob) for label in each if label not in seen]
    assert len(fresh) == len(set(fresh))
    await everyone_shares(bob, alice, eve)
    assert {STUDY, OTHERS} <= {uid for _, uid in await alice.finds()}


async def published(bob):
    """Return the places that each published patient has in the chains of its match keys."""

    def work(tx):
        rows = [
            each
            for patient in publications.patients(tx)
            for each in publications.of_patient(tx, patient).values()
        ]
        return [
            [
                digest.slot_label(chain.output, position)
                for chain, position in publications.slots_of(tx, row.published)
            ]
            for row in rows
        ]

    return await bob.db.read(work)


async def test_an_expiry_that_was_missed_is_applied_at_the_start_and_a_new_grant_has_a_new_key(
    hospitals,
):
    alice, bob, eve = hospitals
    await bob.consent(JANE, expires_at=START + DAY, shorter_period_requested=True)
    await everyone_shares(bob, alice, eve)
    (old,) = await keys_of(bob)
    assert ("Bob", STUDY) in await alice.finds()
    bob.clock.advance(2 * DAY)
    assert ("Bob", STUDY) not in await alice.finds(), "receivers hide it by their own clock"
    assert await keys_of(bob), "nobody has looked yet: the node was off"
    await bob.publish.apply_due()
    await everyone_shares(bob, alice, eve)
    assert await keys_of(bob) == {}
    assert opened_by(old, await entries_held(eve, bob)) == 0
    await bob.consent(JANE)
    await everyone_shares(bob, alice, eve)
    assert old not in await keys_of(bob)
    assert ("Bob", STUDY) in await alice.finds()


async def test_until_all_have_new_keys_a_new_study_goes_out_under_new_ones_alone(hospitals):
    """A partner was removed, and the pass over all patients has not come to this one yet."""
    alice, bob, eve = hospitals
    await bob.consent(JANE)
    await bob.consent(TWIN)
    await everyone_shares(bob, alice, eve)
    old = await keys_of(bob)
    bob.remove(eve)
    await bob.publish.partner_changed(eve.peer_id, "removed")
    await bob.acquire(LATER, JANE)
    now = await keys_of(bob)
    assert len(now.keys() & old.keys()) == 1, "both epochs stand side by side"
    await everyone_shares(bob, alice, eve)
    assert {STUDY, OTHERS, LATER} == {uid for _, uid in await alice.finds()}, "under both epochs"
    entries = await entries_held(eve, bob)
    assert sorted(opened_by(key, entries) for key in old) == [0, 2]
    await bob.publish.look_at_all()
    await everyone_shares(bob, alice, eve)
    entries = await entries_held(eve, bob)
    assert [opened_by(key, entries) for key in old] == [0, 0]
    assert {STUDY, OTHERS, LATER} == {uid for _, uid in await alice.finds()}
