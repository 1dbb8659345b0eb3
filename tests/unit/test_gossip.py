"""Gossip over real databases, with the links replaced by queues between nodes of one process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest

import peer.gossip.gossip
from peer.audit import Audit
from peer.clock import ManualClock
from peer.config import Settings
from peer.errors import NodeError, StorageFull
from peer.gossip import Gossip
from peer.index import journal, memberships, relaying, witnesses
from peer.index.batches import load
from peer.index.database import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database
from peer.index.held import Held
from peer.index.journal import append_entries
from peer.recovery import Recovery
from protocol.epochs import EpochRecord, sign_epoch
from protocol.errors import Refusal
from protocol.events import Store
from protocol.frontier import origin_head
from protocol.identifiers import PeerId
from protocol.limits import EXCHANGED_S
from protocol.messages import (
    HAVE_DOMAIN,
    ExchangeNow,
    Have,
    HaveBody,
    Holding,
    Kind,
    OriginHead,
    decode,
    encode,
)
from protocol.nodekeys import only_key
from protocol.reciprocity import Progress, objection
from protocol.records import to_bytes
from protocol.renewal import holding_digest
from protocol.signing import public_key, sign
from protocol.statements import Statement
from tests.simulation.memory import LEASE_S, labels_of, live_entries, publish, withdraw

NOW = 1_800_000_000
KEY = bytes(32)


class FakeLinks:
    """Delivers what one node tells to the other's handlers, through the real encoding."""

    def __init__(self, node):
        self.node = node
        self.handlers = {}
        self.up = {}
        self.callbacks = {"connected": [], "disconnected": []}
        self.told = []
        self._on_their_way = set()

    def handle(self, kind, handler):
        self.handlers[kind] = handler

    def on_connected(self, callback):
        self.callbacks["connected"].append(callback)

    def on_disconnected(self, callback):
        self.callbacks["disconnected"].append(callback)

    def connected(self):
        return self.up.keys()

    async def tell(self, peer_id, message):
        if peer_id not in self.up:
            raise NodeError("There is no link to this partner.")
        _, received = decode(encode(message, Kind.TELL))
        self.told.append(received)
        # A connection holds what is on its way: two that talk at once do not wait for each other.
        delivery = asyncio.create_task(self._deliver(self.up[peer_id], received))
        self._on_their_way.add(delivery)
        delivery.add_done_callback(self._on_their_way.discard)

    async def _deliver(self, other, message):
        if self.node.peer_id in other.links.up:
            await other.links.handlers[type(message)](message, other.book[self.node.peer_id])

    async def request(self, peer_id, message, timeout_s):
        if peer_id not in self.up:
            raise NodeError("There is no link to this partner.")
        _, received = decode(encode(message, Kind.REQUEST, 1))
        other = self.up[peer_id]
        async with asyncio.timeout(timeout_s):
            handler = other.links.handlers[type(received)]
            return await handler(received, other.book[self.node.peer_id])

    def connect(self, other):
        for one, two in ((self.node, other), (other, self.node)):
            one.links.up[two.peer_id] = two
        for one, two in ((self.node, other), (other, self.node)):
            for callback in one.links.callbacks["connected"]:
                callback(two.peer_id)

    def cut(self, other):
        for one, two in ((self.node, other), (other, self.node)):
            one.links.up.pop(two.peer_id, None)
            for callback in one.links.callbacks["disconnected"]:
                callback(two.peer_id)


@dataclass
class Node:
    name: str
    clock: ManualClock
    db: Database = None
    partners_db: Database = None
    data: Path = None
    book: dict = field(default_factory=dict)
    seen: list = field(default_factory=list)

    def __post_init__(self):
        self.node_seed = self.name.encode().ljust(32, b".")
        self.peer_id = PeerId(public_key(b"root" + self.node_seed[4:]))
        self.node_keys = only_key(public_key(self.node_seed))
        self.are_retired = False
        self.links = FakeLinks(self)

    # The trust table.
    def get(self, peer_id):
        return self.book.get(peer_id)

    def active(self):
        return self.book.values()

    def know(self, other):
        record = SimpleNamespace(node_keys=other.node_keys)
        self.book[other.peer_id] = SimpleNamespace(
            peer_id=other.peer_id, record=record, since=self.clock.now()
        )

    def start(self):
        self.recovery = Recovery(self.db, self.data, self, self.clock, self.active)
        self.gossip = Gossip(
            self.db,
            self.partners_db,
            self.links,
            self,
            self.clock,
            partners=self,
            recovery=self.recovery,
            labels=labels_of,
            settings=Settings(),
        )

        async def withdrawn(origin, entry_ids):
            self.seen.append(("withdrawn", origin, list(entry_ids)))

        async def fault(partner, error):
            self.seen.append(("fault", partner, error.code))

        self.gossip.on_withdrawn(withdrawn)
        self.gossip.on_fault(fault)

    async def publish(self, *entries):
        head = await self.db.write(
            lambda tx: append_entries(tx, self, entries, self.clock.now(), LEASE_S)
        )
        await self.gossip.appended()
        return head

    async def bodies(self, origin):
        entries = await self.partners_db.read(lambda tx: live_entries(Held(tx, origin.peer_id)))
        return [entry.payload for entry in entries]


