"""A retrieved study is kept as it came, whole, under our own keys, and mixed with no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.actors import Actor
from peer.errors import Conflict, Damaged
from peer.index import instances, packs, patients, studies
from peer.ingest import ReceivedStudy
from peer.store import unwrap_pack_key, unwrap_study_key
from protocol.errors import Refusal
from protocol.identifiers import PeerId
from protocol.manifest import sign_manifest
from tests.dicom_samples import instance
from tests.intake import STORE_KEY, open_intake

ALICE = PeerId(b"a" * 32)
CAROL = PeerId(b"c" * 32)
CLINICIAN = Actor("Clara", "person", frozenset({"clinician"}))
STUDY = "1.2.3"


async def received(origin, recipient, peer=ALICE) -> ReceivedStudy:
    """Copy a study's packs as a retrieval does, and return what ingest is handed."""

    def look_up(tx):
        manifest = packs.build_manifest(tx, STUDY)
        wrapped = packs.wrapped_study_key(tx, STUDY)
        study_key = unwrap_study_key(STORE_KEY, wrapped, STUDY)
        keys = {
            row.pack_id: unwrap_pack_key(study_key, row.wrapped_key, row.pack_id)
            for row in packs.of_study(tx, STUDY)
        }
        return manifest, keys

    manifest, keys = await origin.db.read(look_up)
    sizes = {pack: origin.store.sizes()[pack] for pack in manifest.packs}
    for pack, size in sizes.items():
        if pack in recipient.store.sizes():
            continue
        receiver = recipient.store.receive(pack, size)
        receiver.write_at(0, origin.store.read_range(pack, 0, size))
        receiver.finish()
    signed = sign_manifest(manifest, lambda _: bytes(64))
    return ReceivedStudy(peer, manifest, signed, keys, sizes)


@pytest.fixture
async def alice(tmp_path):
    async with open_intake(tmp_path / "alice") as opened:
        for number in range(1, 6):
            await opened.take(instance(number, pixels=bytes([number]) * 300_000))
        yield opened


@pytest.fixture
async def bob(tmp_path):
    async with open_intake(tmp_path / "bob") as opened:
        yield opened


async def test_a_study_is_adopted_whole(alice, bob):
    study = await received(alice, bob)
    adopted = await bob.ingest.adopt(study, CLINICIAN)
    assert (adopted.instances, adopted.added) == (5, 5)
    for number in range(1, 6):
        uid = f"1.2.3.1.{number}"
        assert await bob.read(uid) == await alice.read(uid)
    row = await bob.db.read(lambda tx: studies.get(tx, STUDY))
    assert (row.origin, row.manifest_version, row.settled_at) == (ALICE, 1, bob.clock.now())
    assert bob.store.sizes() == study.pack_sizes
    here = await bob.db.read(lambda tx: instances.locate(tx, "1.2.3.1.1"))
    there = await alice.db.read(lambda tx: instances.locate(tx, "1.2.3.1.1"))
    assert here.wrapped_study_key != there.wrapped_study_key
    lines = [line async for line in bob.audit.export(None, None)]
    assert ALICE.hex() in lines[-1]


async def test_it_survives_a_restart(alice, tmp_path):
    async with open_intake(tmp_path / "carol") as carol:
        await carol.ingest.adopt(await received(alice, carol), CLINICIAN)
    async with open_intake(tmp_path / "carol") as carol:
        assert carol.recovered == carol.recovered.__class__(0, 0, ())
        assert await carol.read("1.2.3.1.5") == await alice.read("1.2.3.1.5")


async def test_a_newer_version_adds_what_is_new(alice, bob):
    await bob.ingest.adopt(await received(alice, bob), CLINICIAN)
    await alice.ingest.settle()
    await alice.take(instance(6))
    newer = await received(alice, bob)
    newer = replace(newer, manifest=replace(newer.manifest, version=2))
    adopted = await bob.ingest.adopt(newer, CLINICIAN)
    assert (adopted.instances, adopted.added) == (6, 1)
    assert (await bob.db.read(lambda tx: studies.get(tx, STUDY))).manifest_version == 2


