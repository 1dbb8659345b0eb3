"""kill -9 at any point: what was acknowledged is there, everything else is absent or whole."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from peer.dicom import read_header
from peer.index import packs, studies
from tests.dicom_samples import instance
from tests.intake import open_intake
from tests.modality import Modality

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 2
CHECKED_EVERY = 8
APART = 100_000
"""Between the numbers of two rounds."""
SENDERS = 12
LIMITS = {"large_bytes": 2**20}
"""So that the largest are written as they come."""

# Sends without end, many at a time, and prints what was acknowledged, a line at once.
SENDER = """
import asyncio, os, random, sys
from pathlib import Path
from peer.ingest import NamedFile
from tests.intake import SENDER, open_intake
from tests.unit.test_ingest_killed import APART, LIMITS, content as content_of

root, first = Path(sys.argv[1]), int(sys.argv[2])

async def by_file(intake, number, content):
    path = root / f"{number}.dcm"
    path.write_bytes(content)
    found = path.stat()
    file = NamedFile(str(path), found.st_dev, found.st_ino, found.st_size)
    (outcome,) = await intake.ingest.store_files([file], SENDER, "test")
    path.unlink()
    return outcome

async def in_pieces(intake, number, content):
    incoming = intake.ingest.incoming()
    for at in range(0, len(content), 100_000):
        if incoming.add(content[at : at + 100_000]):
            await asyncio.to_thread(incoming.flush)
    return await intake.ingest.store_instance(incoming.take(), SENDER, "test")

async def whole(intake, number, content):
    return await intake.take(content)

async def send(intake, numbers):
    for number in numbers:
        content = content_of(number)
        way = (whole, by_file, in_pieces)[number % 3]
        outcome = await way(intake, number, content)
        assert outcome.status in {"accepted", "duplicate"}, outcome
        os.write(1, f"{number}\\n".encode())
        if number % 17 == 0:
            await intake.ingest.settle(outcome.study_instance_uid)

async def main():
    async with open_intake(root, **LIMITS) as intake:
        os.write(1, b"ready\\n")
        senders = SENDERS
        await asyncio.gather(
            *[send(intake, range(first + at, first + APART, senders)) for at in range(senders)]
        )

asyncio.run(main())
""".replace("senders = SENDERS", f"senders = {SENDERS}")


def content(number):
    made = random.Random(number)
    pixels = made.randbytes(made.choice([9, 700_000, 2_500_000]))
    return instance(number, study=f"1.2.{number % 5}", pixels=pixels)


def run_and_kill(root, first, chance):
    """Return the numbers that were acknowledged before the kill.

    It comes a random while after the start or, every second time, after the first answer: then
    something was acknowledged however slow the machine is.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SENDER, str(root), str(first)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout.readline() == b"ready\n"
    answered = process.stdout.readline() if first // APART % 2 == 0 else b""
    time.sleep(chance.uniform(0.02, 0.5))
    os.kill(process.pid, signal.SIGKILL)
    lines, _ = process.communicate()
    return [int(line) for line in (answered + lines).decode().split()]


async def check(root, acknowledged):
    """Compare what is held with what was said to be; nothing may be lost, torn or left over."""
    async with open_intake(root) as intake:
        assert intake.recovered.damaged == ()
        recorded = await intake.db.read(packs.sizes)
        assert intake.store.sizes() == recorded, "a torn tail or an unknown pack was left"
        held = set()
        for study in await intake.db.read(studies.list_studies):
            uid = study.study_instance_uid
            for row in await intake.db.read(lambda tx, uid=uid: studies.list_instances(tx, uid)):
                kept, sent = await intake.read(row.sop_instance_uid), content(row.instance_number)
                assert data_set_of(kept) == data_set_of(sent)
                held.add(row.instance_number)
        assert acknowledged <= held, f"lost: {sorted(acknowledged - held)[:5]}"
        assert (await intake.audit.verify()).ok


def data_set_of(data):
    """Return all but the file meta information, which C-STORE leaves to the receiver."""
    return data[read_header(data).data_set_offset :]


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(80, marks=pytest.mark.deep)])
async def test_every_acknowledged_instance_survives_a_kill(tmp_path, rounds):
    root = tmp_path / "data"
    chance = random.Random(20260101)
    acknowledged = set()
    for number in range(rounds):
        acknowledged |= set(run_and_kill(root, 1 + number * APART, chance))
        if number % CHECKED_EVERY == CHECKED_EVERY - 1:
            await check(root, acknowledged)
    await check(root, acknowledged)
    assert acknowledged, "nothing was acknowledged in any round; the test shows nothing"


LISTENER = """
import asyncio, os, sys
from pathlib import Path
from tests.unit.test_dimse import listening
from tests.unit.test_ingest_killed import LIMITS

async def main():
    async with listening(Path(sys.argv[1]), ingest=LIMITS) as (_, port):
        os.write(1, f"{port}\\n".encode())
        await asyncio.Event().wait()

asyncio.run(main())
"""


def send_until_killed(port, numbers, acknowledged):
    with suppress(ConnectionError), Modality(port) as modality:
        for number in numbers:
            assert modality.store(content(number)) == 0
            acknowledged.append(number)


def store_and_kill(root, first, chance):
    """Return the numbers that three modalities were told are stored before the kill.

    It comes a random while after the first answer, however slow the machine is.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENER, str(root)], stdout=subprocess.PIPE, cwd=ROOT
    )
    port, acknowledged = int(process.stdout.readline()), []
    senders = [
        threading.Thread(
            target=send_until_killed,
            args=(port, range(first + at, first + APART, 3), acknowledged),
        )
        for at in range(3)
    ]
    for each in senders:
        each.start()
    deadline = time.monotonic() + 60
    while not acknowledged and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.4))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for each in senders:
        each.join(60)
    return acknowledged


@pytest.mark.parametrize("rounds", [1, pytest.param(80, marks=pytest.mark.deep)])
async def test_what_a_modality_was_told_is_stored_survives_a_kill(tmp_path, rounds):
    chance, acknowledged = random.Random(20260102), set()
    for number in range(rounds):
        first = 1 + number * APART
        told = await asyncio.to_thread(store_and_kill, tmp_path, first, chance)
        assert told, "nothing was acknowledged; the round shows nothing"
        acknowledged |= set(told)
        if number % CHECKED_EVERY == CHECKED_EVERY - 1:
            await check(tmp_path / "data", acknowledged)
    await check(tmp_path / "data", acknowledged)