async def until(condition):
    """Wait until `condition()` (or what it returns, awaited) holds."""
    async with asyncio.timeout(30):
        while True:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(*nodes):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(node.gossip.run()) for node in nodes]
        await asyncio.sleep(0)
        yield
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def acquainted(folder, *names):
    """Nodes that know each other, not yet connected."""
    clock = ManualClock(NOW)
    nodes = [Node(name, clock) for name in names]
    for node in nodes:
        node.data = folder / node.name
        node.data.mkdir()
        node.db = await Database.open(folder / f"{node.name}.db", KEY, INDEX_MIGRATIONS)
        await Audit.open(node.db, clock, KEY)
        node.partners_db = await Database.open(
            folder / f"{node.name}-partners.db", None, PARTNERS_MIGRATIONS
        )
        for other in nodes:
            if other is not node:
                node.know(other)
        node.start()
    try:
        yield nodes
    finally:
        for node in nodes:
            await node.db.close()
            await node.partners_db.close()


@pytest.fixture
async def pair(tmp_path):
    """Alice and Bob: two nodes that know each other, not yet connected."""
    async with acquainted(tmp_path, "alice", "bob") as nodes:
        yield nodes


async def holds(node, origin, head):
    return await node.partners_db.read(lambda tx: Held(tx, origin.peer_id).head()) == head


def have(author, addressee, *heads):
    payload = to_bytes(HaveBody(author.peer_id, addressee.peer_id, NOW, heads))
    return Have(Statement(payload, sign(author.node_seed, HAVE_DOMAIN, payload)))


async def has_heard(node, message):
    query = "SELECT 1 FROM witnesses WHERE payload = ?"
    return await node.partners_db.read(
        lambda tx: tx.execute(query, (message.statement.payload,)).fetchone()
    )


async def test_a_partner_cannot_acknowledge_what_is_yet_to_be_withdrawn(pair):
    """Its HAVE claims a last seq beyond our journal, or a head that never was ours."""
    alice, bob = pair
    head = await alice.publish(publish(1))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: holds(bob, alice, head))
        lies = [
            OriginHead(alice.peer_id, 0, head.batch, head.header_hash, 2**62),
            OriginHead(alice.peer_id, 0, head.batch, bytes(32), 2**62),
            OriginHead(alice.peer_id, 0, 2**62, bytes(32), 2**62),
        ]
        for lie in lies:
            statement = have(bob, alice, lie)
            await alice.links.handlers[Have](statement, alice.book[bob.peer_id])
            await until(lambda heard=statement: has_heard(alice, heard))
        bob.links.cut(alice)
        later = await alice.publish(withdraw(1))
        assert (await alice.gossip.acknowledged(later.last_seq))[bob.peer_id] is None


async def test_a_hash_keeps_the_gate_open(pair):
    """A quarter of an hour after the last signed word, a partner at rest is still answered."""
    alice, bob = pair
    heads = {each.peer_id: await each.publish(publish(1)) for each in pair}
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: holds(bob, alice, heads[alice.peer_id]))
        await until(lambda: alice.gossip.frontier(bob.peer_id).progress.completed_at == NOW)
        claims = {each: origin_head(each, head) for each, head in heads.items()}
        digest = holding_digest(bob.peer_id, alice.peer_id, claims)
        alice.clock.advance(EXCHANGED_S + 1)
        frontier = alice.gossip.frontier(bob.peer_id)
        assert objection(frontier.progress, frontier.head, alice.clock.now())
        said = len([each for each in bob.links.told if isinstance(each, Have)])
        await alice.links.handlers[Holding](Holding(digest, False), alice.book[bob.peer_id])
        await until(lambda: alice.gossip.frontier(bob.peer_id).progress.completed_at > NOW)
        frontier = alice.gossip.frontier(bob.peer_id)
        assert objection(frontier.progress, frontier.head, alice.clock.now()) is None
        assert len([each for each in bob.links.told if isinstance(each, Have)]) == said
        kept = await alice.partners_db.read(witnesses.heard)
        assert kept[bob.peer_id].in_step_at == alice.clock.now(), "it is known after a restart too"


