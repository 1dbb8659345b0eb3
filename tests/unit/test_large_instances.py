"""Instances that are larger than the node wants in memory: in through every door, and out again."""

from __future__ import annotations

import asyncio
import errno
import os
import zlib
from io import BytesIO

import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from peer.dicom import read_header
from peer.dicom.content import KEPT_BYTES, Inflated
from peer.dicom.header import parse_header
from peer.index import studies
from peer.ingest import NamedFile
from peer.web.api.instances import runs
from protocol.errors import Refusal
from tests.dicom_samples import SAMPLES, data_set, encoded, instance
from tests.intake import SENDER, open_intake
from tests.unit.test_dimse import listening, send_raw
from tests.web_node import web_nodes

MIB = 2**20
SMALL = {"large_bytes": MIB, "memory_bytes": 2 * MIB}
PIXELS = os.urandom(5 * MIB)


def _deflated() -> bytes:
    plain = encoded(data_set(PixelData=PIXELS), ExplicitVRLittleEndian)
    header = read_header(plain)
    empty = encoded(data_set(), DeflatedExplicitVRLittleEndian)
    deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    body = deflater.compress(plain[header.data_set_offset :]) + deflater.flush()
    return empty[: read_header(empty).data_set_offset] + body


LARGE = {
    "explicit": encoded(data_set(PixelData=PIXELS), ExplicitVRLittleEndian),
    "implicit": encoded(data_set(PixelData=PIXELS), ImplicitVRLittleEndian),
    "big endian": encoded(data_set(PixelData=PIXELS), ExplicitVRBigEndian),
    "encapsulated": encoded(
        data_set(PixelData=encapsulate([PIXELS[at : at + MIB] for at in range(0, 5 * MIB, MIB)])),
        JPEG2000,
    ),
    "deflated": _deflated(),
}


async def in_pieces(intake, data, size=300_000):
    incoming = intake.ingest.incoming()
    for at in range(0, len(data), size):
        if incoming.add(data[at : at + size]):
            incoming.flush()
    return await intake.ingest.store_instance(incoming.take(), SENDER, "test")


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
async def test_a_large_instance_is_the_same_in_pieces_and_in_memory(tmp_path, data):
    async with open_intake(tmp_path / "large", **SMALL) as intake:
        assert (await in_pieces(intake, data)).status == "accepted"
        assert await intake.read("1.2.3.4") == data
        (streamed,) = await intake.db.read(lambda tx: studies.list_instances(tx, "1.2.3"))
        assert (await in_pieces(intake, data)).status == "duplicate"
        assert (await intake.take(data)).status == "duplicate"
        assert len(intake.store.sizes()) == 1, "what came twice left nothing behind"
    async with open_intake(tmp_path / "whole") as intake:
        assert (await intake.take(data)).status == "accepted"
        (whole,) = await intake.db.read(lambda tx: studies.list_instances(tx, "1.2.3"))
    assert streamed == whole


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (LARGE["explicit"][:-100], "truncated"),
        (LARGE["encapsulated"][:-100], "truncated"),
        (LARGE["deflated"][:-100], "truncated"),
        (encoded(data_set(StudyInstanceUID=None, PixelData=PIXELS)), "missing-uid"),
        (b"no DICOM at all" + PIXELS, "not-dicom"),
    ],
    ids=["cut", "cut fragments", "cut stream", "unnamed", "noise"],
)
async def test_of_one_that_is_refused_nothing_is_left(tmp_path, data, code):
    async with open_intake(tmp_path / "data", **SMALL) as intake:
        outcome = await in_pieces(intake, data)
        assert (outcome.status, outcome.code) == ("refused", code)
        assert not intake.store.sizes()
        assert await intake.db.read(studies.count) == (0, 0)


async def test_one_that_contradicts_what_is_held_is_destroyed(tmp_path):
    async with open_intake(tmp_path / "data", **SMALL) as intake:
        await in_pieces(intake, LARGE["explicit"])
        other = encoded(data_set(PixelData=PIXELS[::-1]))
        assert (await in_pieces(intake, other)).code == "conflict"
        assert len(intake.store.sizes()) == 1
        assert await intake.read("1.2.3.4") == LARGE["explicit"]


@pytest.mark.parametrize("after", range(4))
async def test_a_full_disk_in_the_middle_leaves_nothing(tmp_path, monkeypatch, after):
    real, count = os.write, []

    def write(file, data):
        count.append(file)
        if len(count) > after:
            raise OSError(errno.ENOSPC, "full")
        return real(file, data)

    async with open_intake(tmp_path / "data", **SMALL) as intake:
        monkeypatch.setattr(os, "write", write)
        outcome = await in_pieces(intake, LARGE["explicit"])
        monkeypatch.undo()
        if after < 3:
            assert outcome.code == "no-space"
            assert not intake.store.sizes()
        else:
            assert outcome.status == "accepted", "that many writes suffice"
        assert (await in_pieces(intake, LARGE["explicit"])).status in ("accepted", "duplicate")
        assert await intake.read("1.2.3.4") == LARGE["explicit"]


async def test_one_too_many_is_refused_and_dropped_as_it_comes(tmp_path):
    async with open_intake(tmp_path / "data", max_instance_bytes=3 * MIB, **SMALL) as intake:
        outcome = await in_pieces(intake, LARGE["explicit"])
        assert outcome.code == "oversized"
        assert "max_instance_bytes" in outcome.reason
        assert not intake.store.sizes()


async def test_a_quota_ends_one_that_is_coming(tmp_path):
    async with open_intake(
        tmp_path / "data", store={"keep_free_bytes": 0, "quota_bytes": 3 * MIB}, **SMALL
    ) as intake:
        assert (await in_pieces(intake, LARGE["explicit"])).code == "no-space"
        assert not intake.store.sizes()
        assert intake.store.room.held_bytes < MIB


