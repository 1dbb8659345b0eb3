"""C-FIND: every level, key and character set, asked by pynetdicom and by dcmtk's findscu."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import asynccontextmanager
from io import BytesIO
from types import SimpleNamespace

import pydicom.data
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_FIND
from pynetdicom.dsutils import encode

from peer.actors import NODE
from peer.dimse import listener, outgoing
from peer.dimse.finding import MODELS, Finding, read_request
from tests.dicom_samples import data_set, encoded, instance
from tests.unit.test_dimse import listening, run

PATIENT_ROOT, STUDY_ROOT = MODELS
WORKSTATION = {"title": "WS", "allowed": ["echo", "find"], "purpose": "ETREAT"}
STUDIES = (
    (
        "1.2.1",
        {
            "PatientName": "Doe^Jane",
            "PatientID": "A1",
            "StudyDate": "20200105",
            "StudyTime": "081500",
            "AccessionNumber": "ACC-1",
            "StudyDescription": "Chest",
        },
    ),
    (
        "1.2.2",
        {
            "PatientName": "Doe^John",
            "PatientID": "A2",
            "StudyDate": "20210105",
            "StudyTime": "235959.5",
            "AccessionNumber": "ACC-2",
            "Modality": "MR",
            "StudyID": "S2",
            "PatientBirthDate": "19500101",
            "PatientSex": "M",
        },
    ),
    (
        "1.2.3",
        {
            "PatientName": "Müller^Ä",
            "SpecificCharacterSet": "ISO_IR 100",
            "PatientID": "B1",
            "IssuerOfPatientID": "ELSEWHERE",
            "StudyDate": "20220105",
        },
    ),
)


@asynccontextmanager
async def archive(tmp_path, **dicom):
    async with listening(tmp_path, known_aes=[WORKSTATION], **dicom) as (intake, port):
        for study, changes in STUDIES:
            for number in (1, 2):
                outcome = await intake.take(instance(number, study=study, **changes))
                assert outcome.status == "accepted", outcome
        yield intake, port


def identifier(level, **keys):
    asked = Dataset()
    if level:
        asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked


async def find(port, level, *, model=STUDY_ROOT, title="WS", asked=None, **keys):
    """Return the final status and every match."""

    def work():
        ae = AE(ae_title=title)
        ae.add_requested_context(model)
        association = ae.associate("127.0.0.1", port, ae_title="OPENPRIORS")
        assert association.is_established
        try:
            responses = list(association.send_c_find(asked or identifier(level, **keys), model))
        finally:
            association.release()
        return responses[-1][0], [
            found for status, found in responses if status.Status & 0xFF00 == 0xFF00
        ]

    return await asyncio.to_thread(work)


def uids(matches):
    return {each.StudyInstanceUID for each in matches}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, {"1.2.1", "1.2.2", "1.2.3"}),
        ({"PatientID": "A1"}, {"1.2.1"}),
        ({"PatientID": "A*"}, {"1.2.1", "1.2.2"}),
        ({"PatientID": "?1"}, {"1.2.1", "1.2.3"}),
        ({"PatientName": "doe^jane"}, {"1.2.1"}),
        ({"PatientName": "DOE*"}, {"1.2.1", "1.2.2"}),
        ({"PatientName": "Doe"}, set()),
        ({"StudyDate": "20210105"}, {"1.2.2"}),
        ({"StudyDate": "20210101-20221231"}, {"1.2.2", "1.2.3"}),
        ({"StudyDate": "20210106-"}, {"1.2.3"}),
        ({"StudyDate": "-20200105"}, {"1.2.1"}),
        ({"StudyTime": "08-09"}, {"1.2.1"}),
        ({"StudyTime": "0900-2359"}, {"1.2.2"}),
        ({"PatientBirthDate": "19490101-19510101"}, {"1.2.2"}),
        ({"PatientSex": "M"}, {"1.2.2"}),
        ({"AccessionNumber": "ACC-2"}, {"1.2.2"}),
        ({"StudyID": "S2"}, {"1.2.2"}),
        ({"StudyDescription": "ch*"}, {"1.2.1"}),
        ({"ModalitiesInStudy": "MR"}, {"1.2.2"}),
        ({"ModalitiesInStudy": ["MR", "CT"]}, {"1.2.1", "1.2.2", "1.2.3"}),
        ({"ModalitiesInStudy": "C*"}, {"1.2.1", "1.2.3"}),
        ({"StudyInstanceUID": ["1.2.1", "1.2.3", "1.2.99"]}, {"1.2.1", "1.2.3"}),
        ({"IssuerOfPatientID": "ELSEWHERE"}, {"1.2.3"}),
        ({"PatientID": "*", "PatientName": "*"}, {"1.2.1", "1.2.2", "1.2.3"}),
    ],
)
async def test_studies_are_matched_as_the_standard_says(tmp_path, keys, expected):
    async with archive(tmp_path) as (_, port):
        status, matches = await find(port, "STUDY", **({"StudyInstanceUID": ""} | keys))
        assert status.Status == 0x0000
        assert uids(matches) == expected


async def test_a_sequence_is_matched_by_what_it_holds(tmp_path):
    async with archive(tmp_path) as (intake, port):
        qualifier = Dataset()
        qualifier.UniversalEntityID = "2.999.7"
        qualifier.UniversalEntityIDType = "ISO"
        made = data_set(StudyInstanceUID="1.2.7", SOPInstanceUID="1.2.7.1", PatientID="A1")
        made.IssuerOfPatientIDQualifiersSequence = [qualifier]
        assert (await intake.take(encoded(made))).status == "accepted"
        asked = identifier("STUDY", PatientID="A1", StudyInstanceUID="")
        wanted = Dataset()
        wanted.UniversalEntityID = "2.999.7"
        asked.IssuerOfPatientIDQualifiersSequence = [wanted]
        _, matches = await find(port, "STUDY", asked=asked)
        assert uids(matches) == {"1.2.7"}


async def test_every_level_of_both_models(tmp_path):
    async with archive(tmp_path) as (_, port):
        counts = {"NumberOfPatientRelatedStudies": "", "NumberOfPatientRelatedInstances": ""}
        _, people = await find(
            port, "PATIENT", model=PATIENT_ROOT, PatientID="", PatientName="", **counts
        )
        assert {each.PatientID for each in people} == {"A1", "A2", "B1"}
        assert {each.NumberOfPatientRelatedInstances for each in people} == {2}
        for model in (PATIENT_ROOT, STUDY_ROOT):
            _, found = await find(
                port, "STUDY", model=model, PatientID="A1", NumberOfStudyRelatedInstances=""
            )
            assert [each.NumberOfStudyRelatedInstances for each in found] == [2]
            _, found = await find(
                port, "SERIES", model=model, StudyInstanceUID="1.2.2", Modality=""
            )
            assert [(each.SeriesInstanceUID, each.Modality) for each in found] == [
                ("1.2.2.1", "MR")
            ]
            _, found = await find(
                port,
                "IMAGE",
                model=model,
                StudyInstanceUID="1.2.2",
                SeriesInstanceUID="1.2.2.1",
                InstanceNumber="2",
                SOPClassUID="",
            )
            assert [each.SOPInstanceUID for each in found] == ["1.2.2.1.2"]
        # Relational: nothing above is named.
        _, found = await find(port, "IMAGE", SOPInstanceUID=["1.2.3.1.1", "1.2.1.1.2"])
        assert uids(found) == {"1.2.1", "1.2.3"}
        _, found = await find(port, "SERIES", SeriesInstanceUID="1.2.3.1", PatientName="")
        assert [str(each.PatientName) for each in found] == ["Müller^Ä"]


async def test_what_a_response_holds(tmp_path):
    async with archive(tmp_path) as (_, port):
        status, (found,) = await find(
            port, "STUDY", PatientID="A2", PatientSex="", StudyDate="", ReferringPhysicianName=""
        )
        assert status.Status == 0
        assert found.QueryRetrieveLevel == "STUDY"
        assert found.RetrieveAETitle == "OPENPRIORS"
        assert found.InstanceAvailability == "ONLINE"
        assert (found.StudyInstanceUID, found.PatientSex) == ("1.2.2", "M")
        assert found.ReferringPhysicianName == ""
        assert "PatientName" not in found, "not asked for"
        assert "SpecificCharacterSet" not in found, "all ASCII"


async def test_what_is_not_supported_is_said(tmp_path):
    async with archive(tmp_path) as (_, port):

        def work():
            ae = AE(ae_title="WS")
            ae.add_requested_context(STUDY_ROOT)
            association = ae.associate("127.0.0.1", port, ae_title="OPENPRIORS")
            asked = identifier("STUDY", PatientID="A1", OperatorsName="X")
            answers = [each[0].Status for each in association.send_c_find(asked, STUDY_ROOT)]
            association.release()
            return answers

        assert await asyncio.to_thread(work) == [0xFF01, 0x0000]


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        (identifier("", PatientID="A1"), STUDY_ROOT),
        (identifier("NONE", PatientID="A1"), STUDY_ROOT),
        (identifier("PATIENT", PatientID="A1"), STUDY_ROOT),
        (identifier("STUDY", StudyInstanceUID="1.2.x"), STUDY_ROOT),
        (identifier("STUDY", PatientID="A" * 2000), STUDY_ROOT),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_a_wrong_query_is_refused(tmp_path, asked, model):
    async with archive(tmp_path) as (_, port):
        status, matches = await find(port, "", asked=asked, model=model)
        assert (status.Status, matches) == (0xA900, [])
        assert 0 < len(status.ErrorComment) <= 64
        assert (await find(port, "STUDY", PatientID="A1"))[0].Status == 0, "and goes on"


async def find_raw(port, data):
    """Send the bytes as an identifier; return the status of the first response."""

    def work():
        ae = AE(ae_title="WS")
        ae.add_requested_context(STUDY_ROOT, "1.2.840.10008.1.2")
        association = ae.associate("127.0.0.1", port, ae_title="OPENPRIORS")
        assert association.is_established
        request = C_FIND()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.Identifier = STUDY_ROOT, BytesIO(data)
        association._reactor_checkpoint.clear()
        while not association._is_paused:
            pass
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        association.abort()
        return answer.Status

    return await asyncio.to_thread(work)


async def test_nonsense_is_refused_and_the_node_stays_up(tmp_path):
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x40\x11\xff\xff\xff\xff"
    head = encode(identifier("STUDY", PatientID="A1"), True, True)
    async with archive(tmp_path) as (_, port):
        for nonsense in (
            b"\x08\x00\x52\x00\xff\xff\x00\x00ST",  # ends within a value
            head[:-1],
            b"\x08\x00\x40\x11\xff\xff\xff\xff" + item * 5000,  # nested too deep, without an end
            head + bytes(range(256)) * 40,
            b"\x10\x00\x20\x00\x00\x00\x08\x00" + bytes(0x80000),  # too long
        ):
            assert await find_raw(port, nonsense) == 0xA900
        assert (await find(port, "STUDY", PatientID="A1"))[0].Status == 0


async def test_too_many_matches_are_not_passed_over_in_silence(tmp_path):
    async with archive(tmp_path, max_results=100) as (intake, port):
        for number in range(3, 104):
            await intake.take(instance(number, study="1.2.1", **STUDIES[0][1]))
        status, matches = await find(
            port, "IMAGE", StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1"
        )
        assert (status.Status, len(matches)) == (0xA700, 100)
        assert "100" in status.ErrorComment


async def test_a_query_can_be_cancelled(tmp_path, monkeypatch):
    is_over, turns = listener._is_over, itertools.count()

    def once_the_cancel_is_there(event):
        deadline = time.monotonic() + 60
        while next(turns) > 3 and not event.assoc.dimse.cancel_req:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return is_over(event)

    monkeypatch.setattr(listener, "_is_over", once_the_cancel_is_there)
    async with archive(tmp_path) as (intake, port):
        for number in range(3, 20):
            await intake.take(instance(number, study="1.2.1", **STUDIES[0][1]))

        def work():
            ae = AE(ae_title="WS")
            ae.add_requested_context(STUDY_ROOT)
            association = ae.associate("127.0.0.1", port, ae_title="OPENPRIORS")
            asked = identifier("IMAGE", StudyInstanceUID="1.2.1", SOPInstanceUID="")
            statuses = []
            for status, _ in association.send_c_find(asked, STUDY_ROOT, msg_id=7):
                if not statuses:
                    association.send_c_cancel(7, None, STUDY_ROOT)
                statuses.append(status.Status)
            association.release()
            return statuses

        statuses = await asyncio.to_thread(work)
        assert statuses[-1] == 0xFE00
        assert len(statuses) < 19


def test_a_query_that_finds_nothing_for_long_can_be_cancelled(monkeypatch):
    finding = Finding(None, None, 100)
    monkeypatch.setattr(finding, "_record", lambda *_: None)
    monkeypatch.setattr(finding, "_studies", lambda _: iter([[]] * 10))
    data = encode(
        identifier("IMAGE", SOPInstanceUID=""), is_implicit_vr=True, is_little_endian=True
    )
    asked = read_request(data, STUDY_ROOT, ImplicitVRLittleEndian, "OPENPRIORS")
    turns = iter([False, False, True])
    assert list(finding.respond(asked, NODE, lambda: next(turns))) == [(0xFE00, None)]


async def test_who_may_not_ask_is_told_and_nothing_else(tmp_path):
    known = [WORKSTATION | {"title": "CT1", "allowed": ["store"]}, WORKSTATION]
    async with listening(tmp_path, known_aes=known, accept_unknown=True) as (intake, port):
        await intake.take(instance(1))
        for title in ("CT1", "STRANGER"):
            status, matches = await find(port, "STUDY", title=title, PatientID="*")
            assert (status.Status, matches) == (0x0124, []), title
        assert len((await find(port, "STUDY", PatientID="*"))[1]) == 1


async def test_the_ae_is_on_record_for_what_it_looked_for(tmp_path):
    async with archive(tmp_path) as (intake, port):
        await find(port, "STUDY", PatientID="A1")
        *_, last = [json.loads(line) async for line in intake.audit.export(None, None)]
        assert (last["action"], last["outcome"]) == ("search", "success")
        assert last["detail"] == {"level": "studies", "source": "c-find"}
        who = last["actor"]
        assert (who["name"], who["kind"], who["purpose"]) == ("WS", "ae", "ETREAT")


NAMED = {
    "chrArab.dcm": "ISO_IR 127",
    "chrFren.dcm": "ISO_IR 100",
    "chrGerm.dcm": "ISO_IR 100",
    "chrGreek.dcm": "ISO_IR 126",
    "chrHbrw.dcm": "ISO_IR 138",
    "chrRuss.dcm": "ISO_IR 144",
    "chrX1.dcm": "ISO_IR 192",
    "chrX2.dcm": "GB18030",
    "chrH31.dcm": "\\ISO 2022 IR 87",
    "chrI2.dcm": "\\ISO 2022 IR 149",
}


@pytest.mark.parametrize(
    "path",
    [path for path in pydicom.data.get_charset_files("*.dcm") if "chrSQ" not in path],
    ids=lambda path: path.rsplit("/", 1)[-1],
)
async def test_a_name_is_found_in_each_script_it_is_written_in(tmp_path, path):
    held = pydicom.dcmread(path)
    name = str(held.PatientName)
    file = path.rsplit("/", 1)[-1]
    async with listening(tmp_path, known_aes=[WORKSTATION]) as (intake, port):
        made = data_set(SpecificCharacterSet=held.get("SpecificCharacterSet"))
        made.PatientName = held.PatientName
        if held.get("SpecificCharacterSet") is None:
            del made.SpecificCharacterSet
        outcome = await intake.take(encoded(made))
        assert outcome.status == "accepted", outcome
        for group in filter(None, name.split("=")):
            asked = identifier("STUDY", SpecificCharacterSet="ISO_IR 192", PatientName=group)
            _, matches = await find(port, "STUDY", asked=asked)
            assert [str(each.PatientName) for each in matches] == [name.rstrip("^= ")], group
        if file in NAMED:
            # Asked and answered in the character set of the asker.
            terms = NAMED[file].split("\\")
            asked = identifier("STUDY", PatientName=f"{name.split('=', maxsplit=1)[0]}*")
            asked.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
            _, matches = await find(port, "STUDY", asked=asked)
            assert [str(each.PatientName) for each in matches] == [name.rstrip("^= ")]
            said = matches[0].SpecificCharacterSet if not name.isascii() else ""
            assert said == asked.SpecificCharacterSet or name.isascii()


async def test_what_the_asker_cannot_write_comes_in_utf_8(tmp_path):
    async with archive(tmp_path) as (_, port):
        _, (found,) = await find(port, "STUDY", PatientID="B1", PatientName="")
        assert found.SpecificCharacterSet == "ISO_IR 192"
        assert found.PatientName == "Müller^Ä"


async def test_findscu_finds(tmp_path, outside_tool):
    findscu = outside_tool("findscu")
    async with archive(tmp_path) as (_, port):
        for model, level in (("-S", "STUDY"), ("-P", "PATIENT")):
            done = await run(
                findscu,
                model,
                "-v",
                "-aet",
                "WS",
                "-aec",
                "OPENPRIORS",
                "127.0.0.1",
                str(port),
                "-k",
                f"QueryRetrieveLevel={level}",
                "-k",
                "PatientID=A*",
                "-k",
                "PatientName",
            )
            said = done.stdout + done.stderr
            assert done.returncode == 0, said
            assert "Doe^Jane" in said
            assert "Doe^John" in said
            assert "ller" not in said


def test_matches_wait_for_who_does_not_read_them(monkeypatch):
    waiting = SimpleNamespace(qsize=lambda: next(sizes))
    machine = SimpleNamespace(current_state="Sta6")
    dul = SimpleNamespace(to_provider_queue=waiting, state_machine=machine, is_alive=lambda: True)
    asker, waits = SimpleNamespace(dul=dul, is_established=True), []
    monkeypatch.setattr(outgoing.time, "sleep", waits.append)
    sizes = iter([outgoing.WAITING, outgoing.WAITING, outgoing.WAITING - 1])
    outgoing.wait_for_room(asker)
    assert len(waits) == 2
    asker.is_established, sizes = False, itertools.repeat(outgoing.WAITING)
    with pytest.raises(outgoing.Gone):
        outgoing.wait_for_room(asker)
