"""A client library that others wrote stores, searches and retrieves at a node over TCP."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session
from requests import HTTPError

from tests.dicom_samples import sample
from tests.processes import Nodes, pair, publish, wait_until
from tests.web_node import web_nodes

NAMES = ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "SC_rgb_rle_2frame.dcm")


@pytest.fixture
async def client(tmp_path):
    async with web_nodes(tmp_path, "St. Anna") as (node,):
        session = create_session()
        session.headers["Authorization"] = f"Bearer {await node.token('clinician')}"
        yield DICOMwebClient(f"{node.url}/dicom-web", session=session)
        session.close()


def opened(data):
    return pydicom.dcmread(io.BytesIO(data))


def uids(data_set):
    return data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID


async def stored(client):
    files = {name: sample(name) for name in NAMES}
    data_sets = [opened(data) for data in files.values()]
    said = await asyncio.to_thread(client.store_instances, data_sets)
    assert len(said.ReferencedSOPSequence) == len(files)
    assert "FailedSOPSequence" not in said
    return data_sets


def file_bytes(data_set):
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, data_set)
    return stream.getvalue()


async def test_what_was_stored_is_found_and_comes_back_byte_by_byte(client):
    data_sets = await stored(client)
    found = await asyncio.to_thread(client.search_for_studies)
    assert {each["0020000D"]["Value"][0] for each in found} == {
        each.StudyInstanceUID for each in data_sets
    }
    by_patient = await asyncio.to_thread(
        client.search_for_studies, search_filters={"PatientID": data_sets[0].PatientID}, limit=5
    )
    assert [each["0020000D"]["Value"][0] for each in by_patient] == [data_sets[0].StudyInstanceUID]
    for data_set in data_sets:
        (back,) = await asyncio.to_thread(client.retrieve_study, data_set.StudyInstanceUID)
        assert file_bytes(back) == file_bytes(data_set)
        one = await asyncio.to_thread(client.retrieve_instance, *uids(data_set))
        assert file_bytes(one) == file_bytes(data_set)
        streamed = await asyncio.to_thread(
            lambda uid: list(client.iter_study(uid)), data_set.StudyInstanceUID
        )
        assert [file_bytes(each) for each in streamed] == [file_bytes(data_set)]


async def test_metadata_frames_and_bulk_data(client):
    for data_set in await stored(client):
        (described,) = await asyncio.to_thread(
            client.retrieve_study_metadata, data_set.StudyInstanceUID
        )
        assert described["00080018"]["Value"] == [data_set.SOPInstanceUID]
        (frame, *_) = await asyncio.to_thread(
            client.retrieve_instance_frames, *uids(data_set), frame_numbers=[1]
        )
        encapsulated = data_set.file_meta.TransferSyntaxUID.is_encapsulated
        if encapsulated:
            expected = pydicom.encaps.get_frame(
                data_set.PixelData, 0, number_of_frames=int(data_set.get("NumberOfFrames", 1))
            )
        else:
            expected = data_set.PixelData
        assert frame == expected
        (value, *_) = await asyncio.to_thread(
            client.retrieve_bulkdata, described["7FE00010"]["BulkDataURI"]
        )
        assert value == expected


async def test_a_compressed_frame_is_decoded_for_who_asks_for_native_pixels(client):
    data_set = (await stored(client))[NAMES.index("JPEG2000.dcm")]
    (frame,) = await asyncio.to_thread(
        client.retrieve_instance_frames,
        *uids(data_set),
        frame_numbers=[1],
        media_types=(("application/octet-stream", "1.2.840.10008.1.2.1"),),
    )
    assert np.array_equal(np.frombuffer(frame, "<i2"), data_set.pixel_array.ravel())


async def test_pictures(client):
    data_set = (await stored(client))[0]
    for media_type in ("image/jpeg", "image/png"):
        picture = await asyncio.to_thread(
            client.retrieve_instance_rendered, *uids(data_set), media_types=(media_type,)
        )
        assert picture[:2] in (b"\xff\xd8", b"\x89P")


async def test_series_and_instances_are_listed(client):
    data_set = (await stored(client))[0]
    study, series, instance = uids(data_set)
    found = await asyncio.to_thread(client.search_for_series, study)
    assert [each["0020000E"]["Value"][0] for each in found] == [series]
    found = await asyncio.to_thread(client.search_for_instances, study, series)
    assert [each["00080018"]["Value"][0] for each in found] == [instance]


@pytest.fixture
def couple(tmp_path):
    made = Nodes(tmp_path)
    alice, bob = made(2)
    pair(alice, bob)
    yield alice, bob
    made.stop()


def test_a_person_is_found_at_a_partner_over_a_node_in_a_process_of_its_own(couple):
    alice, bob = couple
    publish(bob, "QIDO7", "1.2.3.70", 2, 100)
    wanted = {"name": "PACS", "roles": ["clinician"], "purpose": "TREAT", "federated": True}
    token = alice.post("/tokens", wanted | {"issuer": bob.issuer})["bearer"]
    session = create_session()
    session.headers["Authorization"] = f"Bearer {token}"
    outside = DICOMwebClient(f"{alice.local_url}/dicom-web", session=session)

    def found(**filters):
        return outside.search_for_studies(search_filters=filters)

    by_name = {"PatientName": "QIDO7^ANNA", "PatientBirthDate": "19600203"}
    wait_until(lambda: found(**by_name), "the study is not found")
    (study,) = map(pydicom.Dataset.from_json, found(**by_name))
    assert study.StudyInstanceUID == "1.2.3.70"
    assert study.InstitutionName == bob.name
    assert study.InstanceAvailability == "NEARLINE"
    assert study.NumberOfStudyRelatedInstances == 2
    assert (study.PatientID, study.PatientName) == ("QIDO7", "QIDO7^ANNA")
    assert [each["0020000D"]["Value"] for each in found(PatientID="QIDO7")] == [["1.2.3.70"]]
    with pytest.raises(HTTPError, match="400"):
        outside.search_for_studies(
            search_filters={"PatientName": "QIDO7^ANNA"}, additional_params={"federated": "true"}
        )

    alice.post("/retrievals", {"peer_id": bob.peer_id, "study_instance_uid": "1.2.3.70"})

    def held():
        (study,) = map(pydicom.Dataset.from_json, found(**by_name))
        return study.InstanceAvailability == "ONLINE"

    wait_until(held, "the study did not arrive")
    assert len(outside.retrieve_study("1.2.3.70")) == 2
    session.close()
