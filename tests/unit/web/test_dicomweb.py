"""DICOMweb answers as PS3.18 says, and every byte is the one that was stored."""

from __future__ import annotations

import gzip
import io
import json
import re

import aiohttp
import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.dicom_samples import instance, sample
from tests.transfers import MODALITY, STUDY
from tests.web_node import web_nodes

WEB = "/dicom-web"
JPEG2000 = "1.2.840.10008.1.2.4.91"


@pytest.fixture
async def node(tmp_path):
    async with web_nodes(tmp_path, "St. Anna") as (opened,):
        yield opened


@pytest.fixture
async def viewer(node):
    async with node.program("clinician") as session:
        yield session


@pytest.fixture
def take(node):
    async def store(data):
        outcome = await node.hospital.ingest.store_instance(data, MODALITY, "dimse")
        assert outcome.status == "accepted", outcome.reason
        return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)

    return store


def path_of(data_set):
    return (
        f"{WEB}/studies/{data_set.StudyInstanceUID}/series/{data_set.SeriesInstanceUID}"
        f"/instances/{data_set.SOPInstanceUID}"
    )


async def parts_of(answer):
    """Return (headers, content) of each part, read by another reader than the one under test."""
    found = []
    reader = aiohttp.MultipartReader.from_response(answer)
    while (part := await reader.next()) is not None:
        found.append((part.headers, bytes(await part.read())))
    return found


def multipart(*contents, part_type="application/dicom", boundary="b0undary"):
    body = b"".join(
        f"--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode() + each + b"\r\n"
        for each in contents
    )
    headers = {"Content-Type": f'multipart/related; type="{part_type}"; boundary={boundary}'}
    return {"data": io.BytesIO(body + f"--{boundary}--".encode()), "headers": headers}


# -- who may ask ----------------------------------------------------------------------------
async def test_only_clinicians_search_and_retrieve(node):
    await node.hospital.scan(count=1)
    async with aiohttp.ClientSession(node.url) as nobody, nobody.get(f"{WEB}/studies") as answer:
        assert answer.status == 401
    async with node.program("operator", "auditor") as other:
        for path in (f"{WEB}/studies", f"{WEB}/studies/{STUDY}", f"{WEB}/studies/{STUDY}/metadata"):
            async with other.get(path) as answer:
                assert answer.status == 403
                assert (await answer.json())["error"]["code"] == "not-permitted"


async def test_a_look_is_on_record(node, viewer):
    await node.hospital.scan(count=1)
    await (await viewer.get(f"{WEB}/studies/{STUDY}/metadata")).read()
    (record,) = await node.hospital.actions("view")
    assert record["actor"]["name"] == "program clinician"


# -- retrieving -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        'multipart/related; type="application/dicom"',
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        "multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
        'text/html, multipart/related; q=0.5; type="application/dicom"',
    ],
)
async def test_a_study_comes_back_byte_by_byte(node, viewer, accept):
    files = await node.hospital.scan(count=3)
    async with viewer.get(f"{WEB}/studies/{STUDY}", headers={"Accept": accept}) as answer:
        assert answer.status == 200
        parts = await parts_of(answer)
    assert [content for _, content in parts] == list(files.values())
    assert all(
        headers["Content-Type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
        for headers, _ in parts
    )
    assert parts[0][0]["Content-Location"].startswith(f"{node.url}{WEB}/studies/{STUDY}/series/")


async def test_one_instance_can_come_without_parts(node, viewer):
    files = await node.hospital.scan(count=2)
    path = f"{WEB}/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.2"
    async with viewer.get(path, headers={"Accept": "application/dicom"}) as answer:
        assert answer.content_type == "application/dicom"
        assert await answer.read() == files[f"{STUDY}.1.2"]


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/studies/1.2.9", "*/*", 404),
        (f"/studies/{STUDY}/series/1.2.9", "*/*", 404),
        (f"/studies/{STUDY}/series/{STUDY}.1/instances/1.9", "*/*", 404),
        ("/studies/not-a-uid", "*/*", 400),
        (f"/studies/{STUDY}", "image/gif", 406),
        (
            f"/studies/{STUDY}",
            f'multipart/related; type="application/dicom"; transfer-syntax={JPEG2000}',
            406,
        ),
        (f"/studies/{STUDY}/metadata", 'multipart/related; type="application/dicom+xml"', 406),
        (f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1/frames/0", "*/*", 400),
        (f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1/frames/2", "*/*", 404),
        (f"/studies/{STUDY}/rendered?window=1,0", "*/*", 400),
        (f"/studies/{STUDY}/rendered?window=nan,nan", "*/*", 400),
        (f"/studies/{STUDY}/rendered?viewport=x", "*/*", 400),
        ("/studies?limit=-1", "*/*", 400),
        ("/studies?StudyDate=yesterday", "*/*", 400),
    ],
)
async def test_what_cannot_be_answered_says_why(node, viewer, path, accept, status):
    await node.hospital.scan(count=1)
    async with viewer.get(WEB + path, headers={"Accept": accept}) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["reason"]