async def test_a_journal_comes_through_a_third_facility(tmp_path):
    """Bob cannot reach alice any more; carol can, and passes on what alice has signed."""
    async with acquainted(tmp_path, "alice", "bob", "carol") as nodes:
        alice, bob, carol = nodes
        await alice.publish(publish(1), publish(2))
        async with running(*nodes):
            for one, other in combinations(nodes, 2):
                one.links.connect(other)

            async def vouched(node):
                signed = await node.partners_db.read(memberships.all_of)
                return signed.keys() >= {alice.peer_id}

            await until(lambda: vouched(bob))
            await until(lambda: vouched(carol))
            alice.links.cut(bob)
            head = await alice.publish(withdraw(1))
            await until(lambda: holds(carol, alice, head))
            before = bob.gossip.frontier(alice.peer_id).progress
            carol.links.cut(bob)
            carol.links.connect(bob)
            await until(lambda: holds(bob, alice, head))
            assert await bob.bodies(alice) == [publish(2).body]
            assert bob.gossip.frontier(alice.peer_id).progress == before, "she has said nothing"
            alice.links.connect(bob)

            async def acknowledged():
                said = await alice.gossip.acknowledged(head.last_seq)
                return said[bob.peer_id] is not None

            await until(acknowledged)
        assert not [each for each in bob.seen if each[0] == "fault"]


async def test_what_an_origin_says_as_its_batches_are_passed_on_is_not_forgotten(pair, monkeypatch):
    """The link to it comes up while a relayed answer is being stored."""
    alice, bob = pair
    head = await alice.publish(publish(1))
    given = await alice.db.read(lambda tx: load(tx, alice.peer_id, 0))
    effects, follow = bob.gossip._effects, relaying.store
    said = Progress(completed_at=NOW)

    def meanwhile(*arguments):
        effects._update(alice.peer_id, progress=said)
        return follow(*arguments)

    monkeypatch.setattr(relaying, "store", meanwhile)
    await effects._store(Store(alice.peer_id, given.batches, more=False), relayed=True)
    known = effects.frontiers[alice.peer_id]
    assert (known.head, known.progress) == (head, said)


async def test_nobody_else_is_asked_how_an_epoch_went_on_that_has_ended(pair):
    alice, bob = pair
    head = await alice.publish(publish(1))
    given = await alice.db.read(lambda tx: load(tx, alice.peer_id, 0))
    effects, exchange = bob.gossip._effects, SimpleNamespace(me=bob.peer_id, partner=alice.peer_id)
    await effects._store(Store(alice.peer_id, given.batches, more=False), relayed=False)
    assert not effects.others(bob.peer_id)[alice.peer_id].ended
    record = EpochRecord(1, alice.peer_id, 1, head.batch + 1, head.header_hash, NOW)
    signed = sign_epoch(b"root" + alice.node_seed[4:], record)
    await effects._begin(exchange, alice.peer_id, (signed,))
    assert effects.others(bob.peer_id)[alice.peer_id].ended
    await effects.load()
    assert effects.others(bob.peer_id)[alice.peer_id].ended, "it is known after a restart too"


async def test_a_removed_partner_is_no_member_of_ours(pair):
    alice, bob = pair
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: bob.partners_db.read(memberships.all_of))
        bob.links.cut(alice)
        await bob.gossip.forget(alice.peer_id)
        assert not await bob.partners_db.read(memberships.all_of)


async def test_what_was_published_before_the_link_arrives_on_connect(pair):
    alice, bob = pair
    head = await alice.publish(publish(1), publish(2))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: holds(bob, alice, head))
    assert await bob.bodies(alice) == [publish(1).body, publish(2).body]


async def test_a_commit_is_pushed_at_once_and_acknowledged(pair):
    alice, bob = pair
    await alice.publish()
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].head)
        head = await alice.publish(publish(1))
        await until(lambda: holds(bob, alice, head))

        async def acknowledged():
            return (await alice.gossip.acknowledged(head.last_seq))[bob.peer_id] == NOW

        await until(acknowledged)
    assert await bob.bodies(alice) == [publish(1).body]


