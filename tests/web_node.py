"""A hospital of `tests.transfers` with its web: listener, people, and whoever asks."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp

from peer.backup import Backups
from peer.gossip import Acknowledged
from peer.hl7 import Hl7
from peer.index import withdrawals
from peer.people import People
from peer.report import Report
from peer.retention import Retention
from peer.search import Prefetch
from peer.web.listeners import start_tcp
from peer.web.pictures import Pictures
from peer.web.services import Health, Services
from tests.facilities import START
from tests.transfers import Hospital, Trust, hospitals


class Table(Trust):
    """The partners of a hospital as the trust table of a node shows them."""

    def __init__(self, hospital):
        super().__init__(hospital)
        self.asked = []
        self.pending = {}

    def all(self):
        found = [
            SimpleNamespace(
                peer_id=each.peer_id,
                name=each.name,
                state="active" if each.active else "removed",
                active=each.active,
                words="amber basin candle drift ember fable",
                confirmed_here=True,
                confirmed_there=True,
                since=START,
                our_terms=each.our_terms,
                their_terms=each.their_terms,
                sentence="Partners: both sides have confirmed.",
            )
            for each in self.me.partners
        ]
        return (*found, *self.pending.values())

    def active(self):
        return tuple(each for each in self.all() if each.active)

    async def invite(self, actor, valid_s=None):
        self.asked.append("invite")
        return "openpriors1:" + "abcdefgh234567" * 20, START + 3600

    async def join(self, invitation, actor):
        self.asked.append(("join", invitation))
        partner = SimpleNamespace(
            peer_id=bytes(31) + b"\1",
            name="Clinic Bergblick",
            state="pending",
            active=False,
            words="amber basin candle drift ember fable",
            confirmed_here=False,
            confirmed_there=False,
            since=START,
            sentence="Waiting for both sides to compare the words and confirm.",
        )
        self.pending[partner.peer_id] = partner
        return partner

    async def confirm(self, peer_id, actor, compared=None):
        self.asked.append(("confirm", peer_id))
        partner = self.pending[peer_id]
        partner.confirmed_here = True
        partner.sentence = "The other side has not confirmed yet."
        return partner

    async def remove(self, peer_id, actor, reason):
        self.asked.append(("remove", peer_id, reason))
        return self.pending.pop(peer_id, None)


class Gossip:
    """How far each partner's journal can be relied on."""

    def __init__(self, hospital):
        self._hospital = hospital

    def coverage(self):
        return {
            peer_id: SimpleNamespace(**vars(fresh), forked=False)
            for peer_id, fresh in self._hospital.freshness.items()
        }

    async def acknowledged(self, seq):
        return {each.peer_id: START for each in self._hospital.active}

    async def withdrawals(self, limit):
        """Our withdrawals; partners have applied what they hold of our journal."""
        me = self._hospital.peer_id
        made = await self._hospital.db.read(lambda tx: withdrawals.latest(tx, me, limit))
        heads = await self._hospital.claims()
        return [
            Acknowledged(
                each,
                {
                    peer_id: START if head.last_seq >= each.seq else None
                    for peer_id, head in heads.items()
                },
            )
            for each in made
        ]


@dataclass
class WebNode:
    """A hospital and its local listener."""

    hospital: Hospital
    services: Services
    url: str

    @property
    def root(self):
        """The operating system's user."""
        return self.services.people.os_user(os.getuid())

    async def link(self, name="Ada", *roles):
        """Return the address of a one-time link for an account with these roles, or with all."""
        made = await self.services.people.make_link(self.root, name, roles or None)
        return f"{self.url}/login?link={made.secret}"

    async def token(self, *roles, purpose="TREAT"):
        """Return a bearer token for a program with these roles."""
        name = " ".join(("program", *roles, *([] if purpose == "TREAT" else [purpose])))
        secret, _ = await self.services.people.make_token(self.root, name, roles, purpose)
        return secret

    @asynccontextmanager
    async def program(self, *roles, purpose="TREAT"):
        """A client with a bearer token."""
        headers = {"Authorization": f"Bearer {await self.token(*roles, purpose=purpose)}"}
        async with aiohttp.ClientSession(self.url, headers=headers) as session:
            yield session

    @asynccontextmanager
    async def browser(self, name="Ada", *roles):
        """A client that has signed in by a link and keeps the cookie."""
        jar = aiohttp.CookieJar(unsafe=True)
        headers = {"Accept": "text/html"}
        async with aiohttp.ClientSession(self.url, cookie_jar=jar, headers=headers) as session:
            async with session.get(await self.link(name, *roles)) as answer:
                assert answer.status == 200
            yield session


@asynccontextmanager
async def served(hospital):
    """Open the web of a hospital that is open."""
    retention = Retention(
        hospital.db, hospital.ingest, hospital.clock, hospital.settings, lambda tx, uid: None
    )
    gossip, partners = Gossip(hospital), Table(hospital)
    people = People(
        hospital.db, hospital.clock, hospital.settings.people, hospital.keys.pseudonym_key
    )
    prefetch = Prefetch(hospital.db, hospital.clock, hospital.search, hospital.settings.search)
    services = Services(
        db=hospital.db,
        settings=hospital.settings,
        keys=hospital.keys,
        clock=hospital.clock,
        audit=hospital.audit,
        people=people,
        partners=partners,
        consents=hospital.consents,
        patients=hospital.patients,
        ingest=hospital.ingest,
        publish=hospital.publish,
        recovery=hospital.recovery,
        search=hospital.search,
        delegations=hospital.delegations,
        prefetch=prefetch,
        identifying=hospital.identifying,
        identities=hospital.identities,
        person_links=hospital.person_links,
        retrieve=hospital.retrieve,
        notify=hospital.notify,
        retention=retention,
        report=Report(
            db=hospital.db,
            me=hospital.peer_id,
            partners=partners,
            clock=hospital.clock,
            lock=retention.check,
            acknowledged=gossip.acknowledged,
            settings=hospital.settings.report,
        ),
        gossip=gossip,
        links=hospital.links,
        access=hospital.access,
        pictures=Pictures(hospital.settings.dicomweb),
        reciprocity=hospital.reciprocity,
        alerts=hospital.alerts,
        expiry=SimpleNamespace(warnings=lambda: iter(())),
        rotation=SimpleNamespace(),
        backups=Backups(hospital.db, hospital.clock),
        scrub=SimpleNamespace(warnings=lambda: ()),
        collection=None,
        hl7=Hl7(
            hospital.db,
            hospital.clock,
            settings=hospital.settings,
            patients=hospital.patients,
            prefetch=prefetch,
        ),
        health=Health(started_at=START, ready=True),
    )
    url, stop = await start_tcp(services)
    services.addresses.local_url = url
    try:
        yield WebNode(hospital, services, url)
    finally:
        await stop()
        services.pictures.decoders.close()


@asynccontextmanager
async def web_nodes(folder, *names, **settings):
    """Open hospitals that are partners of each other, each with its web."""
    local = {"host": "127.0.0.1", "port": 0} | settings.pop("local", {})
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(hospitals(folder, *names, local=local, **settings))
        yield [await stack.enter_async_context(served(each)) for each in opened]