async def test_metadata_is_compressed_and_points_to_bulk_data_here(node, viewer, take):
    data = sample("CT_small.dcm")
    header = await take(data)
    async with aiohttp.ClientSession(
        node.url, headers=viewer.headers, auto_decompress=False
    ) as raw:
        path = f"{path_of(header)}/metadata"
        async with raw.get(path, headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            (described,) = json.loads(gzip.decompress(await answer.read()))
    assert described["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "CompressedSamples^CT1"}]}
    uri = described["7FE00010"]["BulkDataURI"]
    assert uri.startswith(node.url + path_of(header))
    async with viewer.get(uri, headers={"Accept": "application/octet-stream"}) as answer:
        assert await answer.read() == pydicom.dcmread(io.BytesIO(data)).PixelData


async def test_metadata_reads_no_pixels(node, viewer, take, monkeypatch):
    header = await take(instance(1, pixels=bytes(1_000_000)))
    asked = []
    real = node.hospital.store.read

    def watched(pack_id, key, chunks):
        asked.append(len(chunks))
        return real(pack_id, key, chunks)

    monkeypatch.setattr(node.hospital.store, "read", watched)
    async with viewer.get(f"{path_of(header)}/metadata") as answer:
        (described,) = await answer.json(content_type=None)
    assert described["7FE00010"]["BulkDataURI"]
    assert asked == [1], "of four chunks the header stands in the first"


# -- frames ---------------------------------------------------------------------------------
async def test_native_frames_leave_as_they_are(viewer, take):
    data = sample("CT_small.dcm")
    header = await take(data)
    pixels = pydicom.dcmread(io.BytesIO(data)).PixelData
    for accept in (
        "*/*",
        "multipart/related; type=application/octet-stream; transfer-syntax=*",
        'multipart/related; type="application/octet-stream"',
    ):
        async with viewer.get(f"{path_of(header)}/frames/1", headers={"Accept": accept}) as answer:
            ((headers, content),) = await parts_of(answer)
            assert content == pixels
            assert headers["Content-Type"].startswith("application/octet-stream")
    single = {"Accept": "application/octet-stream"}
    async with viewer.get(f"{path_of(header)}/frames/1", headers=single) as answer:
        assert await answer.read() == pixels


async def test_compressed_frames_leave_as_they_are_unless_native_ones_are_wanted(viewer, take):
    data = sample("JPEG2000.dcm")
    header = await take(data)
    full = pydicom.dcmread(io.BytesIO(data))
    encoded = pydicom.encaps.get_frame(full.PixelData, 0, number_of_frames=1)
    frame = f"{path_of(header)}/frames/1"
    for accept, media_type in (
        ("*/*", "image/jp2"),
        ('multipart/related; type="image/jp2"', "image/jp2"),
        (
            "multipart/related; type=application/octet-stream; transfer-syntax=*",
            "application/octet",
        ),
    ):
        async with viewer.get(frame, headers={"Accept": accept}) as answer:
            ((headers, content),) = await parts_of(answer)
            assert content == encoded
            assert headers["Content-Type"].startswith(media_type)
            assert full.file_meta.TransferSyntaxUID in headers["Content-Type"]
    native = 'multipart/related; type="application/octet-stream"'
    async with viewer.get(frame, headers={"Accept": native}) as answer:
        ((headers, content),) = await parts_of(answer)
        assert np.array_equal(np.frombuffer(content, "<i2"), full.pixel_array.ravel())
        assert headers["Content-Type"].endswith("transfer-syntax=1.2.840.10008.1.2.1")
    async with viewer.get(frame, headers={"Accept": "image/jpeg"}) as answer:
        assert answer.status == 406
    async with viewer.get(f"{path_of(header)}/bulkdata/7FE00010") as answer:
        ((_, content),) = await parts_of(answer)
        assert content == encoded


async def test_several_frames_come_as_parts_in_order(viewer, take):
    data = sample("SC_rgb_rle_2frame.dcm")
    header = await take(data)
    full = pydicom.dcmread(io.BytesIO(data))
    async with viewer.get(f"{path_of(header)}/frames/2,1") as answer:
        contents = [content for _, content in await parts_of(answer)]
    frames = list(pydicom.encaps.generate_frames(full.PixelData, number_of_frames=2))
    assert contents == frames[::-1]


# -- pictures -------------------------------------------------------------------------------
async def test_a_frame_is_rendered_with_the_window_that_was_asked_for(viewer, take):
    header = await take(sample("CT_small.dcm"))
    pictures = []
    for query in ("", "?window=40,400,linear", "?window=40,400&viewport=64,64"):
        async with viewer.get(f"{path_of(header)}/rendered{query}") as answer:
            assert answer.content_type == "image/jpeg"
            assert answer.headers["Cache-Control"] == "no-store"
            pictures.append(Image.open(io.BytesIO(await answer.read())))
    assert pictures[0].size == (128, 128)
    assert np.asarray(pictures[0]).tobytes() != np.asarray(pictures[1]).tobytes()
    assert pictures[2].size == (64, 64)
    async with viewer.get(f"{path_of(header)}/frames/1/rendered?accept=image/png") as answer:
        assert Image.open(io.BytesIO(await answer.read())).format == "PNG"


async def test_a_study_has_a_thumbnail_and_all_its_pictures(viewer, take):
    header = await take(sample("SC_rgb_rle_2frame.dcm"))
    study = f"{WEB}/studies/{header.StudyInstanceUID}"
    async with viewer.get(f"{study}/thumbnail") as answer:
        assert max(Image.open(io.BytesIO(await answer.read())).size) <= 160
    accept = {"Accept": 'multipart/related; type="image/jpeg"'}
    async with viewer.get(f"{study}/rendered", headers=accept) as answer:
        assert len(await parts_of(answer)) == 2


async def test_what_has_no_images_is_not_acceptable_as_one(viewer, take):
    header = await take(sample("test-SR.dcm"))
    async with viewer.get(f"{path_of(header)}/rendered") as answer:
        assert answer.status == 406
        assert (await answer.json())["error"]["code"] == "no-pixel-data"


# -- searching ------------------------------------------------------------------------------
@pytest.fixture
async def archive(node, take):
    for number, name, modality, date in (
        (1, "Doe^Jane", "CT", "20250102"),
        (2, "Doe^John", "MR", "20250203"),
        (3, "Müller^Ann=山田^杏", "CT", "20260304"),
    ):
        changes = {"PatientName": name, "PatientID": f"MRN-{number}", "Modality": modality}
        if not name.isascii():
            changes["SpecificCharacterSet"] = "ISO_IR 192"
        for each in (1, 2):
            await take(
                instance(
                    each,
                    study=f"1.2.{number}",
                    StudyDate=date,
                    StudyDescription=f"{modality} Thorax",
                    AccessionNumber=f"A{number}",
                    **changes,
                )
            )


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("", ["1.2.3", "1.2.2", "1.2.1"]),
        ("PatientID=MRN-2", ["1.2.2"]),
        ("00100020=MRN-2", ["1.2.2"]),
        ("PatientID=MRN-*", ["1.2.3", "1.2.2", "1.2.1"]),
        ("PatientName=doe*", ["1.2.2", "1.2.1"]),
        ("PatientName=Doe^J?ne", ["1.2.1"]),
        ("PatientName=山田*", ["1.2.3"]),
        ("StudyDate=20250102", ["1.2.1"]),
        ("StudyDate=20250103-20251231", ["1.2.2"]),
        ("StudyDate=20250203-", ["1.2.3", "1.2.2"]),
        ("StudyDate=-20250203", ["1.2.2", "1.2.1"]),
        ("ModalitiesInStudy=CT", ["1.2.3", "1.2.1"]),
        ("ModalitiesInStudy=CT,MR&limit=2&offset=1", ["1.2.2", "1.2.1"]),
        ("StudyInstanceUID=1.2.1,1.2.2", ["1.2.2", "1.2.1"]),
        ("AccessionNumber=A3", ["1.2.3"]),
        ("StudyDescription=mr*", ["1.2.2"]),
        ("PatientID=nobody", []),
    ],
)
async def test_studies_are_found_by(archive, viewer, query, studies):
    async with viewer.get(f"{WEB}/studies?{query}&includefield=all") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/dicom+json"
        found = await answer.json(content_type=None)
    assert [each["0020000D"]["Value"][0] for each in found] == studies


