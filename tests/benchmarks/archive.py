"""An archive's journal of any size, written into a node that is not running.

The entries have the sizes and the shape of real ones: a patient's has 16 slots behind its head, a
study's one label.  What is sealed in them is random, for nobody asks for these patients.  They are
signed and stored by the code that every node publishes with.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass

from peer.clock import SystemClock
from peer.config import load
from peer.index import INDEX_MIGRATIONS, Database
from peer.index.held import Held
from peer.index.journal import append_entries
from peer.keys import load as load_keys
from peer.publish.publish import PATIENTS_AT_A_TIME
from protocol.digest import VERSION, BodyKind
from protocol.entries import SALT_BYTES
from protocol.identifiers import EntryId
from protocol.journal import Publish
from protocol.limits import DIGEST_SIZES, SLOT_BLOCK

STUDIES_PER_PATIENT = 3.7
"""What the national archives that the design was measured against have."""
PATIENT_BODY = 1008
"""Card and one block of slots: the size of most."""
SHORT_STUDY, LONG_STUDY = DIGEST_SIZES[:2]
LONG_SHARE = 0.375
"""Of studies; with the patient's entry it makes 560 bytes a study."""
BATCHES_AT_A_TIME = 64
"""Of one transaction, only to write the archive quickly; the batches are those of a live node."""


@dataclass(frozen=True)
class Written:
    """What `write` has added."""

    studies: int
    patients: int
    body_bytes: int
    seconds: float


def entries_of(patients, chance):
    """Return the entries of so many patients and of their studies."""
    made = []
    for _ in range(patients):
        head = bytes([VERSION, BodyKind.PATIENT, SLOT_BLOCK])
        made.append(_entry(head + chance.randbytes(PATIENT_BODY - len(head)), chance))
        whole = int(STUDIES_PER_PATIENT)
        studies = whole + (chance.random() < STUDIES_PER_PATIENT - whole)
        made += [study(chance) for _ in range(studies)]
    return made


def study(chance):
    """Return the entry of one study."""
    size = LONG_STUDY if chance.random() < LONG_SHARE else SHORT_STUDY
    return _entry(bytes([VERSION, BodyKind.STUDY]) + chance.randbytes(size - 2), chance)


def _entry(body, chance):
    return Publish(EntryId(chance.randbytes(16)), chance.randbytes(SALT_BYTES), body)


def write(data, studies, seed=1):
    """Publish `studies` studies and their patients as the node of `data`, which must not run."""
    return asyncio.run(_write(data, studies, seed))


async def _write(data, studies, seed):
    loop = asyncio.get_running_loop()
    started = loop.time()
    chance = random.Random(seed)
    done = patients = size = 0
    async with _opened(data) as (db, keys, lease_s):
        while done < studies:
            batches = []
            while done < studies and len(batches) < BATCHES_AT_A_TIME:
                entries = entries_of(PATIENTS_AT_A_TIME, chance)
                patients += PATIENTS_AT_A_TIME
                done += len(entries) - PATIENTS_AT_A_TIME
                size += sum(len(entry.body) for entry in entries)
                batches.append(entries)
            await db.write(lambda tx, some=batches: _append(tx, keys, some, lease_s))
    return Written(done, patients, size, loop.time() - started)


def append_studies(data, count, seed):
    """Append `count` studies in batches of a live node's size."""
    chance = random.Random(seed)
    portions = [
        [study(chance) for _ in range(min(256, count - start))] for start in range(0, count, 256)
    ]

    async def work():
        async with _opened(data) as (db, keys, lease_s):
            await db.write(lambda tx: _append(tx, keys, portions, lease_s))

    asyncio.run(work())
    return sum(len(entry.body) for portion in portions for entry in portion)


@asynccontextmanager
async def _opened(data):
    settings = load(data)
    keys = load_keys(data, settings)
    db = await Database.open(data / "index.db", keys.index_key, INDEX_MIGRATIONS)
    try:
        yield db, keys, settings.journal.lease_s
    finally:
        await db.close()


def _append(tx, keys, batches, lease_s):
    now = SystemClock().now()
    for entries in batches:
        append_entries(tx, keys, entries, now, lease_s)


def head(data):
    """Return where the journal of the node of `data` ends."""

    async def work():
        async with _opened(data) as (db, keys, _):
            return await db.read(lambda tx: Held(tx, keys.peer_id).head())

    return asyncio.run(work())
