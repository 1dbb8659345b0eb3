"""The composition root: builds every room of the node once and runs them in one task group.

Nothing else knows more than its neighbours: what a lower room needs of a higher one is passed in
here, as a function.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from peer.access import Access
from peer.actors import NODE
from peer.alerts import Alerts
from peer.audit import Audit, AuditEvent
from peer.backup import Backups
from peer.clock import Clock, SystemClock
from peer.collection import Collection
from peer.config import Settings, load
from peer.consents import Consents
from peer.dimse import PacsCaller
from peer.directory import must_hold, only_one
from peer.errors import NodeError
from peer.expiry import Expiry
from peer.gossip import Gossip
from peer.hl7 import Hl7
from peer.index import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database
from peer.index.partners import REMOVED
from peer.ingest import Ingest
from peer.keys import NodeKeys
from peer.keys import load as load_keys
from peer.link import Links
from peer.listening import listening
from peer.logs import Seldom
from peer.notify import Notify
from peer.outbound import Proxy
from peer.partners import RECORD, Partners
from peer.patients import Patients
from peer.people import People
from peer.publish import Publish
from peer.reciprocity import Reciprocity
from peer.recovery import Recovery
from peer.report import Report
from peer.retention import Retention
from peer.retrieve import Retrieve
from peer.rotation import Rotation
from peer.scrub import Scrub
from peer.search import Delegations, Identifying, Identities, PersonLinks, Prefetch, Search
from peer.store import Store
from peer.web.pictures import Pictures
from peer.web.services import Services
from protocol.budget import Load
from protocol.digest import labels
from protocol.errors import RemoteProtocolError
from protocol.identifiers import PeerId

INDEX: Final = "index.db"

_log = structlog.get_logger()


async def run(data: Path) -> None:
    """Run the node of `data` until SIGTERM or SIGINT; raise NodeError if it cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with start(data):
        await stop.wait()


