"""Facilities in one process: real databases, journals and searches, and no network between them.

What would travel is encoded and decoded as on a link; `share` is one exchange.
"""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import ClassVar

from peer.access import Access
from peer.actors import Actor
from peer.alerts import Alerts
from peer.audit import Audit
from peer.clock import ManualClock
from peer.config import Settings
from peer.consents import Consents, NewDirective
from peer.dicom.header import (
    Header,
    InstanceAttributes,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)
from peer.index import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database, batches, packs, studies
from peer.index import instances as instance_rows
from peer.index.frontiers import Frontier
from peer.index.held import Held
from peer.index.instances import Placement
from peer.index.packs import PackRow
from peer.link import LinkState, NotConnected
from peer.patients import Patients
from peer.publish import Publish
from peer.reciprocity import Reciprocity
from peer.recovery import Recovery
from peer.search import Delegations, Identifying, Identities, PersonLinks, Question, Search
from protocol import digest
from protocol.agreement import Terms
from protocol.consent import ALL_PARTNERS, Recipients
from protocol.errors import Refusal, RemoteProtocolError
from protocol.frontier import is_fresh, origin_head
from protocol.identifiers import PatientIdentifier
from protocol.journal import Head
from protocol.messages import Done, Kind, decode, encode
from protocol.nodekeys import only_key
from protocol.reciprocity import Progress
from protocol.sealing import exchange_public_key
from protocol.signing import public_key

START = 1_795_000_000
"""2026-11-18."""
ISSUER = "1.2.40.0.13.1"
CLINICIAN = Actor("dr.grey", "person", frozenset({"clinician"}))
OFFICER = Actor("pat.officer", "person", frozenset({"privacy-officer"}))

JANE = PatientAttributes(
    issuer=ISSUER,
    patient_id="MRN-00017",
    names=("Mueller^Jane Ann",),
    birth_date="19800517",
    sex="F",
    other_ids=(),
)
ASK_JANE = Question(name="Mueller^Jane", birth_date="19800517", sex="F")


@dataclass(frozen=True)
class Partner:
    """What publishing and searching need of a partner."""

    peer_id: bytes
    name: str
    our_terms: Terms = field(default_factory=Terms)
    their_terms: Terms = field(default_factory=Terms)
    active: bool = True
    record: object = None


class Links:
    """Hands a request to the partner's handler, through the bytes that would travel."""

    def __init__(self, me):
        self.me = me
        self.handlers = {}
        self.offline = set()
        self.sent = []
        self.error_code = "unreachable"

    def handle(self, kind, handler):
        self.handlers[kind] = handler

    async def request(self, peer_id, message, timeout_s):
        other, me = self._reach(peer_id)
        self.sent.append(encode(message, Kind.REQUEST, 1))
        _, received = decode(self.sent[-1])
        try:
            answer = await other.links.handlers[type(received)](received, me)
        except RemoteProtocolError as error:
            raise Refusal(error.code, str(error)) from error
        _, returned = decode(encode(answer or Done(), Kind.ANSWER, 1))
        return returned

    def _reach(self, peer_id):
        """Return a facility, and what it has on record of this one."""
        if peer_id in self.offline:
            raise NotConnected("no link")
        other = self.me.knows[peer_id]
        return other, next(p for p in other.partners if p.peer_id == self.me.peer_id)

    def state(self, peer_id):
        return LinkState(
            connected=peer_id not in self.offline, since=START, last_error_code=self.error_code
        )


