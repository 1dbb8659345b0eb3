"""C-FIND, C-GET and C-MOVE over every facility, for the AEs that an operator lets ask them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from pydantic import ValidationError
from pynetdicom import AE

from peer.config import Settings
from peer.dicom.part10 import read_file_meta
from peer.dimse import Archive, DicomListener, Elsewhere
from peer.dimse.elsewhere import UNREACHED_S
from peer.dimse.finding import MODELS
from tests.facilities import ISSUER, JANE, OFFICER, everyone_shares
from tests.transfers import STUDY, hospitals
from tests.unit.test_dimse import run
from tests.unit.test_dimse_retrieve import STUDY_GET, get, move, receiver, wanted

OURS = "1.2.3.1"
SERVICES = ["echo", "find", "get", "move"]


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as (alice, bob):
        await alice.scan(OURS, count=1, size=512)
        files = await bob.scan(STUDY, count=2, size=512, Modality="MR")
        await alice.consent()
        bob.given = await bob.consent()
        await everyone_shares(alice, bob)
        yield alice, bob, files


@asynccontextmanager
async def workstation(hospital, port=104, **more):
    """Listen at a hospital; its AE WS may ask every facility, PLAIN only this one."""
    ae = {"host": "127.0.0.1", "port": port, "allowed": SERVICES}
    known = [
        {"title": "WS", "federated": True, "issuer": ISSUER, **ae, **more},
        {"title": "PLAIN", **ae},
    ]
    settings = Settings(dicom={"port": 0, "known_aes": known})
    loop = asyncio.get_running_loop()
    archive = Archive(
        hospital.db, hospital.audit, hospital.access, hospital.retrieve.read_instance, loop
    )
    elsewhere = Elsewhere(archive, hospital.search, hospital.retrieve)
    listener = DicomListener(settings, hospital.ingest, archive, elsewhere)
    await listener.start()
    hospital.listener, hospital.elsewhere = listener, elsewhere
    try:
        yield listener.port
    finally:
        await listener.stop()


def of_jane(**keys):
    asked = wanted(PatientName=JANE.names[0], PatientBirthDate=JANE.birth_date)
    returned = ("StudyInstanceUID", "InstanceAvailability", "InstitutionName", "ModalitiesInStudy")
    for keyword in returned:
        setattr(asked, keyword, "")
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked


async def find(port, asked, *, title="WS"):
    """Return the matches, and the last status."""

    def work():
        ae = AE(ae_title=title)
        ae.add_requested_context(MODELS[1])
        association = ae.associate("127.0.0.1", port, ae_title="OPENPRIORS")
        assert association.is_established
        responses = list(association.send_c_find(asked, MODELS[1]))
        association.release()
        return [each for _, each in responses if each is not None], responses[-1][0]

    return await asyncio.to_thread(work)


async def test_a_study_of_another_hospital_is_listed_and_marked_as_such(pair):
    alice, *_ = pair
    async with workstation(alice) as port:
        found, last = await find(port, of_jane())
    shown = {each.StudyInstanceUID: each for each in found}
    assert set(shown) == {OURS, STUDY}
    assert shown[OURS].InstanceAvailability == "ONLINE"
    assert shown[OURS].RetrieveAETitle == shown[STUDY].RetrieveAETitle == "OPENPRIORS"
    assert shown[STUDY].InstanceAvailability == "NEARLINE"
    assert shown[STUDY].InstitutionName == "Bob"
    assert shown[STUDY].PatientName == JANE.names[0]
    assert last.Status == 0x0000
    searches = await alice.actions("search")
    assert {(each["actor"]["name"], each["actor"]["kind"]) for each in searches} == {("WS", "ae")}


async def test_a_patient_id_is_of_the_issuer_that_the_operator_named(pair):
    alice, *_ = pair
    asked = wanted(PatientID=JANE.patient_id, StudyInstanceUID="")
    async with workstation(alice) as port:
        found, _ = await find(port, asked)
        assert {each.StudyInstanceUID for each in found} == {OURS, STUDY}
    async with workstation(alice, issuer="") as port:
        found, last = await find(port, asked)
        assert {each.StudyInstanceUID for each in found} == {OURS}
        assert last.ErrorComment.startswith("Only here: ")


async def test_modality_and_dates_narrow_the_list_down(pair):
    alice, *_ = pair
    async with workstation(alice) as port:
        found, _ = await find(port, of_jane(ModalitiesInStudy="MR"))
        assert [each.StudyInstanceUID for each in found] == [STUDY]
        found, _ = await find(port, of_jane(StudyDate="20270101-"))
        assert found == []


async def test_an_ae_that_is_not_enabled_asks_nobody(pair):
    alice, *_ = pair
    async with workstation(alice) as port:
        alice.links.sent.clear()
        found, _ = await find(port, of_jane(), title="PLAIN")
        assert [each.StudyInstanceUID for each in found] == [OURS]
        _, got = await get(port, wanted(StudyInstanceUID=STUDY), title="PLAIN")
        assert got == {}
        assert alice.links.sent == []


async def test_who_was_not_reached_is_said(pair):
    alice, bob, _ = pair
    async with workstation(alice) as port:
        await find(port, of_jane())
        alice.links.offline = {bob.peer_id}
        found, last = await find(port, of_jane())
    availability = {each.StudyInstanceUID: each.InstanceAvailability for each in found}
    assert availability == {OURS: "ONLINE", STUDY: "UNAVAILABLE"}
    assert "1 of 2" in last.ErrorComment


async def test_a_workstation_gets_a_study_that_lives_elsewhere(pair):
    alice, _, files = pair
    async with workstation(alice) as port:
        await find(port, of_jane())
        responses, got = await get(port, wanted(StudyInstanceUID=STUDY))
    last, _ = responses[-1]
    assert (last.Status, last.NumberOfCompletedSuboperations) == (0x0000, 2)
    assert got == {uid: data[read_file_meta(data)[1] :] for uid, data in files.items()}
    (begun,) = await alice.actions("retrieve")
    assert (begun["actor"]["name"], begun["actor"]["kind"]) == ("WS", "ae")


async def test_a_study_that_lives_elsewhere_is_moved(pair):
    alice, _, files = pair
    async with receiver() as (there, got), workstation(alice, there) as port:
        await find(port, of_jane())
        responses = await move(port, wanted(StudyInstanceUID=STUDY))
        assert responses[-1][0].Status == 0x0000
        assert set(got) == set(files)
        assert responses[0][0].Status == 0xFF00, "told that it is being fetched"


async def test_what_is_refused_is_named(pair):
    alice, bob, _ = pair
    async with workstation(alice) as port:
        await find(port, of_jane())
        await bob.consents.revoke(bob.given.directive_id, "", OFFICER)
        responses, got = await get(port, wanted(StudyInstanceUID=STUDY))
    last, _ = responses[-1]
    assert got == {}
    assert last.Status == 0xA702
    assert last.ErrorComment


async def test_what_is_here_is_sent_though_something_else_does_not_come(pair):
    alice, bob, _ = pair
    async with workstation(alice) as port:
        await find(port, of_jane())
        await bob.consents.revoke(bob.given.directive_id, "", OFFICER)
        responses, got = await get(port, wanted(StudyInstanceUID=[OURS, STUDY]))
    last, _ = responses[-1]
    assert len(got) == 1
    assert (last.Status, last.NumberOfCompletedSuboperations) == (0xB000, 1)
    assert last.ErrorComment


async def test_a_study_of_another_patient_than_the_one_named_is_not_fetched(pair):
    alice, *_ = pair
    async with workstation(alice) as port:
        await find(port, of_jane())
        responses, got = await get(port, wanted(StudyInstanceUID=STUDY, PatientID="SOMEBODY"))
        assert (responses[-1][0].Status, got) == (0x0000, {})
        assert await alice.actions("retrieve") == []


async def test_only_so_many_wait_for_other_hospitals(pair):
    alice, *_ = pair
    async with workstation(alice) as port:
        await find(port, of_jane())
        while alice.elsewhere.waiting.acquire(blocking=False):
            pass
        responses, _ = await get(port, wanted(StudyInstanceUID=STUDY))
    assert responses[-1][0].Status == 0xA702
    assert "Ask again" in responses[-1][0].ErrorComment


async def test_an_asker_that_has_gone_is_waited_for_no_longer(pair):
    alice, bob, _ = pair
    ae = AE(ae_title="WS")
    ae.add_requested_context(STUDY_GET)
    async with workstation(alice) as port:
        await find(port, of_jane())
        alice.links.offline = {bob.peer_id}
        association = await asyncio.to_thread(
            ae.associate, "127.0.0.1", port, ae_title="OPENPRIORS"
        )
        responses = association.send_c_get(wanted(StudyInstanceUID=STUDY), STUDY_GET)
        await asyncio.to_thread(next, responses)
        waiting = alice.listener._ae.active_associations
        assert len(waiting) == 1
        await asyncio.to_thread(association.abort)
        await asyncio.to_thread(waiting[0].join, UNREACHED_S / 2)
        assert not waiting[0].is_alive()


async def test_what_no_search_has_listed_is_not_fetched(pair):
    alice, *_ = pair
    async with workstation(alice) as port:
        responses, got = await get(port, wanted(StudyInstanceUID=STUDY))
    assert responses[-1][0].Status == 0x0000
    assert got == {}


async def test_its_own_limit_counts(pair):
    alice, *_ = pair
    async with workstation(alice, per_hour=1) as port:
        await find(port, of_jane())
        _, last = await find(port, of_jane())
    assert "1 of 2" in last.ErrorComment


async def test_dcmtk_finds_and_gets(pair, tmp_path):
    alice, _, files = pair
    keys = [
        "-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientName={JANE.names[0]}",
        "-k", f"PatientBirthDate={JANE.birth_date}", "-k", "StudyInstanceUID",
    ]  # fmt: skip
    async with workstation(alice) as port:
        who = ["-aet", "WS", "-aec", "OPENPRIORS", "127.0.0.1", str(port)]
        found = await run("findscu", "-S", *keys, *who)
        assert STUDY in found.stdout + found.stderr
        folder = tmp_path / "got"
        folder.mkdir()
        asked = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={STUDY}"]
        fetched = await run("getscu", "-S", "-od", str(folder), *asked, *who)
        assert fetched.returncode == 0, fetched.stderr
    assert len(list(folder.iterdir())) == len(files)


def test_an_ae_without_an_address_cannot_be_enabled():
    with pytest.raises(ValidationError, match="has no host"):
        Settings(dicom={"known_aes": [{"title": "WS", "federated": True}]})