@asynccontextmanager
async def start(data: Path, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Run the node of `data` for as long as the context lasts."""
    settings = load(data)
    clock = clock or SystemClock()
    with only_one(data):
        keys = load_keys(data, settings)
        must_hold(data / INDEX)
        async with AsyncExitStack() as stack:
            db = await _open(stack, data / INDEX, keys, settings)
            partners_db = await _open(stack, data / "partners.db", None, settings)
            services = await _build(data, settings, keys, clock, db, partners_db)
            stack.callback(services.pictures.decoders.close)
            _tie_together(services)
            await _recover(services)
            async with listening(data, services), _working(services):
                await services.audit.record(AuditEvent("start", "success", NODE))
                services.health.ready = True
                _log.info("node-started", peer_id=keys.peer_id.hex())
                yield services
                services.health.ready = False
                await _record_stop(services)


async def _record_stop(services: Services) -> None:
    try:
        await services.audit.record(AuditEvent("stop", "success", NODE))
    except NodeError as error:
        # A full disk must not turn an orderly stop into a crash.
        _log.warning("stop-not-recorded", reason=type(error).__name__)


async def _open(
    stack: AsyncExitStack, path: Path, keys: NodeKeys | None, settings: Settings
) -> Database:
    """Open the index if `keys` are given, and the partners' batches if not."""
    key, migrations = (
        (None, PARTNERS_MIGRATIONS) if keys is None else (keys.index_key, INDEX_MIGRATIONS)
    )
    database = await Database.open(path, key, migrations, settings.index.cache_bytes)
    stack.push_async_callback(database.close)
    return database


async def _build(
    data: Path,
    settings: Settings,
    keys: NodeKeys,
    clock: Clock,
    db: Database,
    partners_db: Database,
) -> Services:
    """Build every room; none knows yet of what happens in another."""
    store = Store(data / "store", settings.store)
    audit = await Audit.open(db, clock, keys.audit_key)
    people = People(db, clock, settings.people, keys.pseudonym_key)
    proxy = Proxy.configured(settings.federation)
    terms = settings.agreement.terms
    partners = Partners(db, keys, clock, settings.pairing, terms=terms, proxy=proxy)
    consents = Consents(db, clock)
    access = Access(db, clock, settings.audit)
    ingest = Ingest(db, store, keys.store_key, clock, settings)
    links = Links(keys, partners, clock, settings.link, settings.audit.fault_s, proxy)
    recovery = Recovery(db, data, keys, clock, partners.active)
    gossip = Gossip(
        db,
        partners_db,
        links,
        keys,
        clock,
        partners=partners,
        recovery=recovery,
        labels=labels,
        settings=settings,
    )
    reciprocity = Reciprocity(db, keys.peer_id, links, clock, gossip)
    publish = Publish(
        db,
        keys,
        clock,
        partners=partners.active,
        appended=gossip.appended,
        may_write=recovery.may_write,
        settings=settings,
    )
    person_links = PersonLinks(db, keys, clock, settings, name_of=partners.name)
    delegations = Delegations(db, keys, links, clock, partners.active, publish.keys_due)
    search = Search(
        db,
        partners_db,
        keys,
        links,
        clock,
        reciprocity=reciprocity,
        delegations=delegations,
        person_links=person_links,
        settings=settings,
        partners=partners.active,
        coverage=gossip.coverage,
    )
    identifying = Identifying(
        db,
        partners_db,
        keys,
        clock,
        reciprocity=reciprocity,
        partners=partners.active,
        deadline_s=settings.search.deadline_s,
    )
    identities = Identities(
        db,
        keys,
        links,
        clock,
        access=access,
        reciprocity=reciprocity,
        name_of=partners.name,
        per_hour=settings.search.identify_per_hour,
    )
    retrieve = Retrieve(
        db=db,
        store=store,
        keys=keys,
        access=access,
        partners=partners,
        links=links,
        reciprocity=reciprocity,
        ingest=ingest,
        prior=search.prior,
        clock=clock,
        settings=settings,
    )
    retention = Retention(db, ingest, clock, settings, publish.withdraw_in)
    notify = Notify(
        db=db,
        keys=keys,
        access=access,
        partners=partners,
        links=links,
        clock=clock,
        settings=settings,
    )
    report = Report(
        db=db,
        me=keys.peer_id,
        partners=partners,
        clock=clock,
        lock=retention.check,
        acknowledged=gossip.acknowledged,
        settings=settings.report,
    )
    patients = Patients(db, clock)
    prefetch = Prefetch(db, clock, search, settings.search)
    return Services(
        db=db,
        settings=settings,
        keys=keys,
        clock=clock,
        audit=audit,
        people=people,
        partners=partners,
        consents=consents,
        patients=patients,
        ingest=ingest,
        publish=publish,
        recovery=recovery,
        search=search,
        delegations=delegations,
        prefetch=prefetch,
        identifying=identifying,
        identities=identities,
        person_links=person_links,
        retrieve=retrieve,
        notify=notify,
        retention=retention,
        report=report,
        gossip=gossip,
        links=links,
        access=access,
        pictures=Pictures(settings.dicomweb),
        reciprocity=reciprocity,
        alerts=Alerts(db, clock, partners.name, settings.lists.alerts),
        expiry=Expiry(db=db, keys=keys, partners=partners, clock=clock, settings=settings),
        scrub=Scrub(db, store, keys.store_key, clock, settings.store),
        rotation=Rotation(
            data, settings, db=db, keys=keys, clock=clock, links=links, may_write=recovery.may_write
        ),
        backups=Backups(db, clock),
        hl7=Hl7(db, clock, settings=settings, patients=patients, prefetch=prefetch),
        collection=Collection(db, PacsCaller(settings, ingest), clock, settings.dicom),
    )


def _tie_together(rooms: Services) -> None:
    """Let each room learn of what happens in others; nothing runs yet."""

    async def partner_changed(peer_id: PeerId, state: str) -> None:
        await rooms.recovery.partner_changed()
        await rooms.publish.partner_changed(peer_id, state)
        if state == RECORD:
            await rooms.gossip.keys_changed(peer_id)
        if state == REMOVED:
            await rooms.gossip.forget(peer_id)
            await rooms.search.forget_partner(peer_id)
            await rooms.delegations.load()

    async def partner_erred(peer_id: PeerId, error: RemoteProtocolError) -> None:
        detail = {"code": error.code, "reason": str(error)}
        await rooms.audit.record(
            AuditEvent("partner-fault", "failed", NODE, partner=peer_id, detail=detail)
        )

    slowed = Seldom(rooms.settings.audit.fault_s)

    async def partner_slowed(peer_id: PeerId, load: Load) -> None:
        if not slowed.is_due((peer_id, load), rooms.clock.now()):
            return
        detail = {"load": str(load)}
        await rooms.audit.record(
            AuditEvent("partner-slowed", "success", NODE, partner=peer_id, detail=detail)
        )

    rooms.ingest.on_settled(rooms.publish.study_changed)
    rooms.retention.on_purged(rooms.publish.written)
    rooms.retrieve.on_mended(rooms.scrub.count_again)
    rooms.consents.apply_with(rooms.publish.apply_in)
    rooms.consents.on_change(rooms.publish.written)
    rooms.patients.renew_with(rooms.publish.renew_in)
    rooms.patients.apply_with(rooms.publish.apply_in)
    rooms.patients.on_change(rooms.publish.written)
    rooms.partners.on_change(partner_changed)
    rooms.recovery.on_change(rooms.publish.journal_changed)
    rooms.partners.on_own_record(rooms.rotation.learn)
    rooms.rotation.on_retired(rooms.recovery.keys_retired)
    rooms.gossip.on_withdrawn(rooms.search.forget)
    rooms.prefetch.fetch_with(rooms.retrieve.retrieve)
    rooms.search.new_priors.on_found(rooms.notify.post_soon)
    rooms.reciprocity.completeness.look_with(rooms.search.look)
    rooms.gossip.on_fault(partner_erred)
    rooms.links.on_slowed(partner_slowed)
    rooms.links.serve_packs(rooms.retrieve.origin.read_range)


async def _recover(services: Services) -> None:
    """Bring what the last run left behind into order before anybody can ask for anything."""
    recovered = await services.ingest.recover()
    if recovered.damaged:
        services.health.warnings.append(
            f"{len(recovered.damaged)} pack(s) of the store are missing or shorter than recorded, "
            "so some images cannot be read. Look at the disk, and restore the folder store/."
        )
    await services.partners.load()
    await services.recovery.load()
    await services.gossip.load()
    await services.delegations.load()
    await services.rotation.put_on_record()


@asynccontextmanager
async def _working(services: Services) -> AsyncIterator[None]:
    """Run what works by itself; what fails for good ends the node rather than half of it."""
    rooms = (
        services.ingest,
        services.publish,
        services.partners,
        services.links,
        services.gossip,
        services.retrieve,
        services.notify,
        services.prefetch,
        services.search.new_priors,
        services.delegations,
        services.expiry,
        services.scrub,
        services.collection,
        services.hl7,
    )
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(room.run()) for room in rooms]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