async def test_the_same_number_at_two_facilities_is_two_patients(alice, bob):
    await bob.take(instance(1, study="1.2.9"))
    await bob.ingest.adopt(await received(alice, bob), CLINICIAN)
    ours = await bob.db.read(lambda tx: studies.get(tx, "1.2.9"))
    theirs = await bob.db.read(lambda tx: studies.get(tx, STUDY))
    assert ours.patient != theirs.patient
    patient = await bob.db.read(lambda tx: patients.get(tx, theirs.patient))
    assert (patient.issuer, patient.patient_id) == (f"peer:{ALICE.hex()}", "MRN-1")


async def test_nothing_is_mixed_into_a_study_of_our_own(alice, bob):
    await bob.take(instance(1, pixels=bytes([1]) * 300_000))
    with pytest.raises(Conflict, match="another source"):
        await bob.ingest.adopt(await received(alice, bob), CLINICIAN)
    assert (await bob.db.read(lambda tx: studies.get(tx, STUDY))).instances == 1


async def test_nothing_is_mixed_into_a_copy_from_elsewhere(alice, bob):
    await bob.ingest.adopt(await received(alice, bob), CLINICIAN)
    await alice.ingest.settle()
    await alice.take(instance(7))
    with pytest.raises(Conflict):
        await bob.ingest.adopt(await received(alice, bob, CAROL), CLINICIAN)


async def test_a_study_that_is_held_already_adds_nothing(alice, bob):
    study = await received(alice, bob)
    await bob.ingest.adopt(study, CLINICIAN)
    again = await bob.ingest.adopt(study, CLINICIAN)
    assert (again.instances, again.added) == (5, 0)


async def test_packs_that_are_not_needed_do_not_stay(alice, bob):
    for number in range(1, 6):
        await bob.take(instance(number, pixels=bytes([number]) * 300_000))
    before = bob.store.sizes()
    adopted = await bob.ingest.adopt(await received(alice, bob), CLINICIAN)
    assert (adopted.instances, adopted.added) == (5, 0)
    assert bob.store.sizes() == before
    assert (await bob.db.read(lambda tx: studies.get(tx, STUDY))).origin is None


async def test_other_content_under_a_held_uid_changes_nothing(alice, bob):
    await bob.take(instance(3, PatientName="Someone^Else", study=STUDY))
    with pytest.raises(Conflict, match="other content"):
        await bob.ingest.adopt(await received(alice, bob), CLINICIAN)


@pytest.mark.parametrize(
    "change",
    [
        {"content_hash": bytes(32)},
        {"sop_instance_uid": "9.9.9"},
        {"series_instance_uid": "9.9.9"},
        {"sop_class_uid": "9.9.9"},
        {"transfer_syntax_uid": "1.2.840.10008.1.2"},
    ],
)
async def test_a_manifest_that_lies_about_an_instance_brings_nothing(alice, bob, change):
    study = await received(alice, bob)
    first, *others = study.manifest.instances
    lying = replace(study.manifest, instances=(*others, replace(first, **change)))
    with pytest.raises(Refusal) as caught:
        await bob.ingest.adopt(replace(study, manifest=lying), CLINICIAN)
    assert caught.value.code == "wrong-content"
    assert await bob.db.read(studies.count) == (0, 0)


async def test_a_wrong_key_brings_nothing(alice, bob):
    study = await received(alice, bob)
    keys = dict.fromkeys(study.pack_keys, bytes(32))
    with pytest.raises(Damaged):
        await bob.ingest.adopt(replace(study, pack_keys=keys), CLINICIAN)
    assert await bob.db.read(studies.count) == (0, 0)


async def test_an_instance_of_our_own_makes_a_copy_ours_and_holds_it_back(alice, bob):
    await bob.ingest.adopt(await received(alice, bob), CLINICIAN)
    assert (await bob.take(instance(1, study=STUDY, pixels=bytes([1]) * 300_000))).status == (
        "duplicate"
    )
    assert (await bob.db.read(lambda tx: studies.get(tx, STUDY))).origin == ALICE
    assert (await bob.take(instance(8, StudyDate="20250102"))).status == "accepted"
    row = await bob.db.read(lambda tx: studies.get(tx, STUDY))
    assert (row.origin, row.held_back, row.instances) == (None, True, 6)
    assert "another facility" in row.held_reason
