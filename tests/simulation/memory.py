"""A facility's journals in memory: the node's own tables and statements, without its files."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from unittest import mock

from peer.index import journal
from peer.index.batches import load, store
from peer.index.database import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS
from peer.index.held import Held
from peer.index.journal import append_entries
from peer.index.migrate import known, migrate
from protocol.entries import EntryKind
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Publish, Withdraw
from protocol.nodekeys import NodeKey, NodeKeys, only_key, succeed
from protocol.signing import public_key

LEASE_S = 72 * 3600


def labels_of(body: bytes) -> list[bytes]:
    """Stand in for the sealed digest: the label is what the body starts with."""
    return [body[:16]]


def database(migrations, names):
    tx = sqlite3.connect(":memory:", isolation_level=None)
    tx.row_factory = sqlite3.Row
    tx.execute("PRAGMA secure_delete = ON")
    migrate(tx, tuple(each for each in known(migrations) if each.name in names), "memory")
    return tx


@dataclass
class Facility:
    """Keys and both databases of one facility."""

    name: str
    peer_id: PeerId = field(init=False)
    root_seed: bytes = field(init=False)
    node_seed: bytes = field(init=False)
    node_keys: NodeKeys = field(init=False)
    index: sqlite3.Connection = field(init=False)
    partners: sqlite3.Connection = field(init=False)

    def __post_init__(self):
        seed = self.name.encode().ljust(32, b".")
        self.root_seed = seed[::-1]
        self.peer_id = PeerId(public_key(self.root_seed))
        self.node_seed = seed
        self.node_keys = only_key(public_key(seed))
        self.index = database(
            INDEX_MIGRATIONS,
            {"meta_audit", "journal", "partners", "epochs", "orphan_headers", "floor"},
        )
        self.partners = database(
            PARTNERS_MIGRATIONS,
            {"batches", "new_labels", "epochs", "floor", "forks", "label_prefixes", "memberships"},
        )

    def append(self, *entries, now=1_000, lease_s=LEASE_S):
        return append_entries(self.index, self, entries, now, lease_s)

    def compact(self, now=1_000, lease_s=LEASE_S, least=8):
        """Take one step of compaction, of so few entries that a small journal needs several."""
        with mock.patch.object(journal, "MOVED_AT_A_TIME", 3):
            return journal.compact(self.index, self, now, lease_s, least)

    def rotate(self, seed, from_batch=None):
        """Sign with another node key from the next batch on, or from the one that is named."""
        if from_batch is None:
            from_batch = self.head().batch + 1
        self.node_seed = seed
        self.node_keys = succeed(self.node_keys, NodeKey(0, from_batch, public_key(seed)))

    def head(self):
        return Held(self.index, self.peer_id).head()

    def batches(self, from_batch=0):
        return load(self.index, self.peer_id, from_batch).batches

    def follow(self, origin, batches, newest=None):
        keys = origin.node_keys
        return store(self.partners, origin.peer_id, keys, batches, labels_of, newest)

    def catch_up(self, origin):
        """Follow, answer by answer, to the end of what `origin` has."""
        while self.held(origin).head() != origin.head():
            head = self.held(origin).head()
            given = load(origin.index, origin.peer_id, head.batch + 1 if head else 0)
            assert self.follow(origin, given.batches, given.newest).error is None

    def held(self, origin):
        return self.held_of(origin.peer_id)

    def held_of(self, origin_id):
        return Held(self.index if origin_id == self.peer_id else self.partners, origin_id)

    def live(self, origin):
        """The live map: what of `origin` can be found here."""
        held = self.held(origin)
        return {EntryId(e.entry_id): (e.seq, e.salt, e.payload) for e in live_entries(held)}

    def fill_disk(self):
        """SQLite gets no page beyond those it has; what fits into them can still be written."""
        for tx in (self.index, self.partners):
            pages = tx.execute("PRAGMA page_count").fetchone()[0]
            tx.execute(f"PRAGMA max_page_count = {pages}")

    def free_disk(self):
        for tx in (self.index, self.partners):
            tx.execute(f"PRAGMA max_page_count = {2**30}")

    def images(self):
        """The bytes of both databases as a thief of the disk would see them."""
        return self.index.serialize() + self.partners.serialize()


def live_entries(held):
    """Return what is published, in the order of seq."""
    everything = held.entries(1, 2**62)
    return [entry for entry in everything if entry.kind == EntryKind.PUBLISHED]


def label(number):
    """The label under which an entry is found."""
    return b"label%011d" % number


def publish(number, body=None):
    """An entry with an id, salt and body that can be told from all others."""
    return Publish(
        EntryId(b"id%014d" % number),
        b"salt%012d" % number,
        body or label(number) + b"-body-of-%08d" % number + b"." * 24,
    )


def number_of(entry_id):
    return int(entry_id[2:])


def withdraw(number):
    return Withdraw(EntryId(b"id%014d" % number))


def kinds(batch):
    return [EntryKind(entry.kind) for entry in batch.entries]
