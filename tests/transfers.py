"""Facilities that also keep real images: what `tests.facilities` has, with stores and retrievals.

What passes between two of them is encoded as on a link and may be cut, delayed or altered on the
way (`Links.meddle`).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from peer.access import Access
from peer.actors import Actor
from peer.clock import ManualClock
from peer.config import Settings
from peer.ingest import Ingest
from peer.link import NotConnected
from peer.link.ranges import read_pack_path
from peer.notify import Notify
from peer.partners import Partners
from peer.retrieve import Retrieve
from peer.store import Store
from protocol.agreement import Terms
from protocol.limits import PIECE_BYTES
from protocol.sealing import exchange_public_key
from protocol.signing import public_key
from tests import facilities as base
from tests.facilities import JANE, START

MODALITY = Actor("CT1", "ae", frozenset())
STUDY = "1.2.826.0.1.3680043.8.498.1"


@dataclass(frozen=True)
class Partner:
    """What these rooms need of a partner."""

    peer_id: bytes
    name: str
    record: SimpleNamespace
    our_terms: Terms = field(default_factory=Terms)
    their_terms: Terms = field(default_factory=Terms)
    active: bool = True


class Links(base.Links):
    """Hands requests and ranges to the other side; `meddle(path, start, data)` may alter a range,
    or raise."""

    def __init__(self, me):
        super().__init__(me)
        self.up = []
        self.ranges = []
        self.bytes = 0
        self.requests = []
        self.meddle = None

    def on_connected(self, callback):
        self.up.append(callback)

    async def request(self, peer_id, message, timeout_s):
        self.requests.append(type(message).__name__)
        return await super().request(peer_id, message, timeout_s)

    async def open_range(self, peer_id, path, start, end):
        other, me = self._reach(peer_id)
        grant_id, pack_id = read_pack_path(path)
        await asyncio.sleep(0)
        data = await other.retrieve.origin.read_range(me, grant_id, pack_id, start, end)
        self.ranges.append((pack_id, start, end))
        if self.meddle is not None:
            data = await self.meddle(path, start, data)
        self.bytes += len(data)
        return data

    async def stream_range(self, peer_id, path, start, end):
        for at in range(start, end, PIECE_BYTES):
            yield await self.open_range(peer_id, path, at, min(end, at + PIECE_BYTES))

    def _reach(self, peer_id):
        if not self.me.knows[peer_id].running:
            raise NotConnected("no link")
        return super()._reach(peer_id)

    def connect(self, *others):
        """Let the link to others come up."""
        for other in others:
            self.offline.discard(other.peer_id)
            other.links.offline.discard(self.me.peer_id)
            for callback in self.up:
                callback(other.peer_id)
            for callback in other.links.up:
                callback(self.me.peer_id)

    def cut(self, *others):
        for other in others:
            self.offline.add(other.peer_id)
            other.links.offline.add(self.me.peer_id)


class Trust:
    """The trust table of a hospital."""

    def __init__(self, me):
        self.me = me

    def get(self, peer_id):
        return next((p for p in self.all() if p.peer_id == peer_id), None)

    def all(self):
        return self.me.partners

    def active(self):
        return self.me.active

    trusted = Partners.trusted
    name = Partners.name


class Hospital(base.Facility):
    """One node with everything that a retrieval needs."""

    running = False

    def __init__(self, name, clock, **settings):
        super().__init__(name, clock)

        def secret(what):
            return hashlib.sha256(f"{name} {what}".encode()).digest()

        self.keys = SimpleNamespace(
            **vars(self.keys),
            node_public=public_key(self.node_seed),
            seal_public=exchange_public_key(secret("seal")),
            store_key=secret("store"),
        )
        self.settings = Settings(facility={"name": name}, **settings)
        self.links = Links(self)

    @asynccontextmanager
    async def open(self, folder):
        """Open the node; it may be opened again over the same folder, as after a restart."""
        async with super().open(folder), AsyncExitStack() as stack:
            self.store = Store(folder / "store")
            self.ingest = Ingest(
                self.db, self.store, self.keys.store_key, self.clock, self.settings
            )
            self.ingest.on_settled(self.publish.study_changed)
            await self.ingest.recover()
            stack.push_async_callback(self.ingest.close)
            self.access = Access(self.db, self.clock, self.settings.audit)
            self.links.up.clear()
            self.retrieve = Retrieve(
                db=self.db,
                store=self.store,
                keys=self.keys,
                access=self.access,
                partners=Trust(self),
                links=self.links,
                reciprocity=self.reciprocity,
                ingest=self.ingest,
                prior=self.search.prior,
                clock=self.clock,
                settings=self.settings,
            )
            self.notify = Notify(
                db=self.db,
                keys=self.keys,
                access=self.access,
                partners=Trust(self),
                links=self.links,
                clock=self.clock,
                settings=self.settings,
            )
            rooms = [asyncio.create_task(room.run()) for room in (self.retrieve, self.notify)]
            self.running = True
            try:
                yield self
            finally:
                self.running = False
                for task in rooms:
                    task.cancel()
                for task in rooms:
                    with suppress(asyncio.CancelledError):
                        await task

    def meet(self, other, terms=Terms()):  # noqa: B008 - Terms is frozen
        for one, two, ours, theirs in (
            (self, other, terms, Terms()),
            (other, self, Terms(), terms),
        ):
            record = SimpleNamespace(
                node_public=two.keys.node_public, seal_public=two.keys.seal_public
            )
            one.partners.append(Partner(two.peer_id, two.name, record, ours, theirs))
            one.knows[two.peer_id] = two

    # -- images
    async def scan(self, uid=STUDY, count=3, *, size=600_000, patient=JANE, first=1, **changes):
        """Take in `count` real instances of one study; return them by SOP Instance UID.

        `changes`: attributes by keyword.
        """
        files = {}
        for number in range(first, first + count):
            data = make_instance(uid, number, size=size, patient=patient, **changes)
            outcome = await self.ingest.store_instance(data, MODALITY, "dimse")
            assert outcome.status == "accepted", outcome.reason
            files[outcome.sop_instance_uid] = data
        await self.ingest.settle(uid)
        return files

    async def kept(self, uid=STUDY):
        """Return the instances of a study that are held here, decrypted, by SOP Instance UID."""
        permit = await self.access.permit_local(uid, base.CLINICIAN, "view")
        rows = await self.db.read(lambda tx: base.studies.list_instances(tx, uid))
        return {
            row.sop_instance_uid: await self.retrieve.read_instance(permit, row.sop_instance_uid)
            for row in rows
        }

    async def fetch(self, origin, uid=STUDY, actor=base.CLINICIAN):
        """Fetch a study and wait for the end."""
        started = await self.retrieve.retrieve(origin.peer_id, uid, actor)
        async with asyncio.timeout(60):
            return await self.retrieve.finished(started.retrieval_id)

    async def actions(self, action):
        """Return the audit records of one action, oldest first."""
        lines = [line async for line in self.audit.export(None, None)]
        found = [json.loads(line) for line in lines]
        return [record for record in found if record["action"] == action]


def make_instance(uid, number, *, size=600_000, patient=JANE, **changes):
    """Return a CT file of about `size` bytes of noise, the same for the same arguments."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{uid}.1.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = uid
    data.SeriesInstanceUID = f"{uid}.1"
    data.PatientID = patient.patient_id
    data.IssuerOfPatientID = patient.issuer
    data.PatientName = patient.names[0]
    data.PatientBirthDate = patient.birth_date
    data.PatientSex = patient.sex
    data.StudyDate = "20261102"
    data.StudyTime = "101500"
    data.Modality = "CT"
    data.InstanceNumber = number
    data.Rows = data.Columns = 16
    data.BitsAllocated = 16
    data.PixelData = random.Random(f"{uid} {number}").randbytes(size // 2 * 2)
    data.update(changes)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


@asynccontextmanager
async def hospitals(folder, *names, start=START, **settings):
    """Open hospitals that are partners of each other."""
    clock = ManualClock(start)
    async with AsyncExitStack() as stack:
        opened = [Hospital(name, clock, **settings) for name in names]
        for i, one in enumerate(opened):
            for other in opened[:i]:
                one.meet(other)
        for one in opened:
            await stack.enter_async_context(one.open(folder / one.name))
        await base.everyone_shares(*opened)
        yield opened


async def ready(alice, bob, **scan):
    """Let Bob hold a consented study that Alice has found; return its files."""
    files = await bob.scan(**scan)
    await bob.consent()
    await base.everyone_shares(alice, bob)
    assert await alice.finds()
    return files


def files_below(folder):
    """Return the bytes of every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