class Facility:
    """One node's journal, consents, publications and searches."""

    more_settings: ClassVar = {}
    """Sections of the settings that a test wants otherwise."""

    def __init__(self, name, clock):
        def secret(what):
            return hashlib.sha256(f"{name} {what}".encode()).digest()

        self.name = name
        self.clock = clock
        self.node_seed = secret("node")
        self.peer_id = public_key(secret("root"))
        self.keys = SimpleNamespace(
            peer_id=self.peer_id,
            node_seed=self.node_seed,
            node_keys=only_key(public_key(self.node_seed)),
            are_retired=False,
            search_master=secret("search"),
            pseudonym_key=secret("pseudonym"),
            seal_secret=secret("seal"),
            unsealed=lambda unseal: unseal(secret("seal")),
        )
        self.record = SimpleNamespace(
            node_public=public_key(self.node_seed),
            seal_public=exchange_public_key(secret("seal")),
        )
        self.index_key = secret("index")
        self.audit_key = secret("audit")
        self.settings = Settings(facility={"name": name}, **self.more_settings)
        self.partners = []
        self.frontiers = {}
        self.per_hour = 60
        self.knows = {}
        self.links = Links(self)
        self.told = 0

    async def build(self, folder):
        """Open the databases in `folder` and build the rooms over them."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.db = await Database.open(folder / "index.db", self.index_key, INDEX_MIGRATIONS)
        self.partners_db = await Database.open(folder / "partners.db", None, PARTNERS_MIGRATIONS)
        self.audit = await Audit.open(self.db, self.clock, self.audit_key)
        self.recovery = Recovery(self.db, folder, self.keys, self.clock, lambda: self.active)
        self.publish = Publish(
            self.db,
            self.keys,
            self.clock,
            partners=lambda: self.active,
            appended=self._appended,
            may_write=self.recovery.may_write,
            settings=self.settings,
        )
        self.freshness = {}
        self.reciprocity = Reciprocity(self.db, self.peer_id, self.links, self.clock, self)
        self.alerts = Alerts(self.db, self.clock, self.partner_name, listed=100)
        self.consents = Consents(self.db, self.clock)
        self.consents.apply_with(self.publish.apply_in)
        self.consents.on_change(self.publish.written)
        self.patients = Patients(self.db, self.clock)
        self.patients.renew_with(self.publish.renew_in)
        self.patients.apply_with(self.publish.apply_in)
        self.patients.on_change(self.publish.written)
        self.person_links = PersonLinks(
            self.db,
            self.keys,
            self.clock,
            self.settings,
            name_of=lambda peer_id: self.knows[peer_id].name,
        )
        self.delegations = Delegations(
            self.db,
            self.keys,
            self.links,
            self.clock,
            lambda: self.active,
            self.publish.keys_due,
        )
        await self.delegations.load()
        self.search = Search(
            self.db,
            self.partners_db,
            self.keys,
            self.links,
            self.clock,
            reciprocity=self.reciprocity,
            delegations=self.delegations,
            person_links=self.person_links,
            settings=self.settings,
            partners=lambda: self.active,
            coverage=lambda: self.freshness,
        )
        self.identifying = Identifying(
            self.db,
            self.partners_db,
            self.keys,
            self.clock,
            reciprocity=self.reciprocity,
            partners=lambda: self.active,
            deadline_s=5,
        )
        self.identities = Identities(
            self.db,
            self.keys,
            self.links,
            self.clock,
            access=Access(self.db, self.clock, self.settings.audit),
            reciprocity=self.reciprocity,
            name_of=lambda peer_id: self.knows[peer_id].name,
            per_hour=self.per_hour,
        )

    @asynccontextmanager
    async def open(self, folder):
        await self.build(folder)
        await self.publish.renew()
        try:
            yield self
        finally:
            await self.db.close()
            await self.partners_db.close()

    def frontier(self, peer_id):
        """What is held of a partner's journal; unless a test says otherwise, all of it."""
        if peer_id in self.frontiers:
            return self.frontiers[peer_id]
        now = self.clock.now()
        head = Head(0, 0, 0, 1, bytes(32), 0, bytes(32), now, now + 72 * 3600)
        return Frontier(head, progress=Progress(completed_at=now))

    async def exchange_now(self, peer_id):
        """What a test may want to happen when a partner wants an exchange first."""

    async def claims(self):
        """What each partner holds of our journal: what it was given by `share`."""
        return {
            peer_id: origin_head(self.peer_id, other.freshness[self.peer_id].head)
            for peer_id, other in self.knows.items()
            if self.peer_id in other.freshness
        }

    def partner_name(self, peer_id):
        return next(p.name for p in self.partners if p.peer_id == peer_id)

    @property
    def active(self):
        return [partner for partner in self.partners if partner.active]

    async def _appended(self):
        self.told += 1
        await self.on_appended()

    async def on_appended(self):
        """What a test may want to happen when the journal has grown."""

    def meet(self, other, terms=Terms()):  # noqa: B008 - Terms is frozen
        """Become partners with `other`; `terms`: what this side offers."""
        self.partners.append(Partner(other.peer_id, other.name, terms, record=other.record))
        self.knows[other.peer_id] = other
        other.partners.append(
            Partner(self.peer_id, self.name, their_terms=terms, record=self.record)
        )
        other.knows[self.peer_id] = self

    def remove(self, other):
        self.partners = [
            replace(p, active=False) if p.peer_id == other.peer_id else p for p in self.partners
        ]

    async def acquire(self, uid, patient=JANE, *, date="20260102", modality="CT", origin=None):
        """Take in a study of one instance, settled and published if consent allows."""
        now = self.clock.now()
        header = make_header(uid, patient, date, modality)
        pack_id = hashlib.sha256(f"{self.name} {uid} {now}".encode()).digest()[:16]
        content = hashlib.sha256(pack_id).digest()

        def work(tx):
            instance_rows.add_study(
                tx, header, issuer=ISSUER, wrapped_key=b"k" * 72, origin=origin, now=now
            )
            packs.put(tx, PackRow(pack_id, uid, b"w" * 72, 1040))
            placement = Placement(pack_id, 1024, content, content, 0, 0, (content,))
            instance_rows.add_instance(tx, header, placement)
            studies.settle(tx, uid, now)

        await self.db.write(work)
        await self.publish.study_changed(uid)

    async def consent(self, patient=JANE, recipients=ALL_PARTNERS, **more):
        new = NewDirective(
            patient=(PatientIdentifier(patient.issuer, patient.patient_id),),
            grantor="the patient",
            recipients=recipients,
            **more,
        )
        return await self.consents.grant(new, OFFICER)

    async def share(self, *others):
        """Let every other facility fetch what it lacks of this one's journal."""
        for other in others:
            head = await other.partners_db.read(lambda tx: Held(tx, self.peer_id).head())
            following = 0 if head is None else head.batch + 1
            loaded = await self.db.read(
                lambda tx, first=following: batches.load(tx, self.peer_id, first)
            )
            run = await other.partners_db.write(
                lambda tx, got=loaded: batches.store(
                    tx,
                    self.peer_id,
                    only_key(public_key(self.node_seed)),
                    got.batches,
                    digest.labels,
                    got.newest,
                )
            )
            assert run.error is None
            if run.withdrawn:
                await other.search.forget(self.peer_id, run.withdrawn)
            other.note(self.peer_id, run.head or head)

    def note(self, origin, head):
        now = self.clock.now()
        self.freshness[origin] = SimpleNamespace(
            head=head, last_confirmed_at=head.issued_at, lease_over=not is_fresh(head, now)
        )

    async def find(self, question=ASK_JANE):
        """Return the answer of a search by a clinician here."""
        return await self.search.search(question, CLINICIAN)

    async def finds(self, question=ASK_JANE):
        """Return (facility, Study Instance UID) of each partner's study, hidden or not."""
        answer = await self.find(question)
        found = (*answer.results, *answer.doubtful)
        return {(r.facility.name, r.study_instance_uid) for r in found if not r.local}


