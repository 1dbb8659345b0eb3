"""C-ECHO and C-STORE, spoken by dcmtk and by pynetdicom as senders."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from contextlib import asynccontextmanager
from io import BytesIO

import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from peer.access import Access
from peer.config import Settings
from peer.dicom import read_header
from peer.dimse import Archive, DicomListener, Elsewhere
from peer.errors import ConfigError
from peer.index import instances, studies
from tests.dicom_samples import SAMPLES, data_set, encoded, instance, sample
from tests.intake import open_intake

PRIVATE_CLASS = "1.2.826.0.1.3680043.8.498.99"
KNOWN = {"title": "CT1", "host": "127.0.0.1"}


def archive_of(intake):
    """Return what the listener may ask of a node that is a store and an index alone."""

    async def read(permit, sop_instance_uid):
        permit.check(
            (
                await intake.db.read(lambda tx: instances.locate(tx, sop_instance_uid))
            ).study_instance_uid
        )
        return await intake.read(sop_instance_uid)

    access = Access(intake.db, intake.clock, intake.settings.audit)
    return Archive(intake.db, intake.audit, access, read, asyncio.get_running_loop())


@asynccontextmanager
async def listening(tmp_path, ingest=None, **dicom):
    dicom = {"port": 0, "known_aes": [KNOWN]} | dicom
    async with open_intake(tmp_path / "data", **(ingest or {})) as intake:
        settings = Settings(dicom=dicom, ingest=ingest or {})
        archive = archive_of(intake)
        alone = Elsewhere(archive, None, None)
        listener = DicomListener(settings, intake.ingest, archive, alone)
        await listener.start()
        intake.listener = listener
        try:
            yield intake, listener.port
        finally:
            await listener.stop()


async def run(*command):
    environment = os.environ | {"TCP_NODELAY": "1"}
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, env=environment
    )


def send(port, data, title="CT1"):
    """C-STORE one instance; return the status data set, None if the association is rejected."""
    read = pydicom.dcmread(BytesIO(data))
    ae = AE(ae_title=title)
    ae.add_requested_context(read.SOPClassUID, read.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", port, ae_title="OPENPRIORS")
    if not association.is_established:
        return None
    try:
        return association.send_c_store(read)
    finally:
        association.release()


def send_raw(port, header, body):
    """Send the very bytes of a data set, which the library would encode anew; return the status."""
    ae = AE(ae_title="CT1")
    ae.add_requested_context(header.instance.sop_class_uid, header.instance.transfer_syntax_uid)
    association = ae.associate("127.0.0.1", port, ae_title="OPENPRIORS")
    assert association.is_established
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = header.instance.sop_class_uid
    request.AffectedSOPInstanceUID = header.instance.sop_instance_uid
    request.Priority = 2
    request.DataSet = BytesIO(body)
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        time.sleep(0.001)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return answer.Status


async def test_dcmtk_verifies(tmp_path, outside_tool):
    echoscu = outside_tool("echoscu")
    async with listening(tmp_path) as (_, port):
        done = await run(echoscu, "-aet", "CT1", "-aec", "OPENPRIORS", "127.0.0.1", str(port))
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "OPENPRIORS"), ("CT1", "SOMEONE")])
async def test_a_wrong_title_is_rejected(tmp_path, outside_tool, calling, called):
    echoscu = outside_tool("echoscu")
    async with listening(tmp_path) as (_, port):
        done = await run(echoscu, "-aet", calling, "-aec", called, "127.0.0.1", str(port))
        assert done.returncode != 0
        assert "not recognized" in (done.stdout + done.stderr).lower()


async def test_dcmtk_stores_and_the_pixels_are_unaltered(tmp_path, outside_tool):
    storescu = outside_tool("storescu")
    names = ["CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "reportsi.dcm"]
    folder = tmp_path / "out"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(sample(name))
    async with listening(tmp_path) as (intake, port):
        done = await run(
            storescu,
            "-R",
            "-aet",
            "CT1",
            "-aec",
            "OPENPRIORS",
            "+sd",
            "127.0.0.1",
            str(port),
            str(folder),
        )
        assert done.returncode == 0, done.stderr
        for name in names:
            sent = pydicom.dcmread(BytesIO(sample(name)))
            kept = pydicom.dcmread(BytesIO(await intake.read(sent.SOPInstanceUID)))
            assert kept.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
            assert kept.get("PatientName") == sent.get("PatientName")
            if "PixelData" in sent:
                assert (kept.pixel_array == sent.pixel_array).all()


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("JPEG2000.dcm", "-xw"),
        ("JPEG-LL.dcm", "-xs"),
        ("SC_rgb_jpeg_dcmtk.dcm", "-xy"),
        ("MR_small_RLE.dcm", "-xr"),
        ("MR_small_jpeg_ls_lossless.dcm", "-xt"),
        ("color3d_jpeg_baseline.dcm", "-xy"),
        ("image_dfl.dcm", "-xd"),
    ],
)
async def test_compressed_instances_stay_as_they_are(tmp_path, outside_tool, name, option):
    storescu = outside_tool("storescu")
    (tmp_path / name).write_bytes(sample(name))
    sent = pydicom.dcmread(tmp_path / name)
    async with listening(tmp_path) as (intake, port):
        done = await run(
            storescu,
            option,
            "-aet",
            "CT1",
            "-aec",
            "OPENPRIORS",
            "127.0.0.1",
            str(port),
            str(tmp_path / name),
        )
        assert done.returncode == 0, done.stderr + done.stdout
        kept = pydicom.dcmread(BytesIO(await intake.read(sent.SOPInstanceUID)))
        assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert kept.PixelData == sent.PixelData


async def test_every_sample_that_is_kept_arrives_whole(tmp_path):
    async with listening(tmp_path) as (intake, port):
        kept = 0
        for path in SAMPLES[::6]:
            data = path.read_bytes()
            expected = await intake.take(data, "folder")
            if expected.status == "refused":
                continue
            # Sent as it is encoded; the node already holds it, so anything altered is a conflict.
            header = read_header(data)
            body = data[header.data_set_offset :]
            status = await asyncio.to_thread(send_raw, port, header, body)
            assert status == 0x0000, path.name
            kept += 1
        assert kept > 20


async def test_a_private_class_is_stored(tmp_path):
    made = encoded(data_set(SOPClassUID=PRIVATE_CLASS))
    async with listening(tmp_path) as (intake, port):
        assert (await asyncio.to_thread(send, port, made)).Status == 0x0000
        (row,) = await intake.db.read(lambda tx: studies.list_instances(tx, "1.2.3"))
        assert row.sop_class_uid == PRIVATE_CLASS


async def test_statuses_are_honest(tmp_path, monkeypatch):
    async with listening(tmp_path) as (intake, port):

        async def status_of(data):
            return await asyncio.to_thread(send, port, data)

        assert (await status_of(instance(1))).Status == 0x0000
        assert (await status_of(instance(1))).Status == 0x0000, "a repetition is no failure"
        conflict = await status_of(instance(1, PatientName="Roe^Jane"))
        assert conflict.Status == 0x0111
        assert "Roe" not in conflict.ErrorComment
        assert len(conflict.ErrorComment) <= 64
        other = instance(2)
        header, body = read_header(instance(9)), other[read_header(other).data_set_offset :]
        assert await asyncio.to_thread(send_raw, port, header, body) == 0xA900
        assert (await status_of(encoded(data_set(StudyInstanceUID=None)))).Status == 0xA900

        def full(*_):
            raise OSError(28, "full")

        monkeypatch.setattr(os, "write", full)
        refused = await status_of(instance(3))
        monkeypatch.undo()
        assert refused.Status == 0xA700
        assert await intake.db.read(studies.count) == (1, 1)


async def test_a_broken_data_set_is_not_understood(tmp_path):
    async with listening(tmp_path) as (intake, port):
        data = instance(1, pixels=bytes(5000))
        header = read_header(data)
        body = data[header.data_set_offset : len(data) - 100]
        status = await asyncio.to_thread(send_raw, port, header, body)
        assert status == 0xC000
        assert await intake.db.read(studies.count) == (0, 0)


async def test_rights_are_checked_for_each_service(tmp_path):
    known = [
        KNOWN | {"allowed": ["echo"]},
        {"title": "FAR", "host": "192.0.2.7"},
        {"title": "ANYWHERE"},
    ]
    async with listening(tmp_path, known_aes=known) as (intake, port):
        for title, status in (("CT1", 0x0124), ("FAR", 0x0124), ("ANYWHERE", 0x0000)):
            answer = await asyncio.to_thread(send, port, instance(1), title)
            assert answer.Status == status, title
        assert await asyncio.to_thread(send, port, instance(1), "STRANGER") is None
        assert await intake.db.read(studies.count) == (1, 1)


async def test_unknown_callers_are_let_in_only_if_the_operator_says_so(tmp_path):
    async with listening(tmp_path, known_aes=[]) as (_, port):
        assert (await asyncio.to_thread(send, port, instance(1), "X")).Status == 0x0124
    async with listening(tmp_path, known_aes=[], accept_unknown=True) as (_, port):
        assert (await asyncio.to_thread(send, port, instance(1), "X")).Status == 0x0000


async def test_who_sent_it_is_on_record(tmp_path):
    async with listening(tmp_path) as (intake, port):
        await asyncio.to_thread(send, port, instance(1))
        lines = [line async for line in intake.audit.export(None, None)]
        assert '"name":"CT1"' in lines[-1]
        assert '"source":"dimse"' in lines[-1]


async def test_nagle_is_off(tmp_path, monkeypatch):
    seen = []
    real = socket.socket.setsockopt

    def watched(self, level, option, *value):
        seen.append((level, option, *value))
        return real(self, level, option, *value)

    monkeypatch.setattr(socket.socket, "setsockopt", watched)
    async with listening(tmp_path) as (_, port):
        await asyncio.to_thread(send, port, instance(1))
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in seen


async def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}"):
            async with listening(tmp_path, port=port):
                pass


async def test_the_library_logs_nothing(tmp_path, caplog, capfd):
    caplog.set_level("DEBUG")
    async with listening(tmp_path) as (_, port):
        await asyncio.to_thread(send, port, instance(1, PatientName="Secret^Name"))
    assert "Secret" not in caplog.text
    captured = capfd.readouterr()
    assert "Secret" not in captured.out + captured.err


async def test_stopping_waits_for_no_silent_caller(tmp_path):
    loop = asyncio.get_running_loop()
    with socket.socket() as silent:
        async with listening(tmp_path) as (_, port):
            await asyncio.to_thread(silent.connect, ("127.0.0.1", port))
            await asyncio.sleep(0.2)
            began = loop.time()
        assert loop.time() - began < 6


async def test_an_open_association_is_ended_at_stop(tmp_path):
    async with listening(tmp_path) as (_, port):
        ae = AE(ae_title="CT1")
        ae.add_requested_context("1.2.840.10008.1.1")
        association = await asyncio.to_thread(
            ae.associate, "127.0.0.1", port, ae_title="OPENPRIORS"
        )
        assert association.is_established
    for _ in range(100):
        if association.is_aborted:
            break
        await asyncio.sleep(0.05)
    assert association.is_aborted


async def test_a_connection_too_many_is_closed(tmp_path):
    async with listening(tmp_path, max_associations=1, max_turned_away=0) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x01\x00")
        await asyncio.sleep(0.1)
        late, unheard = await asyncio.open_connection("127.0.0.1", port)
        # The first has its thread by then; if not, the second is the one that is kept.
        closed = [asyncio.create_task(each.read(1)) for each in (reader, late)]
        done, kept = await asyncio.wait(closed, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [b""]
        assert len(kept) == 1
        for task in kept:
            task.cancel()
        writer.close()
        unheard.close()
