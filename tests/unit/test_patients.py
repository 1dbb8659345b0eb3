"""Patients who turn out to be one person, or two: merged, split, undone, and asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from peer.errors import Conflict, NotFound
from peer.index import consents, instances, journal, packs, patients, publications, studies
from peer.index.journal import Halt
from peer.search import Question
from protocol.consent import Recipients
from protocol.identifiers import PatientIdentifier
from tests.facilities import CLINICIAN, JANE, OFFICER, everyone_shares, facilities, make_header

OWN, OTHERS = "1.2.3.1", "1.2.3.2"
OLSEN = replace(JANE, patient_id="MRN-00099", names=("Olsen^Jane Ann",))
"""The same woman under another surname and number."""
ASK_OLSEN = Question("Olsen^Jane", "19800517", "F")
ASK_MUELLER = Question("Mueller^Jane", "19800517", "F")


def id_of(patient):
    return PatientIdentifier(patient.issuer, patient.patient_id)


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as (alice, bob):
        await bob.acquire(OWN, JANE)
        await bob.acquire(OTHERS, OLSEN)
        await bob.consent(JANE)
        await bob.consent(OLSEN)
        await everyone_shares(alice, bob)
        yield alice, bob


async def found(alice, bob, question):
    await everyone_shares(bob, alice)
    return {uid for _, uid in await alice.finds(question)}


async def merged(bob):
    return await bob.patients.merge(id_of(OLSEN), id_of(JANE), OFFICER, "one woman")


async def test_of_merged_patients_all_is_found_under_either_name(hospitals):
    alice, bob = hospitals
    assert await found(alice, bob, ASK_OLSEN) == {OTHERS}
    made = await merged(bob)
    assert "was merged into MRN-00017" in made.sentence
    for question in (ASK_OLSEN, ASK_MUELLER):
        assert await found(alice, bob, question) == {OWN, OTHERS}
    assert len((await bob.find(ASK_MUELLER)).persons) == 1


async def test_undoing_a_merge_leaves_what_was_before(hospitals):
    alice, bob = hospitals
    before = await bob.db.read(lambda tx: [patients.get(tx, number) for number in (1, 2)])
    counts = "SELECT name, patients FROM name_counts WHERE patients > 0 ORDER BY name"
    counted = await bob.db.read(lambda tx: [tuple(row) for row in tx.execute(counts)])
    made = await merged(bob)
    undone = await bob.patients.undo(made.row.change, OFFICER)
    assert undone.sentence.endswith("Undone.")
    after = await bob.db.read(lambda tx: [patients.get(tx, number) for number in (1, 2)])
    assert after == before
    assert await bob.db.read(lambda tx: [tuple(row) for row in tx.execute(counts)]) == counted
    assert await found(alice, bob, ASK_OLSEN) == {OTHERS}
    assert await found(alice, bob, ASK_MUELLER) == {OWN}
    with pytest.raises(Conflict):
        await bob.patients.undo(made.row.change, OFFICER)


async def test_what_comes_under_the_old_number_belongs_to_the_merged_patient(hospitals):
    alice, bob = hospitals
    made = await merged(bob)
    await bob.acquire("1.2.3.3", OLSEN)
    assert await found(alice, bob, ASK_MUELLER) == {OWN, OTHERS, "1.2.3.3"}
    study = await bob.db.read(lambda tx: studies.get(tx, "1.2.3.3"))
    assert (study.patient, study.held_back) == (1, False)
    # It is not divided by guessing: it stays, and a split moves it.
    await bob.patients.undo(made.row.change, OFFICER)
    assert await found(alice, bob, ASK_MUELLER) == {OWN, "1.2.3.3"}
    await bob.patients.split(["1.2.3.3"], OLSEN, OFFICER, "hers")
    assert await found(alice, bob, ASK_OLSEN) == {OTHERS, "1.2.3.3"}


async def test_directives_of_both_count_and_a_hold_of_either(hospitals):
    alice, bob = hospitals
    (first,) = await bob.consents.list(id_of(JANE))
    await bob.consents.revoke(first.directive.directive_id, "", OFFICER)
    assert await found(alice, bob, ASK_MUELLER) == set()
    await merged(bob)
    assert await found(alice, bob, ASK_MUELLER) == {OWN, OTHERS}
    directives = await bob.db.read(lambda tx: consents.for_patient(tx, 1))
    assert {each.status for each in directives} == {"active", "revoked"}
    (second,) = await bob.consents.list(id_of(OLSEN))
    await bob.consents.revoke(second.directive.directive_id, "", OFFICER)
    assert await found(alice, bob, ASK_MUELLER) == set()


async def test_a_revocation_under_the_old_number_is_told_once_the_journal_goes_on(hospitals):
    _, bob = hospitals
    await merged(bob)
    (first,) = await bob.consents.list(id_of(JANE))
    (directive,) = await bob.consents.list(id_of(OLSEN))
    await bob.consents.revoke(first.directive.directive_id, "", OFFICER)
    await bob.db.write(lambda tx: journal.halt(tx, Halt.BEHIND))
    number = directive.directive.directive_id
    await bob.consents.revoke(number, "", OFFICER)
    assert (await bob.consents.get(number)).withdrawn_seq is None
    await bob.db.write(journal.resume)
    await bob.publish.look_at_all()
    assert (await bob.consents.get(number)).withdrawn_seq is not None


async def test_studies_of_another_are_split_off_and_published_with_their_own_consent(hospitals):
    alice, bob = hospitals
    await merged(bob)
    stranger = replace(
        JANE, patient_id="MRN-00123", names=("Berg^Karl",), birth_date="19500101", sex="M"
    )
    made = await bob.patients.split([OTHERS], stranger, OFFICER, "mixed up at the scanner")
    assert made.into.value == "MRN-00123"
    asked = Question("Berg^Karl", "19500101", "M")
    assert await found(alice, bob, ASK_MUELLER) == {OWN}
    assert await found(alice, bob, asked) == set(), "published without a consent of his"
    await bob.consent(stranger, Recipients(named=frozenset({alice.peer_id.hex()})))
    assert await found(alice, bob, asked) == {OTHERS}
    with pytest.raises(Conflict, match="later change"):
        await bob.patients.undo(1, OFFICER)
    await bob.patients.undo(made.row.change, OFFICER)
    assert await found(alice, bob, asked) == set()
    assert await found(alice, bob, ASK_MUELLER) == {OWN, OTHERS}
    assert await bob.db.read(lambda tx: patients.find(tx, JANE.issuer, "MRN-00123")) is None


async def test_what_makes_no_sense_changes_nothing(hospitals):
    _, bob = hospitals
    nobody = PatientIdentifier("1.2.3", "X-1")
    with pytest.raises(NotFound):
        await bob.patients.merge(nobody, id_of(JANE), OFFICER, "")
    with pytest.raises(Conflict):
        await bob.patients.merge(id_of(JANE), id_of(JANE), OFFICER, "")
    with pytest.raises(NotFound):
        await bob.patients.split(["9.9.9"], OLSEN, OFFICER, "")
    with pytest.raises(Conflict):
        await bob.patients.split([OWN, OTHERS], OLSEN, OFFICER, "")
    with pytest.raises(Conflict):
        await bob.patients.split([OWN], JANE, OFFICER, "")
    with pytest.raises(NotFound):
        await bob.patients.undo(7, OFFICER)
    assert await bob.patients.list() == []
    assert len(await bob.db.read(publications.patients)) == 2


async def test_a_late_instance_of_what_was_split_off_does_not_keep_it_from_being_undone(hospitals):
    _, bob = hospitals
    stranger = replace(JANE, patient_id="MRN-00123", names=("Berg^Karl",))
    made = await bob.patients.split([OWN], stranger, OFFICER, "mixed up at the scanner")
    late = make_header(OWN, JANE, "20260102", "CT")
    await bob.db.write(
        lambda tx: instances.add_study(
            tx, late, issuer=JANE.issuer, wrapped_key=b"k" * 72, origin=None, now=bob.clock.now()
        )
    )
    assert (await bob.db.read(lambda tx: studies.get(tx, OWN))).held_back
    await bob.patients.undo(made.row.change, OFFICER)
    study = await bob.db.read(lambda tx: studies.get(tx, OWN))
    jane = await bob.db.read(lambda tx: patients.find(tx, JANE.issuer, JANE.patient_id))
    assert study.patient == jane.patient


async def test_no_change_is_undone_upon_strangers_who_got_the_numbers(hospitals):
    _, bob = hospitals
    made = await merged(bob)

    def purge(tx):
        for uid in (OWN, OTHERS):
            packs.remove_study(tx, uid)

    await bob.db.write(purge)
    strangers = [
        replace(JANE, patient_id=f"S-{at}", names=(f"Berg^{at}",), birth_date=f"195{at}0101")
        for at in (1, 2)
    ]
    for at, stranger in enumerate(strangers):
        await bob.acquire(f"1.2.9.{at}", stranger)
    numbers = (1, 2)
    before = await bob.db.read(lambda tx: [patients.get(tx, number) for number in numbers])
    assert [each.patient_id for each in before] == ["S-1", "S-2"], "the numbers were not reused"
    with pytest.raises(NotFound):
        await bob.patients.undo(made.row.change, OFFICER)
    after = await bob.db.read(lambda tx: [patients.get(tx, number) for number in numbers])
    assert after == before
    assert await bob.patients.list() == []


async def test_it_is_on_record_of_both_with_the_reason(hospitals):
    _, bob = hospitals
    made = await merged(bob)
    await bob.patients.undo(made.row.change, OFFICER)
    records = [json.loads(line) async for line in bob.audit.export(None, None)]
    changes = [each for each in records if each["action"] == "patient-change"]
    assert [(each["patient"], each["detail"]["what"]) for each in changes] == [
        ("2", "made"),
        ("1", "made"),
        ("2", "undone"),
        ("1", "undone"),
    ]
    assert {each["detail"]["reason"] for each in changes} == {"one woman"}
    assert (await bob.audit.verify()).ok


async def test_what_was_said_of_a_record_outlives_the_merge(hospitals):
    """Alice has said that Bob's record is not the patient whom she then merges into another."""
    alice, bob = hospitals
    await alice.acquire("1.2.7.1", replace(JANE, patient_id="A-11111"))
    answer = await alice.find(ASK_MUELLER)
    theirs = next(each for each in answer.results if not each.local)
    await alice.person_links.say(answer.ref, theirs.ref, CLINICIAN, same=False)
    assert await found(alice, bob, ASK_MUELLER) == set()
    await alice.acquire("1.2.7.2", replace(JANE, patient_id="A-22222"))
    old, new = (PatientIdentifier(JANE.issuer, each) for each in ("A-11111", "A-22222"))
    await alice.patients.merge(old, new, OFFICER, "one woman")
    assert await found(alice, bob, ASK_MUELLER) == set()