async def test_what_a_crash_left_of_one_is_destroyed_at_the_next_start(tmp_path):
    async with open_intake(tmp_path / "data", **SMALL) as intake:
        incoming = intake.ingest.incoming()
        for at in range(0, 3 * MIB, MIB):
            if incoming.add(LARGE["explicit"][at : at + MIB]):
                incoming.flush()
        assert len(intake.store.sizes()) == 1
    async with open_intake(tmp_path / "data", **SMALL) as intake:
        assert intake.recovered.removed == 1
        assert not intake.store.sizes()


async def test_a_large_data_set_comes_by_c_store(tmp_path):
    async with listening(tmp_path, ingest=SMALL) as (intake, port):
        data = LARGE["explicit"]
        header = read_header(data)
        body = data[header.data_set_offset :]
        assert await asyncio.to_thread(send_raw, port, header, body) == 0
        kept = await intake.read("1.2.3.4")
        assert kept[read_header(kept).data_set_offset :] == body
        assert await asyncio.to_thread(send_raw, port, header, body[:-100]) == 0xC000
        assert len(intake.store.sizes()) == 1


async def test_large_instances_come_by_stow_and_leave_by_wado(tmp_path):
    made = [
        instance(1, pixels=PIXELS),
        instance(2),
        instance(3, pixels=PIXELS[::-1] + PIXELS[: 4 * MIB]),
    ]
    body = b"".join(
        b"--b\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in made
    )

    async def pieces():
        for at in range(0, len(body), 100_000):
            yield body[at : at + 100_000]
        yield b"--b--"

    async with (
        web_nodes(tmp_path, "St. Anna", ingest=SMALL) as (node,),
        node.program("clinician") as viewer,
    ):
        headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
        async with viewer.post("/dicom-web/studies", data=pieces(), headers=headers) as answer:
            assert answer.status == 200, await answer.text()
        headers = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        async with viewer.get("/dicom-web/studies/1.2.3", headers=headers) as answer:
            whole = await answer.read()
        assert all(each in whole for each in made)
        address = "/dicom-web/studies/1.2.3/series/1.2.3.1/instances/1.2.3.1.3"
        headers = {"Accept": "application/dicom; transfer-syntax=*"}
        async with viewer.get(address, headers=headers) as answer:
            assert answer.headers["Content-Length"] == str(len(made[2]))
            assert await answer.read() == made[2]
        sent = BytesIO(instance(4, pixels=PIXELS))
        async with viewer.post("/api/v1/instances", data=sent) as answer:
            assert (await answer.json())["status"] == "accepted"
        assert node.hospital.ingest.memory._room == MIB, "all memory was given back"


def named(path):
    found = path.stat()
    return NamedFile(str(path), found.st_dev, found.st_ino, found.st_size)


async def test_files_are_read_where_they_lie(tmp_path):
    contents = [instance(1), instance(2, pixels=PIXELS), b"no DICOM", instance(3)]
    paths = [tmp_path / f"{number}.dcm" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    files = [named(path) for path in paths]
    paths[3].write_bytes(instance(3) + b"\0\0")  # It has changed since it was named.
    absent = NamedFile(str(tmp_path / "absent"), 1, 1, 1)
    pipe = NamedFile(str(tmp_path / "pipe"), files[0].device, files[0].inode, files[0].size)
    other = NamedFile(str(paths[0]), files[1].device, files[1].inode, files[1].size)
    async with open_intake(tmp_path / "data", **SMALL) as intake:
        outcomes = await intake.ingest.store_files([*files, absent, pipe, other], SENDER, "test")
        shown = [each and (each.status, each.code) for each in outcomes]
        assert shown == [
            ("accepted", ""),
            ("accepted", ""),
            ("refused", "not-dicom"),
            *[None] * 4,
        ]
        for number in (1, 2):
            assert await intake.read(f"1.2.3.1.{number}") == contents[number - 1]


def test_a_header_is_the_same_with_everything_parsed_and_with_what_is_asked_for():
    from peer.dicom.header import header_of
    from peer.dicom.part10 import open_instance
    from peer.dicom.values import Reader

    compared = 0
    for path in SAMPLES:
        data = path.read_bytes()
        try:
            found = parse_header(data)
        except Refusal:
            continue
        opened = open_instance(data)
        assert found == header_of(opened, Reader(opened.data_set)), path.name
        compared += 1
    assert compared > 80


@pytest.mark.parametrize("size", [0, 1000, KEPT_BYTES, KEPT_BYTES + 1, KEPT_BYTES + 3 * MIB])
def test_a_deflated_data_set_is_unfolded_where_it_is_looked_at(size):
    plain = os.urandom(size)
    deflater = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    folded = b"before" + deflater.compress(plain) + deflater.flush()
    inflated = Inflated(folded, 6, 0)
    assert len(inflated) == size
    for start in (0, 5, size // 3, size - 10, 3):
        assert inflated[start : start + 700] == plain[max(0, start) : start + 700]
    with pytest.raises(Refusal, match="unfolds"):
        Inflated(folded, 6, size - 1) if size > 1 else Inflated(
            b"before" + zlib.compress(b"ab", wbits=-15), 6, 1
        )


def test_files_are_read_as_many_at_a_time_as_are_held_in_memory():
    files = [NamedFile(str(size), 1, size, size) for size in (4, 6, 5, 30, 1, 1)]
    assert [[file.size for file in run] for run in runs(files, 10)] == [[4, 6], [5], [30], [1, 1]]
    assert list(runs([], 10)) == []
