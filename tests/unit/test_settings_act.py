"""What an operator sets is what the node does, from the file or from the environment."""

from __future__ import annotations

import asyncio
import io
from contextlib import suppress
from types import SimpleNamespace

import pytest

from peer.access import Access
from peer.clock import ManualClock
from peer.config import DicomWeb, load
from peer.dicom.decoders import Decoders, DecodingFailed
from peer.dicom.frames import render
from peer.people import People
from peer.search.shown import Shown
from protocol.errors import Refusal
from tests.dicom_samples import instance, sample
from tests.facilities import CLINICIAN, START
from tests.transfers import STUDY, Hospital
from tests.unit.federation.facility import OPERATOR, Facility
from tests.web_node import web_nodes

WEB = "/dicom-web/studies"


@pytest.fixture
def clock():
    return ManualClock(START)


def multipart(*instances):
    parts = [b"--b\r\nContent-Type: application/dicom\r\n\r\n" + each for each in instances]
    return {
        "data": b"\r\n".join([*parts, b"--b--"]),
        "headers": {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'},
    }


async def is_closed(reader, seconds=60) -> bool:
    """Whether the other side ends the connection within `seconds`; one that is kept is silent."""
    try:
        async with asyncio.timeout(seconds):
            return await reader.read(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


async def test_a_pairing_listener_of_one_connection_closes_the_second(tmp_path):
    async with Facility.open("Alice", tmp_path, max_connections=1, max_connections_each=1) as alice:
        first, kept = await asyncio.open_connection("127.0.0.1", alice.pairing_port)
        second, refused = await asyncio.open_connection("127.0.0.1", alice.pairing_port)
        assert await is_closed(second)
        assert not await is_closed(first, seconds=1)
        for writer in (kept, refused):
            writer.close()


async def test_a_silent_handshake_is_cut_off_in_time(tmp_path):
    async with Facility.open("Alice", tmp_path, handshake_s=1) as alice:
        reader, writer = await asyncio.open_connection("127.0.0.1", alice.pairing_port)
        async with asyncio.timeout(8):  # The default would be 10.
            with suppress(ConnectionResetError):
                assert await reader.read(1) == b""
        writer.close()


async def test_an_invitation_is_valid_as_long_as_is_set(tmp_path):
    async with Facility.open("Alice", tmp_path, invitation_s=777) as alice:
        _, expires_at = await alice.partners.invite(OPERATOR)
        assert expires_at == alice.clock.now() + 777


@pytest.mark.parametrize("source", ["file", "environment"])
async def test_a_store_request_of_too_many_instances_is_refused(tmp_path, monkeypatch, source):
    dicomweb = {}
    if source == "environment":
        monkeypatch.setenv("OPENPRIORS_DICOMWEB__MAX_INSTANCES", "2")
    else:
        (tmp_path / "openpriors.toml").write_text("[dicomweb]\nmax_instances = 2\n")
        dicomweb = load(tmp_path).dicomweb.model_dump()
    async with (
        web_nodes(tmp_path, "St. Anna", dicomweb=dicomweb) as (node,),
        node.program("clinician") as viewer,
    ):
        async with viewer.post(WEB, **multipart(instance(1), instance(2))) as answer:
            assert answer.status == 200
        async with viewer.post(WEB, **multipart(*map(instance, (3, 4, 5)))) as answer:
            assert answer.status == 400
            assert "at most 2 instances" in (await answer.json())["error"]["reason"]
        async with viewer.get(WEB) as answer:
            assert len(await answer.json(content_type=None)) == 1


async def test_lists_are_as_long_as_is_set(tmp_path):
    settings = {"dicomweb": {"max_results": 2, "max_frames": 1, "max_picture_side": 256}}
    async with (
        web_nodes(tmp_path, "St. Anna", **settings, lists={"studies": 10}) as (node,),
        node.program("clinician") as viewer,
    ):
        made = [instance(number, study=f"1.2.3.{number}") for number in range(12)]
        async with viewer.post(WEB, **multipart(*made)) as answer:
            assert answer.status == 200
        async with viewer.get(f"{WEB}?limit=500") as answer:
            assert len(await answer.json(content_type=None)) == 2
            assert "additional results" in answer.headers["Warning"]
        async with viewer.get("/api/v1/studies") as answer:
            assert len((await answer.json())["studies"]) == 10
        frames = f"{WEB}/1.2.3.1/series/1.2.3.1.1/instances/1.2.3.1.1.1/frames/1,1"
        async with viewer.get(frames) as answer:
            assert answer.status == 400
            assert "at most 1 frames" in (await answer.json())["error"]["reason"]


@pytest.mark.parametrize(("size", "status"), [(2**20 - 100, 422), (2**20 + 100, 413)])
async def test_a_body_is_as_large_as_is_set(tmp_path, size, status):
    async with (
        web_nodes(tmp_path, "St. Anna", local={"max_body_bytes": 2**20}) as (node,),
        node.program("clinician") as session,
    ):
        body = io.BytesIO(b'{"name": "' + b"A" * size + b'"}')
        headers = {"Content-Type": "application/json"}
        async with session.post("/api/v1/search", data=body, headers=headers) as answer:
            assert answer.status == status


async def test_looks_are_recorded_as_often_as_is_set(tmp_path, clock):
    hospital = Hospital("St. Anna", clock, audit={"view_s": 0})
    async with hospital.open(tmp_path):
        await hospital.scan(count=1)
        for _ in range(3):
            await hospital.access.permit_local(STUDY, CLINICIAN, "view")
        assert len(await hospital.actions("view")) == 3
        rarely = Access(hospital.db, hospital.clock, SimpleNamespace(view_s=100))
        for seconds in (0, 60, 60):
            hospital.clock.advance(seconds)
            await rarely.permit_local(STUDY, CLINICIAN, "view")
        assert len(await hospital.actions("view")) == 5


async def test_a_facility_may_want_tokens_to_end(tmp_path, clock):
    hospital = Hospital("St. Anna", clock, people={"max_token_s": 3600})
    async with hospital.open(tmp_path):
        people = People(hospital.db, clock, hospital.settings.people, b"p" * 32)
        for valid_s in (None, 3601):
            with pytest.raises(Refusal) as caught:
                await people.make_token(OPERATOR, "PACS", ["operator"], "TREAT", valid_s)
            assert caught.value.code == "bad-validity"
            assert "3600 seconds" in caught.value.reason
        _, row = await people.make_token(OPERATOR, "PACS", ["operator"], "TREAT", 3600)
        assert row.expires_at == clock.now() + 3600


def test_a_list_is_kept_as_long_as_is_set(clock):
    def prior(number):
        return SimpleNamespace(origin=b"o", digest=SimpleNamespace(study_instance_uid=str(number)))

    shown = Shown(clock, SimpleNamespace(shown_s=10, max_shown=2))
    shown.note(map(prior, range(3)))
    assert [shown.get(b"o", str(number)) is None for number in range(3)] == [True, False, False]
    clock.advance(11)
    assert shown.get(b"o", "2") is None


def test_a_decoder_gets_no_more_memory_than_is_set():
    data = sample("JPEG2000.dcm")
    roomy, cramped = Decoders(DicomWeb()), Decoders(DicomWeb().model_copy(update=CRAMPED))
    try:
        assert render(data, decoders=roomy)
        with pytest.raises(Refusal):
            render(data, decoders=cramped)
        with pytest.raises(DecodingFailed):
            cramped.decode("1.2.840.10008.1.2.4.90", b"frame", {}, raw=False)
    finally:
        roomy.close()
        cramped.close()


CRAMPED = {"decoder_bytes": 2**20}
"""Below what may be set: not even the interpreter fits."""
