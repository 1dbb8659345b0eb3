"""How many patients a node publishes in a second of its CPU, and what is known of them beforehand.

Patients, studies and consents are there; the journal could not be written so far.  Measured is the
pass over all patients that a node makes then, as after its first partner has come: match keys,
outputs, seals, signatures, tables, audit, in transactions of 32 patients.
"""

from __future__ import annotations

import asyncio
import time

from peer.clock import ManualClock
from peer.dicom.header import PatientAttributes
from peer.index import journal, nicknames
from protocol.evaluation import EVERYONE, Tier, evaluation_key, output
from protocol.matching.keys import index_keys
from tests.benchmarks.archive import STUDIES_PER_PATIENT
from tests.facilities import ISSUER, START, Facility
from tests.population import people

SEED = 20_261_124


def measure(folder, patients, repeats):
    """Return (patients per CPU second, patients per second, bytes of bodies for each study)."""
    return [asyncio.run(_measure(folder / f"publishing-{n}", patients)) for n in range(repeats)]


async def _measure(folder, patients):
    origin, partner = (Facility(name, ManualClock(START)) for name in ("Origin", "Partner"))
    async with origin.open(folder / "origin"), partner.open(folder / "partner"):
        origin.publish._may_write = lambda tx: False
        origin.meet(partner)
        studies = 0
        for number, person in enumerate(people(patients, SEED)):
            known = person.recorded()
            attributes = PatientAttributes(
                issuer=ISSUER,
                patient_id=f"MRN-{number:06d}",
                names=known.names,
                birth_date=known.birth_date,
                sex=known.sex,
                other_ids=(),
            )
            due = int(STUDIES_PER_PATIENT * (number + 1)) - studies
            for _ in range(due):
                studies += 1
                await origin.acquire(f"1.2.826.0.1.3680043.10.2.{studies}", attributes)
            await origin.consent(attributes)
        del origin.publish._may_write
        origin.publish._may_write = lambda tx: True
        origin.publish._look_at_all = True
        began, cpu = time.monotonic(), time.process_time()
        await origin.publish.look_at_all()
        spent, seconds = time.process_time() - cpu, time.monotonic() - began
        size = await origin.db.read(_body_bytes)
        head = await origin.db.read(lambda tx: journal.head(tx, origin.peer_id))
        assert head.live_count >= patients + studies, "not all were published"
        return patients / spent, patients / seconds, size / studies


def outputs_alone(patients):
    """Return for how many patients in a CPU second the outputs of all match keys could be made."""
    table, key = nicknames.load(), evaluation_key(bytes(32), Tier.STRONG, EVERYONE, 1)
    known = [index_keys(person.recorded(), table) for person in people(patients, SEED)]
    cpu = time.process_time()
    for keys in known:
        for each in keys:
            output(key, each.text)
    return patients / (time.process_time() - cpu)


def _body_bytes(tx):
    return tx.execute("SELECT sum(length(body)) FROM journal_bodies").fetchone()[0]
