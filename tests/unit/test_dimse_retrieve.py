"""C-GET and C-MOVE: dcmtk fetches what is held, byte for byte, and is told what failed."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from contextlib import asynccontextmanager
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, build_role, evt

from peer.dicom.part10 import read_file_meta
from peer.dimse.retrieving import MODELS
from peer.index import studies
from tests.dicom_samples import CT, data_set, encoded, instance, sample
from tests.processes import free_ports
from tests.unit.test_dimse import listening, run

PATIENT_GET, STUDY_GET, PATIENT_MOVE, STUDY_MOVE = MODELS
EVERYTHING = ["echo", "find", "get", "move"]
SAMPLES = ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm", "rtplan.dcm", "reportsi.dcm")


@asynccontextmanager
async def archive(tmp_path, port=104, **dicom):
    known = [
        {"title": "WS", "host": "127.0.0.1", "port": port, "allowed": EVERYTHING},
        {"title": "OTHER", "host": "127.0.0.1", "port": port, "allowed": EVERYTHING},
        {"title": "BOSS", "allowed": EVERYTHING, "move_to": ["WS"]},
        {"title": "QUIET", "allowed": ["echo"]},
    ]
    async with listening(tmp_path, known_aes=known, **dicom) as (intake, listening_port):
        yield intake, listening_port


def wanted(level="STUDY", **keys):
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked


@asynccontextmanager
async def receiver(title="WS", syntaxes=None, store=None):
    """Take instances as an AE of pynetdicom's; yield its port and the bytes of each data set."""
    got: dict[str, bytes] = {}
    (port,) = free_ports(1)

    def kept(event):
        if store is not None:
            return store(event)
        got[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0x0000

    ae = AE(ae_title=title)
    ae.add_supported_context(CT, syntaxes or [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    server = ae.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, kept)]
    )
    try:
        yield port, got
    finally:
        await asyncio.to_thread(server.shutdown)


async def move(port, asked, *, to="WS", title="WS", model=STUDY_MOVE, cancel_after=None):
    """Return the statuses of all responses, and the last identifier."""

    def work():
        ae = AE(ae_title=title)
        ae.add_requested_context(model)
        association = ae.associate("127.0.0.1", port, ae_title="OPENPRIORS")
        assert association.is_established
        responses = []
        for status, identifier in association.send_c_move(asked, to, model, msg_id=9):
            responses.append((status, identifier))
            if cancel_after is not None and len(responses) == cancel_after:
                association.send_c_cancel(9, None, model)
        association.release()
        return responses

    return await asyncio.to_thread(work)


async def get(port, asked, *, title="WS", model=STUDY_GET, syntax=ExplicitVRLittleEndian):
    """Return the responses and what came, by SOP Instance UID."""
    got: dict[str, bytes] = {}

    def kept(event):
        got[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return 0x0000

    def work():
        ae = AE(ae_title=title)
        ae.add_requested_context(model)
        ae.add_requested_context(CT, syntax)
        association = ae.associate(
            "127.0.0.1",
            port,
            ae_title="OPENPRIORS",
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, kept)],
        )
        assert association.is_established
        responses = list(association.send_c_get(asked, model))
        association.release()
        return responses

    return await asyncio.to_thread(work), got


async def test_what_is_moved_is_what_is_held(tmp_path):
    async with receiver() as (there, got), archive(tmp_path, there) as (intake, port):
        for number in (1, 2, 3):
            await intake.take(instance(number, pixels=bytes(300_000)))
        responses = await move(port, wanted(StudyInstanceUID="1.2.3"))
        status, _ = responses[-1]
        assert status.Status == 0x0000
        assert status.NumberOfCompletedSuboperations == 3
        assert status.NumberOfFailedSuboperations == 0
        assert responses[0][0].Status == 0xFF00
        assert responses[0][0].NumberOfRemainingSuboperations == 2
        for uid, body in got.items():
            held = await intake.read(uid)
            assert body == held[read_file_meta(held)[1] :]
        assert len(got) == 3
        lines = [json.loads(line) async for line in intake.audit.export(None, None)]
        (look,) = [line for line in lines if line["action"] == "view"]
        assert (look["actor"]["name"], look["actor"]["kind"]) == ("WS", "ae")
        assert look["detail"] == {"what": "c-move to WS"}
        assert look["study_instance_uid"] == "1.2.3"