async def test_a_study_says_what_a_worklist_shows(archive, node, viewer):
    async with viewer.get(f"{WEB}/studies?PatientID=MRN-3") as answer:
        (study,) = await answer.json(content_type=None)
    assert study["00100010"]["Value"] == [{"Alphabetic": "Müller^Ann", "Ideographic": "山田^杏"}]
    assert study["00080061"]["Value"] == ["CT"]
    assert study["00201208"]["Value"] == [2]
    assert study["00081190"]["Value"] == [f"{node.url}{WEB}/studies/1.2.3"]
    assert study["00080090"] == {"vr": "PN"}
    assert list(study) == sorted(study)


async def test_series_and_instances_are_found(archive, viewer):
    for path, count in (
        ("/series?Modality=CT", 2),
        ("/series?PatientID=MRN-2&Modality=CT", 0),
        ("/studies/1.2.2/series", 1),
        ("/studies/1.2.2/series?SeriesDescription=none*", 0),
        ("/studies/1.2.9/series", 0),
        ("/instances?limit=4&offset=1", 4),
        ("/instances?SOPInstanceUID=1.2.2.1.2", 1),
        ("/studies/1.2.2/instances?InstanceNumber=2", 1),
        ("/studies/1.2.2/series/1.2.2.1/instances", 2),
        ("/studies/1.2.2/series/1.2.9/instances", 0),
    ):
        async with viewer.get(WEB + path) as answer:
            assert len(await answer.json(content_type=None)) == count, path


