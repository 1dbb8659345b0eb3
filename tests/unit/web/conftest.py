"""A node's web with a real index and real people; the other rooms are stand-ins that remember."""

from __future__ import annotations

import types
from dataclasses import dataclass, field

import aiohttp
import pytest

from peer.audit import Audit
from peer.backup import Backups
from peer.clock import ManualClock
from peer.config import Settings
from peer.index import INDEX_MIGRATIONS, Database
from peer.ingest import Incoming, Memory
from peer.people import People
from peer.recovery import Recovery
from peer.store import Store
from peer.web.listeners import start_socket, start_tcp
from peer.web.pictures import Pictures
from peer.web.services import Addresses, Health, Services

STAND_INS = (
    "consents",
    "ingest",
    "publish",
    "search",
    "delegations",
    "prefetch",
    "identifying",
    "identities",
    "person_links",
    "retrieve",
    "notify",
    "retention",
    "report",
    "gossip",
    "links",
    "access",
    "alerts",
    "reciprocity",
)
NOON = 1_790_000_000
PEER_ID = bytes(range(32))


@dataclass
class Room:
    """A room that answers what it was told to and remembers what it was asked."""

    answers: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def warnings(self):
        return ()

    def __getattr__(self, name):
        if name.startswith("_") or name not in self.answers:
            raise AttributeError(name)

        async def call(*arguments, **named):
            self.asked.append((name, arguments, named))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call


def settings_of():
    """Settings whose local listener a test may change."""
    real = Settings(
        facility={"name": "St. Anna"},
        local={"port": 0, "max_connections": 64},
        people={"session_s": 36_000, "idle_s": 3_600, "link_s": 86_400},
        ingest={"max_instance_bytes": 2**20, "default_issuer": "ST-ANNA"},
    )
    sections = {name: getattr(real, name) for name in Settings.model_fields}
    sections["local"] = types.SimpleNamespace(**dict(real.local))
    return types.SimpleNamespace(**sections)


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
async def db(tmp_path):
    opened = await Database.open(tmp_path / "index.db", bytes(32), INDEX_MIGRATIONS)
    await Audit.open(opened, ManualClock(NOON), bytes(32))
    yield opened
    await opened.close()


@pytest.fixture
def settings():
    return settings_of()


@pytest.fixture
def people(db, clock, settings):
    return People(db, clock, settings.people, b"p" * 32)


@pytest.fixture
def rooms(db, clock, settings, people, tmp_path):
    keys = types.SimpleNamespace(
        peer_id=PEER_ID, are_retired=False, node_keys=(types.SimpleNamespace(from_epoch=0),)
    )
    stand_ins = {name: Room() for name in STAND_INS}
    stand_ins["ingest"].memory = Memory(settings.ingest)
    store = Store(tmp_path / "store")
    stand_ins["ingest"].incoming = lambda: Incoming(store, settings.ingest)
    stand_ins["delegations"].to_json = lambda _: {"mode": "guarded"}
    return Services(
        db=db,
        settings=settings,
        keys=keys,
        recovery=Recovery(db, tmp_path, keys, clock, tuple),
        clock=clock,
        audit=Audit(db, clock),
        people=people,
        partners=Room(),
        patients=Room(),
        health=Health(started_at=NOON),
        addresses=Addresses(),
        pictures=Pictures(settings.dicomweb),
        expiry=types.SimpleNamespace(warnings=lambda: iter(())),
        rotation=Room(),
        backups=Backups(db, clock),
        scrub=Room(),
        collection=Room(),
        hl7=Room(),
        **stand_ins,
    )


@pytest.fixture
async def tcp(rooms):
    """The URL of the TCP listener."""
    url, stop = await start_tcp(rooms)
    rooms.addresses.local_url = url
    yield url
    await stop()


@pytest.fixture
async def unix(rooms, tmp_path):
    """A client over a real Unix socket: the operating system's user."""
    path, stop = await start_socket(rooms, tmp_path / "run" / "node.sock")
    connector = aiohttp.UnixConnector(path=str(path))
    async with aiohttp.ClientSession("http://node", connector=connector) as session:
        yield session
    await stop()


@pytest.fixture
async def anonymous(tcp):
    """A client over TCP that is nobody; it keeps cookies."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(tcp, cookie_jar=jar) as session:
        yield session


@pytest.fixture
def root(people):
    """The operating system's user that runs the tests."""
    import os

    return people.os_user(os.getuid())


@pytest.fixture
def bearer(people, root):
    """Return a function that makes the headers of a program with these roles."""

    async def make(*roles, purpose="TREAT"):
        secret, _ = await people.make_token(root, " ".join(("program", *roles)), roles, purpose)
        return {"Authorization": f"Bearer {secret}"}

    return make


@pytest.fixture
async def signed_in(anonymous, people, root):
    """A browser in which Ada is signed in, with every role."""
    link = await people.make_link(root, "Ada")
    async with anonymous.get("/login", params={"link": link.secret}) as answer:
        assert answer.status == 200
    return anonymous


@pytest.fixture
def no_wait(monkeypatch):
    """Let failures be counted but not waited for; the waits are returned."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr("peer.web.brake.asyncio.sleep", sleep)
    return waits


async def audit_records(db):
    import json

    rows = await db.read(
        lambda tx: [row["record"] for row in tx.execute("SELECT record FROM audit ORDER BY number")]
    )
    return [json.loads(row) for row in rows]


@pytest.fixture
def trail(db):
    """Return a function that reads the audit trail."""
    return lambda: audit_records(db)