async def test_a_withdrawal_erases_the_bytes_from_the_partners_disk(pair, tmp_path):
    alice, bob = pair
    await alice.publish(publish(1), publish(2))

    def on_disk(data):
        return any(data in file.read_bytes() for file in tmp_path.glob("bob-partners.db*"))

    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].head)
        assert on_disk(publish(1).body), "the search below would prove nothing"
        head = await alice.publish(withdraw(1))

        async def acknowledged():
            return (await alice.gossip.acknowledged(head.last_seq))[bob.peer_id] is not None

        await until(acknowledged)
        assert not on_disk(publish(1).body), "the withdrawn body is still on the partner's disk"
        assert not on_disk(publish(1).salt), "the withdrawn salt is still on the partner's disk"
        assert on_disk(publish(2).body)
    assert ("withdrawn", alice.peer_id, [withdraw(1).entry_id]) in bob.seen


async def test_each_withdrawal_is_listed_with_who_has_applied_it_and_who_has_not(pair):
    alice, bob = pair
    await alice.publish(publish(1), publish(2), publish(3))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].head)
        first = await alice.publish(withdraw(1), withdraw(2))

        async def acknowledged():
            return (await alice.gossip.acknowledged(first.last_seq))[bob.peer_id] is not None

        await until(acknowledged)
        alice.links.cut(bob)
        alice.clock.advance(100)
        second = await alice.publish(withdraw(3))
    newest, oldest = await alice.gossip.withdrawals(10)
    assert (oldest.withdrawal.seq, oldest.withdrawal.entries) == (first.last_seq, 2)
    assert oldest.applied_at == {bob.peer_id: NOW}
    assert oldest.outstanding == ()
    assert (newest.withdrawal.seq, newest.withdrawal.at) == (second.last_seq, NOW + 100)
    assert newest.outstanding == (bob.peer_id,)
    assert await alice.gossip.withdrawals(1) == [newest]
    # Who became a partner later never had what was withdrawn.
    bob.clock.advance(1)
    alice.know(bob)
    assert all(each.applied_at == {} for each in await alice.gossip.withdrawals(10))


async def test_a_partner_that_was_away_catches_up(pair):
    alice, bob = pair
    await alice.publish(publish(1))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].head)
        alice.links.cut(bob)
        assert not bob.gossip.coverage()[alice.peer_id].connected
        await alice.publish(publish(2))
        head = await alice.publish(withdraw(1))
        alice.links.connect(bob)
        await until(lambda: holds(bob, alice, head))
    assert await bob.bodies(alice) == [publish(2).body]


async def test_what_was_stored_as_a_link_broke_is_known_at_the_next(pair):
    """The exchange was ended between its commit and the note of it in memory."""
    alice, bob = pair
    async with running(alice, bob):
        alice.links.connect(bob)
        await alice.publish(publish(1))
        head = await alice.db.read(lambda tx: journal.head(tx, alice.peer_id))
        await until(lambda: holds(bob, alice, head))
        alice.links.cut(bob)
        bob.gossip._effects.frontiers.clear()
        alice.links.connect(bob)

        async def known():
            return bob.gossip.coverage()[alice.peer_id].head == head

        await until(known)


async def test_coverage_says_when_a_lease_is_over(pair):
    alice, bob = pair
    await alice.publish(publish(1))
    async with running(alice, bob):
        before = bob.gossip.coverage()[alice.peer_id]
        assert (before.head, before.last_confirmed_at, before.lease_over) == (None, None, True)
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].head)
        alice.links.cut(bob)
    covered = bob.gossip.coverage()[alice.peer_id]
    assert not covered.lease_over
    assert covered.last_confirmed_at == NOW
    bob.clock.advance(LEASE_S)
    assert bob.gossip.coverage()[alice.peer_id].lease_over


async def test_coverage_survives_a_restart(pair):
    alice, bob = pair
    await alice.publish(publish(1))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].head)
    before = bob.gossip.coverage()[alice.peer_id]
    bob.links.up.clear()
    bob.start()
    await bob.gossip.load()
    after = bob.gossip.coverage()[alice.peer_id]
    assert after.head == before.head
    assert after.last_confirmed_at == before.last_confirmed_at


# -- what reciprocity rests on --------------------------------------------------------------------


def gate(node, partner):
    """The code with which `node` would refuse a question of `partner`'s, '' if it answers."""
    frontier = node.gossip.frontier(partner.peer_id)
    refusal = objection(frontier.progress, frontier.head, node.clock.now(), forked=frontier.forked)
    return "" if refusal is None else refusal.code