def named(*facilities):
    return Recipients(named=frozenset(each.peer_id.hex() for each in facilities))


@asynccontextmanager
async def facilities(folder, *names):
    """Open facilities that are partners of each other."""
    clock = ManualClock(START)
    opened = []
    async with AsyncExitStack() as stack:
        for name in names:
            facility = Facility(name, clock)
            opened.append(await stack.enter_async_context(facility.open(folder / name)))
        for i, one in enumerate(opened):
            for other in opened[:i]:
                one.meet(other)
        for one in opened:
            await one.share(*(other for other in opened if other is not one))
        yield opened


async def everyone_shares(*some):
    for one in some:
        await one.share(*(other for other in some if other is not one))


def make_header(uid, patient, date, modality):
    return Header(
        patient=patient,
        study=StudyAttributes(
            study_instance_uid=uid,
            study_date=date,
            study_time="101500",
            timezone="",
            study_id="1",
            description=f"{modality} chest",
            accession_number=f"A{uid.rsplit('.', 1)[-1]}",
            accession_issuer="",
            referring_physician="",
            institution="",
        ),
        series=SeriesAttributes(
            series_instance_uid=f"{uid}.1",
            modality=modality,
            series_number=1,
            description="",
            body_part="CHEST",
            laterality="",
            protocol_name="",
            step_date="",
            step_time="",
            station_name="",
            manufacturer="",
        ),
        instance=InstanceAttributes(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            sop_instance_uid=f"{uid}.1.{hashlib.sha256(uid.encode()).digest()[0]}",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            instance_number=1,
            number_of_frames=1,
            rows=512,
            columns=512,
            bits_allocated=16,
        ),
        header_length=800,
        data_set_offset=300,
        notes=(),
    )
