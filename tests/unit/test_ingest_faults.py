"""A disk that is full at any call, and bits that flip at rest: nothing false is told or shown."""

from __future__ import annotations

import errno
import os
import random
import shutil

import pytest

from peer.errors import Damaged, NodeError
from peer.index import packs, studies
from peer.ingest import commits
from tests.dicom_samples import instance
from tests.intake import SENDER, open_intake

MIB = 2**20
SIZES = {1: 9, 2: 300_000, 3: 3 * MIB, 4: 40_000}
CONTENTS = {
    number: instance(number, pixels=random.Random(number).randbytes(size))
    for number, size in SIZES.items()
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


class FullIndex:
    """Lets the index grow by `left` pages, and no further."""

    def __init__(self, db, left):
        self.db, self.left = db, left

    async def __aenter__(self):
        now = await self.db.read(lambda tx: tx.execute("PRAGMA page_count").fetchone()[0])
        await self.limit(now + self.left)

    async def __aexit__(self, *_):
        await self.limit(2**30)

    async def limit(self, pages):
        # The limit is a property of the connection: it stands in for the end of the disk.
        await self.db._writer.run(
            lambda tx: tx.execute(f"PRAGMA max_page_count = {pages}").fetchall()
        )


async def holds(intake, contents, said):
    """Compare what is held with what was said; return how many were accepted."""
    accepted = 0
    for number, outcome in said.items():
        if outcome.status == "accepted":
            assert await intake.read(f"1.2.3.1.{number}") == contents[number]
            accepted += 1
        else:
            assert outcome.code == "no-space", outcome
    return accepted


async def all_is_taken_then(root, contents, count):
    """Start again with room on the disk: nothing is damaged, and everything can be sent again."""
    async with open_intake(root, large_bytes=MIB) as intake:
        assert intake.recovered.damaged == ()
        assert intake.store.sizes() == await intake.db.read(packs.sizes)
        for number, content in contents.items():
            assert (await arrive(intake, content)).status in ("accepted", "duplicate")
            assert await intake.read(f"1.2.3.1.{number}") == content
        assert (await intake.db.read(studies.count))[1] == count


def contents_of(round_):
    """Return instances like CONTENTS, with UIDs of their own for each round."""
    numbers = {round_ * 100 + number: size for number, size in SIZES.items()}
    return {
        number: instance(number, pixels=random.Random(number).randbytes(size))
        for number, size in numbers.items()
    }


@pytest.mark.parametrize("small", [0, commits.SMALL_INSTANCES])
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.deep)])
async def test_whichever_write_finds_the_disk_full_what_was_said_holds(
    tmp_path, monkeypatch, step, small
):
    """Writes of a pack are tried as the first that fails, until none is left."""
    monkeypatch.setattr(commits, "SMALL_INSTANCES", small)
    held = 0
    for left in range(0, 100, step):
        contents = contents_of(left)
        async with open_intake(tmp_path, large_bytes=MIB) as intake:
            with monkeypatch.context() as patch:
                disk = FailingDisk(patch, left)
                said = {number: await arrive(intake, each) for number, each in contents.items()}
            accepted = await holds(intake, contents, said)
            assert (await intake.db.read(studies.count))[1] == held + accepted
        held += len(contents)
        await all_is_taken_then(tmp_path, contents, held)
        if not disk.failed:
            break
    assert not disk.failed, "every write was tried"
    assert left > 8


@pytest.mark.parametrize("pages", [(0, 3), pytest.param(range(40), marks=pytest.mark.deep)])
async def test_however_little_room_the_index_has_what_was_said_holds(tmp_path, pages):
    held = refused = 0
    for left in pages:
        numbers = range(left * 100, left * 100 + 16)
        contents = {number: instance(number, SOPInstanceUID=f"1.2.3.1.{number}",
                                     study=f"2.999.{number}") for number in numbers}  # fmt: skip
        async with open_intake(tmp_path, large_bytes=MIB) as intake:
            async with FullIndex(intake.db, left):
                said = {number: await arrive(intake, each) for number, each in contents.items()}
            accepted = await holds(intake, contents, said)
            assert (await intake.db.read(studies.count))[1] == held + accepted
        refused += len(contents) - accepted
        held += len(contents)
        await all_is_taken_then(tmp_path, contents, held)
    assert refused, "the index always had room"


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
