"""A disk that is full at any call, and bits that flip at rest: nothing false is told or shown."""

from __future__ import annotations

import errno
import os
import random
import shutil

import pytest

from peer.errors import Damaged, NodeError
from peer.index import studies
from tests.dicom_samples import instance
from tests.intake import SENDER, open_intake

MIB = 2**20
CONTENTS = {
    number: instance(number, pixels=random.Random(number).randbytes(size))
    for number, size in enumerate((9, 300_000, 3 * MIB, 40_000), start=1)
}
CALLS = ("open", "write", "fdatasync", "fsync")


class FailingDisk:
    """Lets the calls that write to a disk succeed `left` times, and then fail for good."""

    def __init__(self, monkeypatch, left):
        self.left, self.failed = left, False
        for name in CALLS:
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, real):
        def call(*arguments, **named):
            writes = real.__name__ != "open" or (arguments[1] & (os.O_WRONLY | os.O_RDWR))
            if writes:
                self.left -= 1
                if self.left < 0:
                    self.failed = True
                    raise OSError(errno.ENOSPC, "full")
            return real(*arguments, **named)

        return call


async def arrive(intake, content):
    incoming = intake.ingest.incoming()
    for at in range(0, len(content), 500_000):
        if incoming.add(content[at : at + 500_000]):
            incoming.flush()
    return await intake.ingest.store_instance(incoming.take(), SENDER, "test")


async def test_whichever_write_finds_the_disk_full_what_was_said_holds(tmp_path, monkeypatch):
    """Every write of a pack is tried as the first that fails, until none is left."""
    for left in range(100):
        root = tmp_path / str(left)
        async with open_intake(root, large_bytes=MIB) as intake:
            with monkeypatch.context() as patch:
                disk = FailingDisk(patch, left)
                said = {number: await arrive(intake, CONTENTS[number]) for number in CONTENTS}
            for number, outcome in said.items():
                if outcome.status == "accepted":
                    assert await intake.read(f"1.2.3.1.{number}") == CONTENTS[number]
                else:
                    assert outcome.code == "no-space", (left, outcome)
            kept = sum(outcome.status == "accepted" for outcome in said.values())
            assert (await intake.db.read(studies.count))[1] == kept
        async with open_intake(root, large_bytes=MIB) as intake:
            assert intake.recovered.damaged == ()
            for number, content in CONTENTS.items():
                assert (await arrive(intake, content)).status in ("accepted", "duplicate")
                assert await intake.read(f"1.2.3.1.{number}") == content
        shutil.rmtree(root)
        if not disk.failed:
            break
    assert not disk.failed, "every write was tried"
    assert left > 8


async def filled(root):
    async with open_intake(root, large_bytes=MIB) as intake:
        for content in CONTENTS.values():
            assert (await arrive(intake, content)).status == "accepted"
        await intake.ingest.settle()


def flip(path, chance):
    """Turn one bit of a file over."""
    with path.open("r+b") as file:
        at = chance.randrange(path.stat().st_size)
        file.seek(at)
        old = file.read(1)[0]
        file.seek(at)
        file.write(bytes([old ^ 1 << chance.randrange(8)]))


@pytest.mark.parametrize("rounds", [12, pytest.param(200, marks=pytest.mark.deep)])
async def test_a_flipped_bit_in_a_pack_is_one_instance_that_is_not_shown(tmp_path, rounds):
    await filled(tmp_path / "data")
    chance = random.Random(20260103)
    folder = tmp_path / "data" / "store" / "packs"
    for _ in range(rounds):
        path = chance.choice(sorted(folder.iterdir()))
        whole = path.read_bytes()
        flip(path, chance)
        async with open_intake(tmp_path / "data", large_bytes=MIB) as intake:
            damaged = []
            for number, content in CONTENTS.items():
                try:
                    assert await intake.read(f"1.2.3.1.{number}") == content
                except Damaged:
                    damaged.append(number)
            assert len(damaged) == 1
        path.write_bytes(whole)


@pytest.mark.parametrize("rounds", [12, pytest.param(200, marks=pytest.mark.deep)])
async def test_a_flipped_bit_in_the_index_is_an_error_and_never_other_content(tmp_path, rounds):
    """The index has the manifests too.  Each of its pages is authenticated (SQLCipher)."""
    await filled(tmp_path / "data")
    chance, noticed = random.Random(20260104), 0
    for number in range(rounds):
        root = tmp_path / str(number)
        shutil.copytree(tmp_path / "data", root)
        flip(root / "index.db", chance)
        try:
            async with open_intake(root, large_bytes=MIB) as intake:
                for each, content in CONTENTS.items():
                    assert await intake.read(f"1.2.3.1.{each}") == content
        except NodeError:
            noticed += 1
        shutil.rmtree(root)
    assert noticed, "no flip was where anything was read"
