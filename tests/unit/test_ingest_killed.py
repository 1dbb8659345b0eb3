"""kill -9 at any point: what was acknowledged is there, everything else is absent or whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from peer.index import packs, studies
from tests.dicom_samples import instance
from tests.intake import open_intake

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 8
SENDERS = 12

# Sends without end, many at a time, and prints what was acknowledged, a line at once.
SENDER = """
import asyncio, os, random, sys
from pathlib import Path
from tests.dicom_samples import instance
from tests.intake import open_intake

root, first = Path(sys.argv[1]), int(sys.argv[2])

def data(number):
    made = random.Random(number)
    pixels = made.randbytes(made.choice([9, 700_000]))
    return instance(number, study=f"1.2.{number % 5}", pixels=pixels)

async def send(intake, numbers):
    for number in numbers:
        content = data(number)
        outcome = await intake.take(content)
        assert outcome.status in {"accepted", "duplicate"}, outcome
        os.write(1, f"{number}\\n".encode())
        if number % 17 == 0:
            await intake.ingest.settle(outcome.study_instance_uid)

async def main():
    async with open_intake(root) as intake:
        os.write(1, b"ready\\n")
        senders = SENDERS
        await asyncio.gather(
            *[send(intake, range(first + at, first + 100_000, senders)) for at in range(senders)]
        )

asyncio.run(main())
""".replace("senders = SENDERS", f"senders = {SENDERS}")


def content(number):
    made = random.Random(number)
    pixels = made.randbytes(made.choice([9, 700_000]))
    return instance(number, study=f"1.2.{number % 5}", pixels=pixels)


def run_and_kill(root, first, after_s):
    """Return the numbers that were acknowledged before the kill."""
    process = subprocess.Popen(
        [sys.executable, "-c", SENDER, str(root), str(first)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout.readline() == b"ready\n"
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    lines, _ = process.communicate()
    return [int(line) for line in lines.decode().split()]


async def test_every_acknowledged_instance_survives_a_kill(tmp_path):
    root = tmp_path / "data"
    chance = random.Random(20260101)
    acknowledged = set()
    for number in range(ROUNDS):
        acknowledged |= set(run_and_kill(root, 1 + number * 100_000, chance.uniform(0.02, 0.5)))
    assert acknowledged, "nothing was acknowledged in any round; the test shows nothing"
    async with open_intake(root) as intake:
        assert intake.recovered.damaged == ()
        recorded = await intake.db.read(packs.sizes)
        assert intake.store.sizes() == recorded, "a torn tail or an unknown pack was left"
        held = set()
        for study in await intake.db.read(studies.list_studies):
            uid = study.study_instance_uid
            for row in await intake.db.read(lambda tx, uid=uid: studies.list_instances(tx, uid)):
                assert await intake.read(row.sop_instance_uid) == content(row.instance_number)
                held.add(row.instance_number)
        assert acknowledged <= held, f"lost: {sorted(acknowledged - held)[:5]}"
        assert (await intake.audit.verify()).ok
