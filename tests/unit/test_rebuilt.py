"""What is published once the index came from a backup, and the journal's end from a partner."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from peer.index import deferrals, journal, reconciliation
from peer.index.batches import load, store
from peer.index.journal import Halt
from peer.search import Question
from protocol.errors import Replayed
from protocol.identifiers import PatientIdentifier
from protocol.nodekeys import only_key
from protocol.signing import public_key
from tests.facilities import JANE, OFFICER, everyone_shares, facilities
from tests.unit.test_publish import STUDY

LATER = "1.2.3.5"
JOHNS = "1.2.3.7"
JOHN = replace(JANE, patient_id="MRN-00018", names=("Doe^John",), birth_date="19700101", sex="M")


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as opened:
        yield opened


async def backup(facility, tmp_path):
    """Copy the index of a facility as it is now."""
    await facility.db.checkpoint_truncate()
    return shutil.copy(facility.db._path, tmp_path / "backup.db")


async def restore(facility, image, partner):
    """Put the index back, regain the journal from `partner`, and bring both in step."""
    await facility.db.close()
    await facility.partners_db.close()
    shutil.copy(image, facility.folder / "index.db")
    await facility.build(facility.folder)

    def regain(tx):
        run = store(
            tx, facility.peer_id, only_key(public_key(facility.node_seed)), given_back, None
        )
        journal.halt(tx, Halt.REGAINED)
        return run

    given_back = (await partner.partners_db.read(lambda tx: load(tx, facility.peer_id, 0))).batches
    error = (await facility.db.write(regain)).error
    assert error is None or isinstance(error, Replayed), "nothing was lost"
    await facility.publish._catch_up()
    assert await facility.db.read(journal.halted) is None


async def held(facility):
    return {each.patient.value for each in await facility.db.read(deferrals.holds)}


async def known(facility):
    """The journal's live entries, and those of which the tables know."""
    me = facility.peer_id
    unknown = await facility.db.read(lambda tx: reconciliation.unknown(tx, me))
    ended, *_ = await facility.db.write(lambda tx: reconciliation.drop_ended(tx, me))
    return unknown, ended


async def finds(facility, patient):
    return await facility.finds(
        Question(name=patient.names[0], birth_date=patient.birth_date, sex=patient.sex)
    )


async def test_a_restore_that_lost_nothing_changes_nothing(hospitals, tmp_path):
    alice, bob = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)
    head = await bob.db.read(lambda tx: journal.head(tx, bob.peer_id))
    await restore(bob, await backup(bob, tmp_path), alice)
    assert await bob.db.read(lambda tx: journal.head(tx, bob.peer_id)) == head
    assert await held(bob) == set()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}


async def test_what_the_index_does_not_know_any_more_is_withdrawn(hospitals, tmp_path):
    alice, bob = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    image = await backup(bob, tmp_path)
    await bob.acquire(JOHNS, JOHN)
    await bob.consent(JOHN)
    await everyone_shares(*hospitals)
    assert await finds(alice, JOHN) == {("Bob", JOHNS)}

    await restore(bob, image, alice)
    await everyone_shares(*hospitals)
    assert await finds(alice, JOHN) == set()
    assert await alice.finds() == {("Bob", STUDY)}
    assert await held(bob) == set()
    assert await known(bob) == ([], [])


async def test_what_came_again_is_published_again(hospitals, tmp_path):
    alice, bob = hospitals
    await bob.consent()
    image = await backup(bob, tmp_path)
    await bob.acquire(STUDY)
    await everyone_shares(*hospitals)
    await restore(bob, image, alice)
    await bob.acquire(STUDY)
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}
    assert await known(bob) == ([], [])


async def test_who_revoked_after_the_backup_is_not_published_again(hospitals, tmp_path):
    alice, bob = hospitals
    await bob.acquire(STUDY)
    directive = await bob.consent()
    await bob.acquire(JOHNS, JOHN)
    await bob.consent(JOHN)
    image = await backup(bob, tmp_path)
    await bob.consents.revoke(directive.directive_id, "the patient asked", OFFICER)
    await everyone_shares(*hospitals)

    await restore(bob, image, alice)
    recorded = await bob.consents.get(directive.directive_id)
    assert recorded.directive.status == "active", "the index has forgotten the revocation"
    assert await held(bob) == {JANE.patient_id}
    await everyone_shares(*hospitals)
    assert await alice.finds() == set()
    assert await finds(alice, JOHN) == {("Bob", JOHNS)}
    await bob.acquire(LATER)
    await everyone_shares(*hospitals)
    assert await alice.finds() == set(), "nor anything that comes later"


async def test_a_new_consent_ends_the_hold(hospitals, tmp_path):
    alice, bob = hospitals
    await bob.acquire(STUDY)
    directive = await bob.consent()
    image = await backup(bob, tmp_path)
    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    await everyone_shares(*hospitals)
    await restore(bob, image, alice)
    await bob.consent()
    assert await held(bob) == set()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}


async def test_whoever_has_looked_can_release_a_held_patient(hospitals, tmp_path):
    alice, bob = hospitals
    await bob.acquire(STUDY)
    directive = await bob.consent()
    image = await backup(bob, tmp_path)
    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    await everyone_shares(*hospitals)
    await restore(bob, image, alice)
    jane = PatientIdentifier(JANE.issuer, JANE.patient_id)
    assert await bob.db.write(lambda tx: deferrals.release(tx, jane))
    await bob.publish.study_changed(STUDY)
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}


async def test_a_chain_with_a_new_gap_is_walked_to_its_end(hospitals, tmp_path):
    """Ten twins, of whom nine left after the backup: the fillers that led to the last are lost."""
    alice, bob = hospitals
    twins = [replace(JANE, patient_id=f"TWIN-{number}") for number in range(12)]
    directives = []
    for number, twin in enumerate(twins):
        await bob.acquire(f"{STUDY}.{number}", twin)
        directives.append(await bob.consent(twin))
    image = await backup(bob, tmp_path)
    for directive in directives[:11]:
        await bob.consents.revoke(directive.directive_id, "", OFFICER)
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", f"{STUDY}.11")}
    await restore(bob, image, alice)
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", f"{STUDY}.11")}
    assert len(await held(bob)) == 11