async def test_series_and_instances_are_moved_alone(tmp_path):
    async with receiver() as (there, got), archive(tmp_path, there) as (intake, port):
        await intake.take(instance(1))
        await intake.take(instance(2))
        await intake.take(instance(3, SeriesInstanceUID="1.2.3.9"))
        await intake.take(instance(1, study="1.2.4", PatientID="P2"))
        series = wanted("SERIES", StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.9")
        await move(port, series)
        assert set(got) == {"1.2.3.1.3"}
        await move(
            port,
            wanted(
                "IMAGE",
                StudyInstanceUID="1.2.3",
                SeriesInstanceUID="1.2.3.1",
                SOPInstanceUID=["1.2.3.1.1", "1.2.3.1.77"],
            ),
        )
        assert set(got) == {"1.2.3.1.3", "1.2.3.1.1"}
        await move(port, wanted("PATIENT", PatientID="P2"), model=PATIENT_MOVE)
        assert "1.2.4.1.1" in got
        ((status, _),) = await move(port, wanted(StudyInstanceUID="1.2.99"))
        assert (status.Status, status.NumberOfCompletedSuboperations) == (0x0000, 0)


async def test_what_fails_is_named(tmp_path):
    def store(event):
        return 0xA700 if event.request.AffectedSOPInstanceUID.endswith(".2") else 0x0000

    async with receiver(store=store) as (there, _), archive(tmp_path, there) as (intake, port):
        for number in (1, 2, 3):
            await intake.take(instance(number))
        status, failed = (await move(port, wanted(StudyInstanceUID="1.2.3")))[-1]
        assert status.Status == 0xB000
        assert status.NumberOfCompletedSuboperations == 2
        assert status.NumberOfFailedSuboperations == 1
        assert failed.FailedSOPInstanceUIDList == "1.2.3.1.2"


async def test_a_receiver_that_takes_one_uncompressed_syntax_gets_that(tmp_path, outside_tool):
    async with (
        storescp(tmp_path / "moved", outside_tool, "+xi") as there,
        archive(tmp_path, there) as (intake, port),
    ):
        await intake.take(instance(1))
        await intake.take(sample("JPEG2000.dcm"))
        status, _ = (await move(port, wanted(StudyInstanceUID="1.2.3")))[-1]
        assert status.Status == 0x0000
        (path,) = [each for each in (tmp_path / "moved").rglob("*") if each.is_file()]
        read = pydicom.dcmread(path)
        assert read.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        held = pydicom.dcmread(BytesIO(await intake.read("1.2.3.1.1")))
        assert held.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (read.PatientName, read.PixelData) == (held.PatientName, held.PixelData)
        compressed = pydicom.dcmread(BytesIO(sample("JPEG2000.dcm"))).StudyInstanceUID
        status, failed = (await move(port, wanted(StudyInstanceUID=compressed)))[-1]
        assert status.Status == 0xA702, "nothing is decompressed behind anyone's back"
        assert failed is not None


async def test_a_destination_is_one_that_the_operator_allowed(tmp_path):
    async with receiver() as (there, got), archive(tmp_path, there) as (intake, port):
        await intake.take(instance(1))
        asked = wanted(StudyInstanceUID="1.2.3")
        for title, to, expected in (
            ("WS", "OTHER", 0xA801),
            ("WS", "NOBODY", 0xA801),
            ("BOSS", "BOSS", 0xA801),
            ("BOSS", "OTHER", 0xA801),
            ("QUIET", "WS", 0x0124),
        ):
            ((status, _),) = await move(port, asked, to=to, title=title)
            assert status.Status == expected, (title, to)
        assert not got
        assert (await move(port, asked, title="BOSS"))[-1][0].Status == 0x0000
        assert len(got) == 1


async def test_a_destination_that_is_not_there_is_told(tmp_path):
    (nowhere,) = free_ports(1)
    async with archive(tmp_path, nowhere) as (intake, port):
        await intake.take(instance(1))
        ((status, failed),) = await move(port, wanted(StudyInstanceUID="1.2.3"))
        assert (status.Status, status.NumberOfFailedSuboperations) == (0xA702, 1)
        assert failed.FailedSOPInstanceUIDList == "1.2.3.1.1"


@pytest.mark.parametrize(
    "asked",
    [
        wanted("STUDY"),
        wanted("SERIES", StudyInstanceUID="1.2.3"),
        wanted("PATIENT", PatientID="MRN-1"),
        wanted("STUDY", StudyInstanceUID="1.2.x"),
        wanted("", StudyInstanceUID="1.2.3"),
        wanted("STUDY", StudyInstanceUID="*"),
        wanted("STUDY", StudyInstanceUID="\\"),
        wanted("IMAGE", StudyInstanceUID="1.2.3", SOPInstanceUID="*"),
        wanted("STUDY", StudyInstanceUID="1.2.3", StudyDescription="x" * 300_000),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
async def test_a_wrong_request_is_refused(tmp_path, asked):
    async with archive(tmp_path) as (intake, port):
        await intake.take(instance(1))
        ((status, _),) = await move(port, asked)
        assert status.Status == 0xA900
        (responses, got) = await get(port, asked)
        assert [each.Status for each, _ in responses] == [0xA900]
        assert not got


async def test_a_move_can_be_cancelled(tmp_path):
    async with receiver() as (there, got), archive(tmp_path, there) as (intake, port):
        for number in range(1, 300):
            await intake.take(instance(number))
        responses = await move(port, wanted(StudyInstanceUID="1.2.3"), cancel_after=1)
        status, _ = responses[-1]
        assert status.Status == 0xFE00
        assert status.NumberOfRemainingSuboperations > 0
        assert status.NumberOfCompletedSuboperations == len(got)


async def test_what_is_got_is_what_is_held(tmp_path):
    async with archive(tmp_path) as (intake, port):
        for number in (1, 2):
            await intake.take(instance(number, pixels=bytes(300_000)))
        implicit = encoded(data_set(SOPInstanceUID="1.2.3.1.5"), ImplicitVRLittleEndian)
        await intake.take(implicit)
        for model, asked in (
            (STUDY_GET, wanted(StudyInstanceUID="1.2.3")),
            (PATIENT_GET, wanted("PATIENT", PatientID="MRN-1")),
        ):
            responses, got = await get(port, asked, model=model)
            status, _ = responses[-1]
            assert (status.Status, status.NumberOfCompletedSuboperations) == (0x0000, 3)
            for number in (1, 2):
                held = await intake.read(f"1.2.3.1.{number}")
                assert got[f"1.2.3.1.{number}"] == held[read_file_meta(held)[1] :]
        responses, got = await get(port, asked, model=PATIENT_GET, syntax="1.2.840.10008.1.2.4.90")
        assert (responses[-1][0].Status, got) == (0xA702, {})


async def test_who_may_not_get_is_told(tmp_path):
    async with archive(tmp_path) as (intake, port):
        await intake.take(instance(1))
        responses, got = await get(port, wanted(StudyInstanceUID="1.2.3"), title="QUIET")
        assert ([each.Status for each, _ in responses], got) == ([0x0124], {})


async def test_a_requester_that_goes_away_leaves_nothing_behind(tmp_path):
    async with archive(tmp_path) as (intake, port):
        for number in range(1, 5):
            await intake.take(instance(number, pixels=bytes(3_000_000)))

        def leave(event):
            event.assoc.abort()
            return 0x0000

        def work():
            ae = AE(ae_title="WS")
            ae.dimse_timeout = 1  # It has left, and waits for an answer all the same.
            ae.add_requested_context(STUDY_GET)
            ae.add_requested_context(CT, ExplicitVRLittleEndian)
            association = ae.associate(
                "127.0.0.1",
                port,
                ae_title="OPENPRIORS",
                ext_neg=[build_role(CT, scp_role=True)],
                evt_handlers=[(evt.EVT_C_STORE, leave)],
            )
            list(association.send_c_get(wanted(StudyInstanceUID="1.2.3"), STUDY_GET))

        memory = intake.listener._retrieving._memory
        room = memory._room
        await asyncio.to_thread(work)
        for _ in range(200):
            if memory._room == room:
                break
            await asyncio.sleep(0.05)
        assert memory._room == room, "its memory came back"
        responses, got = await get(port, wanted(StudyInstanceUID="1.2.3"))
        assert (responses[-1][0].Status, len(got)) == (0x0000, 4)


@asynccontextmanager
async def storescp(folder, outside_tool, *options):
    """Run dcmtk's storescp as the AE WS; yield its port."""
    (there,) = free_ports(1)
    folder.mkdir()
    taking = await asyncio.to_thread(
        subprocess.Popen,
        [outside_tool("storescp"), *options, "-aet", "WS", "-od", str(folder), "-uf", str(there)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await _listens(there)
        yield there
    finally:
        taking.terminate()
        await asyncio.to_thread(taking.wait)


async def test_dcmtk_gets_and_moves(tmp_path, outside_tool):
    getscu, movescu = map(outside_tool, ("getscu", "movescu"))
    moved, fetched = tmp_path / "moved", tmp_path / "fetched"
    fetched.mkdir()
    async with (
        storescp(moved, outside_tool, "+xa") as there,
        archive(tmp_path, there) as (intake, port),
    ):
        for name in SAMPLES:
            assert (await intake.take(sample(name))).status == "accepted"
        for study in await intake.db.read(studies.list_studies):
            uid = study.study_instance_uid
            asked = ("-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}")
            to = ("-aet", "WS", "-aec", "OPENPRIORS", "127.0.0.1", str(port), *asked)
            for command in (("-aem", "WS"), ("+B", "-od", str(fetched))):
                tool = movescu if command[0] == "-aem" else getscu
                done = await run(tool, "-v", "-S", *command, *to)
                assert done.returncode == 0, done.stdout + done.stderr
        uids = {name: pydicom.dcmread(BytesIO(sample(name))).SOPInstanceUID for name in SAMPLES}
        assert _uids(moved) == set(uids.values())
        # getscu asks for the uncompressed transfer syntaxes alone.
        assert _uids(fetched) == set(uids.values()) - {uids["JPEG2000.dcm"]}
        for path in moved.iterdir():
            got = pydicom.dcmread(path)
            kept = pydicom.dcmread(BytesIO(await intake.read(got.SOPInstanceUID)))
            assert got.get("PixelData") == kept.get("PixelData")


def _uids(folder):
    return {
        str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.rglob("*") if path.is_file()
    }


async def _listens(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.05)
    pytest.fail("storescp does not listen")
