"""A node that is killed in the middle of a rotation has its old keys or the new ones, whole."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peer import keys as node_keys
from peer.index import batches, journal
from peer.index.database import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database
from tests.simulation.memory import labels_of, publish
from tests.unit.federation.facility import NOW, SETTINGS

ROTATES = '''
"""Rotates the node of a folder and kills itself at the step that it is told."""
import asyncio, os, signal, sys
from pathlib import Path
from peer import keys as node_keys, rotation
from peer.actors import NODE
from peer.audit import Audit
from peer.clock import ManualClock
from peer.index import database
from peer.index.database import INDEX_MIGRATIONS, Database
from peer.keys import files
from protocol.keyrecord import sign_record
from tests.unit.federation.facility import NOW, SETTINGS

folder, step = Path(sys.argv[1]), sys.argv[2]

def die_at(name):
    if name == step:
        os.kill(os.getpid(), signal.SIGKILL)

def dying(function, before, after):
    def wrapped(*arguments, **named):
        die_at(before)
        result = function(*arguments, **named)
        die_at(after)
        return result
    return wrapped

class Links:
    async def keys_changed(self):
        die_at("durable, nobody told")

    async def keys_retired(self):
        raise AssertionError("these keys are the newest")

files.os.fsync = dying(os.fsync, "new file not durable", "")
Path.replace = dying(Path.replace, "new file durable, old one in place", "")
rotation.install = dying(rotation.install, "installing", "installed, not adopted")

async def main():
    keys = node_keys.load(folder / "data", SETTINGS)
    db = await Database.open(folder / "index.db", keys.index_key, INDEX_MIGRATIONS)
    await Audit.open(db, ManualClock(NOW), keys.audit_key)
    adopt = type(keys).adopt
    def adopted(self, newer):
        adopt(self, newer)
        die_at("adopted, not committed")
    type(keys).adopt = adopted
    rotated = rotation.Rotation(
        folder / "data",
        SETTINGS,
        db=db,
        keys=keys,
        clock=ManualClock(NOW),
        links=Links(),
        may_write=lambda _: True,
    )
    record = await rotated.begin(new_keys=True)
    die_at("drafted")
    signed = sign_record(node_keys.read_root_key(folder / "root.key"), record)
    try:
        await rotated.finish(signed, NODE)
    finally:
        await db.close()

asyncio.run(main())
'''

STEPS = {
    "drafted": 1,
    "installing": 1,
    "new file not durable": 1,
    "new file durable, old one in place": 1,
    "installed, not adopted": 2,
    "adopted, not committed": 2,
    "durable, nobody told": 2,
    "never": 2,
}
"""Each step, and the revision of the keys that are found after it."""


async def opened(folder, keys):
    return await Database.open(folder / "index.db", keys.index_key, INDEX_MIGRATIONS)


async def append(db, keys, number):
    await db.write(
        lambda tx: journal.append_entries(tx, keys, [publish(number)], NOW + number, 3600)
    )


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at(step, tmp_path):
    before = node_keys.create(tmp_path / "data", tmp_path / "root.key", "A", now=NOW)
    db = await opened(tmp_path, before)
    await append(db, before, 1)
    await db.close()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", ROTATES, str(tmp_path), step],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (0 if step == "never" else -signal.SIGKILL), done.stderr

    keys = node_keys.load(tmp_path / "data", SETTINGS)
    assert keys.key_record.revision == STEPS[step]
    assert (keys.node_seed == before.node_seed) == (STEPS[step] == 1)
    assert keys.index_key == before.index_key
    db = await opened(tmp_path, keys)
    reader = await Database.open(tmp_path / "partners.db", None, PARTNERS_MIGRATIONS)
    try:
        await append(db, keys, 2)
        written = await db.read(lambda tx: batches.load(tx, keys.peer_id, 0).batches)
        run = await reader.write(
            lambda tx: batches.store(tx, keys.peer_id, keys.node_keys, written, labels_of)
        )
        assert run.error is None, "a partner follows the journal across the crash"
        assert run.head.batch == 1
    finally:
        await db.close()
        await reader.close()
    renewed = node_keys.renew(
        tmp_path / "data", SETTINGS, tmp_path / "root.key", now=NOW, new_keys_from=(0, 2)
    )
    assert renewed.key_record.revision == STEPS[step] + 1, "the next rotation is not in the way"