async def test_what_is_not_heeded_is_said(archive, viewer):
    async with viewer.get(f"{WEB}/studies?StationName=F&fuzzymatching=true&limit=1") as answer:
        assert len(await answer.json(content_type=None)) == 1
        warnings = answer.headers.getall("Warning")
    assert [each[:4] for each in warnings] == ["299 "] * 3
    assert any("StationName" in each for each in warnings)
    assert any("Only literal matching" in each for each in warnings)
    assert any("additional results" in each for each in warnings)


# -- storing --------------------------------------------------------------------------------
async def test_instances_are_stored_each_with_its_result(node, viewer):
    good, other = instance(1), instance(2)
    async with viewer.post(f"{WEB}/studies", **multipart(good, other)) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/dicom+json"
        said = await answer.json(content_type=None)
    assert len(said["00081199"]["Value"]) == 2
    assert "00081198" not in said
    assert said["00081190"]["Value"] == [f"{node.url}{WEB}/studies/1.2.3"]
    again = multipart(good, instance(2, PatientName="Roe^Jane"), b"no DICOM at all")
    async with viewer.post(f"{WEB}/studies", **again) as answer:
        assert answer.status == 202
        said = await answer.json(content_type=None)
    (stored,) = said["00081199"]["Value"]
    (failed,) = said["00081198"]["Value"]
    (unreadable,) = said["0008119A"]["Value"]
    assert stored["00081155"]["Value"] == ["1.2.3.1.1"]
    assert failed["00081155"]["Value"] == ["1.2.3.1.2"]
    assert failed["00081197"]["Value"] == [0x0111]
    assert unreadable["00081197"]["Value"] == [0xC000]
    assert "DICOM" in unreadable["00000902"]["Value"][0]
    assert await node.hospital.kept("1.2.3") == {"1.2.3.1.1": good, "1.2.3.1.2": other}


async def test_nothing_stored_is_a_conflict(viewer):
    async with viewer.post(f"{WEB}/studies", **multipart(b"", b"junk")) as answer:
        assert answer.status == 409
    async with viewer.post(f"{WEB}/studies/1.2.9", **multipart(instance(1))) as answer:
        assert answer.status == 409
        (failed,) = (await answer.json(content_type=None))["00081198"]["Value"]
        assert failed["00081197"]["Value"] == [0xA900]


async def test_a_single_instance_needs_no_parts(viewer):
    headers = {"Content-Type": "application/dicom"}
    async with viewer.post(f"{WEB}/studies/1.2.3", data=instance(1), headers=headers) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("headers", "data", "status"),
    [
        ({"Content-Type": "text/plain"}, b"x", 415),
        (
            {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=b'},
            b"",
            415,
        ),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, b"", 400),
        ({"Content-Type": "multipart/related; boundary=b"}, b"--b--", 400),
        ({"Content-Type": "multipart/related; boundary=b"}, b"--b\r\n\r\ncut short", 400),
        ({"Content-Type": "multipart/related; boundary=b"}, b"", 400),
        ({"Content-Type": "multipart/related; boundary=b", "Accept": "text/xml"}, b"--b--", 406),
    ],
)
async def test_a_body_that_is_not_as_it_should_be_is_refused(viewer, headers, data, status):
    async with viewer.post(f"{WEB}/studies", headers=headers, data=data) as answer:
        assert answer.status == status
        assert re.search(r"[a-z]", (await answer.json())["error"]["reason"])


async def test_an_instance_that_is_too_long_is_dropped_and_the_others_kept(tmp_path):
    small, ingest = instance(1), {"max_instance_bytes": 2**20}
    async with (
        web_nodes(tmp_path, "St. Anna", ingest=ingest) as (node,),
        node.program("clinician") as viewer,
    ):
        body = multipart(small, instance(2, pixels=bytes(1_200_000)), instance(3))
        async with viewer.post(f"{WEB}/studies", **body) as answer:
            assert answer.status == 202
            said = await answer.json(content_type=None)
        assert len(said["00081199"]["Value"]) == 2
        assert len(said["0008119A"]["Value"]) == 1
        async with viewer.post(
            f"{WEB}/studies", **multipart(instance(4, pixels=bytes(1_200_000)))
        ) as answer:
            assert answer.status == 413
