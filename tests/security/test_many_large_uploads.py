"""Many callers send large instances at once: the node holds few of them, and loses none."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.dicom_samples import instance
from tests.processes import Nodes
from tests.unit.test_dimse import listening, send
from tests.web_node import web_nodes

MIB = 2**20
LIMITS = {"max_instance_bytes": MIB, "memory_bytes": 2 * MIB, "memory_wait_s": 1}
PATIENT = LIMITS | {"memory_wait_s": 60}
DOORS = ["/api/v1/instances", "/dicom-web/studies"]
HEADERS = {"Content-Type": "application/dicom"}


async def full(memory):
    """Return shares that hold all of the memory: the common room, and what is kept apart."""
    common, eldest = memory.share(), memory.share()
    await common.grow(MIB)
    await eldest.grow(1)
    return common, eldest


@pytest.mark.parametrize("door", DOORS)
async def test_an_upload_without_room_is_told_to_come_again(tmp_path, door):
    async with (
        web_nodes(tmp_path, "St. Anna", ingest=LIMITS) as (node,),
        node.program("clinician") as viewer,
    ):
        held = await full(node.hospital.ingest.memory)
        async with viewer.post(door, data=instance(1), headers=HEADERS) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert (await answer.json())["error"]["code"] == "busy"
        for share in held:
            share.give_back()
        async with viewer.post(door, data=instance(1), headers=HEADERS) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("door", DOORS)
async def test_an_upload_waits_for_room(tmp_path, door):
    async with (
        web_nodes(tmp_path, "St. Anna", ingest=PATIENT) as (node,),
        node.program("clinician") as viewer,
    ):
        memory = node.hospital.ingest.memory
        common, _ = await full(memory)

        async def upload():
            async with viewer.post(door, data=instance(1), headers=HEADERS) as answer:
                return answer.status

        waiting = asyncio.create_task(upload())
        while not memory._waiting:  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
        common.give_back()
        assert await waiting == 200


async def test_instances_of_one_request_make_room_for_each_other(tmp_path):
    """Each is nearly all that fits; the request as a whole is several times as much."""
    async with (
        web_nodes(tmp_path, "St. Anna", ingest=LIMITS) as (node,),
        node.program("clinician") as viewer,
    ):
        made = [instance(number, pixels=bytes(900_000)) for number in range(6)]
        body = b"".join(
            b"--b\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in made
        )

        async def pieces():
            for at in range(0, len(body), 50_000):
                yield body[at : at + 50_000]
            yield b"--b--"

        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
        async with viewer.post("/dicom-web/studies", data=pieces(), headers=headers) as answer:
            assert answer.status == 200
        async with viewer.get("/api/v1/studies") as answer:
            assert (await answer.json())["studies"][0]["instances"] == 6


async def test_a_silent_upload_is_ended_and_gives_its_memory_back(tmp_path):
    async with (
        web_nodes(tmp_path, "St. Anna", ingest=LIMITS | {"silence_s": 1}) as (node,),
        node.program("clinician") as viewer,
    ):
        never = asyncio.Event()

        async def pieces():
            yield bytes(500_000)
            await never.wait()

        async with viewer.post("/api/v1/instances", data=pieces()) as answer:
            assert answer.status == 408
            assert (await answer.json())["error"]["code"] == "silent"
        assert node.hospital.ingest.memory._room == MIB


async def test_a_modality_without_room_gets_out_of_resources(tmp_path):
    async with listening(tmp_path, ingest=LIMITS) as (intake, port):
        held = await full(intake.ingest.memory)
        assert (await asyncio.to_thread(send, port, instance(1))).Status == 0xA700
        for share in held:
            share.give_back()
        assert (await asyncio.to_thread(send, port, instance(1))).Status == 0


async def test_a_modality_waits_for_room(tmp_path):
    async with listening(tmp_path, ingest=PATIENT) as (intake, port):
        common, _ = await full(intake.ingest.memory)
        sending = asyncio.create_task(asyncio.to_thread(send, port, instance(1)))
        while not intake.ingest.memory._waiting:  # noqa: ASYNC110 - a thread sets no event of ours
            await asyncio.sleep(0.01)
        common.give_back()
        assert (await sending).Status == 0


UPLOADS, EACH = 16, 15 * MIB
BOUND = 32 * MIB


@pytest.fixture
def node(tmp_path):
    made = Nodes(tmp_path)
    (node,) = made(started=False)
    node.start(
        OPENPRIORS_INGEST__LARGE_BYTES=str(16 * MIB),
        OPENPRIORS_INGEST__MEMORY_BYTES=str(BOUND),
        OPENPRIORS_INGEST__MEMORY_WAIT_S="90",
    )
    yield node
    made.stop()


def peak(node) -> int:
    """Return the most memory that the node has had so far, in bytes."""
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_a_real_node_holds_few_of_many_large_uploads(node):
    """All come side by side; what the node holds beyond its start is a fraction of that."""
    before = peak(node)

    def upload(number):
        data = instance(number, pixels=bytes(EACH))
        return node.store(data)["status"]

    with ThreadPoolExecutor(UPLOADS) as callers:
        outcomes = list(callers.map(upload, range(UPLOADS)))
    assert outcomes == ["accepted"] * UPLOADS
    grown = peak(node) - before
    assert grown < 4 * BOUND, f"it held {grown // MIB} MiB of {UPLOADS * EACH // MIB} MiB"
