"""Whole nodes in this process: all that `openpriors run` starts, on the test's own clock."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

from peer import config, keys, runtime, stopped
from peer.actors import Actor, Role
from peer.consents import NewDirective
from protocol.consent import ALL_PARTNERS
from protocol.identifiers import PatientIdentifier
from tests.facilities import ASK_JANE, CLINICIAN, ISSUER, JANE, OFFICER
from tests.processes import free_ports
from tests.transfers import make_instance

OPERATOR = Actor("op", "person", frozenset({Role.OPERATOR}))
MODALITY = Actor("CT1", "ae", frozenset())
UNTIL_S = 30
"""What is waited for takes moments; a busy machine may take many."""


async def until(condition, otherwise="what was waited for has not come"):
    """Return the first true answer to `condition()`, or to what it returns, awaited."""
    deadline = asyncio.get_running_loop().time() + UNTIL_S
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert asyncio.get_running_loop().time() < deadline, otherwise
        await asyncio.sleep(0.02)


class WholeNode:
    """One facility with its data directory; `rooms` are its services while it runs."""

    def __init__(self, name, folder, clock):
        self.name, self.data, self.clock = name, folder / name, clock
        self.root_key = folder / f"{name}.root"
        self.rooms = None
        self._running = None

    def init(self, **more):
        """Make the node; `more` are sections of its settings."""
        federation, pairing = free_ports(2)
        self.data.mkdir()
        url = "https://127.0.0.1:{}"
        addresses = {
            name: {"host": "127.0.0.1", "port": port, "public_url": url.format(port)}
            for name, port in (("federation", federation), ("pairing", pairing))
        }
        settings = {
            "facility": {"name": self.name},
            "local": {"port": 0},
            "dicom": {"enabled": False},
            "ingest": {"default_issuer": ISSUER},
            "search": {"deadline_s": 5, "per_hour": 100_000},
            "agreement": {"daily_searches": 0},
        }
        config.write_default(self.data, **(settings | addresses | more))
        keys.create(
            self.data,
            self.root_key,
            self.name,
            now=self.clock.now(),
            federation_url=url.format(federation),
            pairing_url=url.format(pairing),
        )

    async def start(self):
        if not (self.data / runtime.INDEX).exists():
            await stopped.first_link(self.data)
        self._running = AsyncExitStack()
        self.rooms = await self._running.enter_async_context(runtime.start(self.data, self.clock))

    async def stop(self):
        if self._running is not None:
            running, self._running, self.rooms = self._running, None, None
            await running.aclose()

    @property
    def keys(self):
        return keys.load(self.data, config.load(self.data))

    @property
    def peer_id(self):
        return self.keys.peer_id

    # -- what people and modalities do

    async def scan(self, uid, patient=JANE, count=1):
        """Take in a small study, settled."""
        for number in range(1, count + 1):
            data = make_instance(uid, number, size=2_000, patient=patient)
            outcome = await self.rooms.ingest.store_instance(data, MODALITY, "dimse")
            assert outcome.status == "accepted", outcome.reason
        await self.rooms.ingest.settle(uid)

    async def consent(self, patient=JANE, recipients=ALL_PARTNERS, **more):
        new = NewDirective(
            patient=(PatientIdentifier(patient.issuer, patient.patient_id),),
            grantor="the patient",
            recipients=recipients,
            **more,
        )
        return await self.rooms.consents.grant(new, OFFICER)

    async def find(self, question=ASK_JANE):
        return await self.rooms.search.search(question, CLINICIAN)

    async def finds(self, question=ASK_JANE):
        """Return (facility, Study Instance UID) of each partner's study that a search lists."""
        answer = await self.find(question)
        return {(r.facility.name, r.study_instance_uid) for r in answer.results if not r.local}

    # -- what its operator sees

    def freshness(self, other):
        """Return what the node says of how far it can rely on another one's journal."""
        return self.rooms.gossip.coverage()[other.peer_id]

    async def on_record(self, action):
        """Return the audit records of one action, oldest first, after the trail was verified."""
        assert (await self.rooms.audit.verify()).ok
        lines = [json.loads(line) async for line in self.rooms.audit.export(None, None)]
        return [line for line in lines if line["action"] == action]

    async def faults(self, other):
        """Return the codes of the faults of a partner that are on record."""
        found = await self.on_record("partner-fault")
        return [each["detail"]["code"] for each in found if each["partner"] == other.peer_id.hex()]


async def pair(one, other):
    """Make two running nodes partners, as their operators would, and let their journals meet."""
    invitation, _ = await one.rooms.partners.invite(OPERATOR)
    joined = await other.rooms.partners.join(invitation, OPERATOR)
    waiting = await until(lambda: one.rooms.partners.get(other.peer_id))
    assert joined.words == waiting.words
    await one.rooms.partners.confirm(other.peer_id, OPERATOR)
    await other.rooms.partners.confirm(one.peer_id, OPERATOR)
    for here, there in ((one, other), (other, one)):
        await until(
            lambda here=here, there=there: (
                here.rooms.gossip.coverage().get(there.peer_id)
                and here.freshness(there).head is not None
                and here.freshness(there).connected
            )
        )


@asynccontextmanager
async def whole_nodes(folder, clock, *names):
    """Run nodes that are all partners of each other."""
    made = [WholeNode(name, folder, clock) for name in names]
    try:
        for number, node in enumerate(made):
            node.init()
            await node.start()
            for other in made[:number]:
                await pair(other, node)
        yield made
    finally:
        for node in made:
            await node.stop()