@pytest.mark.parametrize(("here", "there"), [(0, 0), (0, 3), (2, 3)])
async def test_the_first_contact_opens_both_gates_whatever_each_side_has(pair, here, there):
    alice, bob = pair
    await alice.publish(*(publish(number) for number in range(here)))
    await bob.publish(*(publish(number) for number in range(there)))
    assert (gate(alice, bob), gate(bob, alice)) == ("exchange-stale", "exchange-stale")
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: (gate(alice, bob), gate(bob, alice)) == ("", ""))


async def test_both_gates_open_again_after_a_month_without_each_other(pair):
    alice, bob = pair
    await alice.publish(publish(1))
    await bob.publish(publish(2))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: (gate(alice, bob), gate(bob, alice)) == ("", ""))
        alice.links.cut(bob)
        alice.clock.advance(31 * 24 * 3600)
        assert (gate(alice, bob), gate(bob, alice)) == ("exchange-stale", "exchange-stale")
        # What a node does by itself when it is back: it signs a fresh head.
        await alice.publish()
        await bob.publish()
        alice.links.connect(bob)
        await until(lambda: (gate(alice, bob), gate(bob, alice)) == ("", ""))


async def test_an_exchange_at_once_ends_when_the_partner_holds_everything(pair):
    alice, bob = pair
    await alice.publish(publish(1))
    await bob.publish()
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: (gate(alice, bob), gate(bob, alice)) == ("", ""))

        async def both_know_it():
            told = [await one.gossip.acknowledged(0) for one in (alice, bob)]
            return all(None not in each.values() for each in told)

        await until(both_know_it)
        bob.clock.advance(LEASE_S)
        assert gate(bob, alice) == "exchange-stale"
        await alice.publish(publish(2))
        await alice.gossip.exchange_now(bob.peer_id)
        assert gate(bob, alice) == ""
        assert len(await bob.bodies(alice)) == 2


async def test_an_exchange_at_once_is_refused_to_whoever_announces_and_does_not_give(
    pair, monkeypatch
):
    monkeypatch.setattr(peer.gossip.gossip, "EXCHANGE_NOW_S", 0.05)
    alice, bob = pair
    await alice.publish(publish(1))
    async with running(alice):
        alice.links.up[bob.peer_id] = bob
        alice.gossip._connected(bob.peer_id)
        bob.links.up[alice.peer_id] = alice
        announced = have(bob, alice, OriginHead(bob.peer_id, 0, 7, b"7" * 32, 70))
        with pytest.raises(Refusal) as refused:
            await bob.links.request(alice.peer_id, ExchangeNow(announced.statement), 5)
        assert refused.value.code == "exchange-incomplete"
        await until(lambda: gate(alice, bob) == "exchange-incomplete")


async def test_a_full_disk_here_is_not_held_against_the_partner(pair, monkeypatch):
    alice, bob = pair
    await alice.publish(publish(1))
    async with running(alice, bob):

        async def full(work):
            raise StorageFull("no space left")

        monkeypatch.setattr(bob.partners_db, "write", full)
        alice.links.connect(bob)
        await until(lambda: bob.gossip.frontier(alice.peer_id).progress.failed_at is not None)
        assert gate(bob, alice) == ""


async def test_when_an_exchange_was_completed_survives_a_restart(pair):
    alice, bob = pair
    await alice.publish(publish(1))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: gate(bob, alice) == "")
    bob.links.up.clear()
    bob.start()
    await bob.gossip.load()
    assert gate(bob, alice) == ""


async def test_a_removed_partner_leaves_nothing_behind(pair, tmp_path):
    alice, bob = pair
    await alice.publish(publish(1))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].head)
        alice.links.cut(bob)
        await bob.gossip.forget(alice.peer_id)
    assert await bob.bodies(alice) == []
    for file in tmp_path.glob("bob-partners.db*"):
        assert publish(1).body not in file.read_bytes()


async def test_a_fork_is_kept_reported_and_followed_no_further(pair):
    alice, bob = pair
    await alice.publish(publish(1))
    async with running(alice, bob):
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].head)
        alice.links.cut(bob)

        # Alice's database goes back to nothing, and she signs another history.
        def rewrite(tx):
            tx.execute("DELETE FROM journals WHERE origin = ?", (alice.peer_id,))
            append_entries(tx, alice, [publish(2)], NOW, LEASE_S)
            return append_entries(tx, alice, [publish(3)], NOW, LEASE_S)

        await alice.db.write(rewrite)
        alice.links.connect(bob)
        await until(lambda: bob.gossip.coverage()[alice.peer_id].forked)
        await until(lambda: ("fault", alice.peer_id, "forked") in bob.seen)
    assert await bob.bodies(alice) == [publish(1).body], "what is common stays"
