"""A federation in memory: how soon a new entry is everywhere, and what that costs.

The real exchanges, batches and tables of every facility, on a virtual clock; only the network is
made up: each message takes LATENCY_S, and some are lost.  One facility publishes, and all others
are its partners: a journal comes from its origin, so links between those carry nothing of it.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from peer.index import witnesses
from peer.index.batches import load, store
from protocol.events import (
    Appended,
    Connected,
    HeldJournal,
    Load,
    Received,
    Send,
    Store,
    Stored,
    Tick,
    Witness,
)
from protocol.exchange import Exchange
from protocol.frontier import claimed
from protocol.messages import HAVE_DOMAIN, Batches, Kind, decode, encode, name_of
from protocol.signing import sign
from tests.benchmarks.machine import row
from tests.simulation.memory import Facility, labels_of, publish

START = 1_800_000_000
LATENCY_S = 0.05
JITTER_S = 15
LOSS = (0.0, 0.1)
BODY = 288
"""The mean of a study's entry."""
LONGEST_S = 3600
SETTLE_S = 300
ENTRIES = 5


@dataclass
class Federation:
    """Facilities, the exchanges between them, and what has travelled."""

    size: int
    seed: int
    loss: float
    now: float = START
    bytes: Counter = field(default_factory=Counter)
    messages: Counter = field(default_factory=Counter)
    deliveries: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.chance = random.Random(self.seed)
        self.order = count()
        self.agenda = []
        self.facilities = [Facility(f"facility {number}") for number in range(self.size)]
        self.lines = {}
        self.facilities[0].append(now=START)
        for number in range(1, self.size):
            self.connect(0, number)

    def connect(self, one, other):
        for me, partner in ((one, other), (other, one)):
            mine, theirs = self.facilities[me], self.facilities[partner]
            self.lines[me, partner] = Exchange(
                mine.peer_id,
                theirs.peer_id,
                HeldJournal(mine.head(), mine.node_keys),
                HeldJournal(mine.held(theirs).head(), theirs.node_keys),
                lambda data, seed=mine.node_seed: sign(seed, HAVE_DOMAIN, data),
            )
            self.at(0, self.happen, me, partner, Connected(self.chance.randrange(JITTER_S)))

    def at(self, delay_s, action, *arguments):
        heapq.heappush(self.agenda, (self.now + delay_s, next(self.order), action, arguments))

    def run_until(self, reached, longest_s):
        end = self.now + longest_s
        while self.agenda and self.agenda[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(self.agenda)
            action(*arguments)
            if reached():
                return
        self.now = end

    def happen(self, me, partner, event):
        exchange, events = self.lines[me, partner], [event]
        while events:
            for effect in exchange.handle(events.pop(0), int(self.now)):
                outcome = self.perform(me, partner, effect)
                if outcome is not None:
                    events.append(outcome)
        self.at(max(1, exchange.wake_at - self.now), self.tick, me, partner)

    def tick(self, me, partner):
        if self.now >= self.lines[me, partner].wake_at:
            self.happen(me, partner, Tick(self.chance.randrange(JITTER_S)))

    def perform(self, me, partner, effect):
        facility, other = self.facilities[me], self.facilities[partner]
        match effect:
            case Send(message):
                self.send(me, partner, message)
            case Load(origin, from_batch):
                own = origin == facility.peer_id
                return load(facility.index if own else facility.partners, origin, from_batch)
            case Store(origin, batches, more):
                run = store(facility.partners, origin, other.node_keys, batches, labels_of)
                return Stored(origin, run.head, run.through, more, run.incomplete_from, run.error)
            case Witness(body, statement):
                claim = claimed(body, facility.peer_id)
                witnesses.record(
                    facility.partners, other.peer_id, statement,
                    last_seq=None if claim is None else claim.last_seq,
                    in_step=False, now=int(self.now),
                )  # fmt: skip
        return None

    def send(self, me, partner, message):
        data = encode(message, Kind.TELL)
        name = name_of(type(message))
        self.bytes[name] += len(data)
        self.messages[name] += 1
        if self.chance.random() >= self.loss:
            self.at(LATENCY_S, self.deliver, me, partner, data)

    def deliver(self, me, partner, data):
        _, message = decode(data)
        if isinstance(message, Batches):
            self.deliveries.update((partner, e.seq) for b in message.batches for e in b.entries)
        self.happen(partner, me, Received(message))

    def everywhere(self, head):
        author = self.facilities[0]
        return all(each.held(author).head() == head for each in self.facilities[1:])


def publish_everywhere(federation, number):
    """Publish one entry and return seconds until all have it, bytes, repeats."""
    federation.bytes.clear()
    federation.deliveries.clear()
    began, others = federation.now, federation.size - 1
    head = federation.facilities[0].append(publish(number, b"x" * BODY), now=int(began))
    for partner in range(1, federation.size):
        federation.happen(0, partner, Appended(head))
    federation.run_until(lambda: federation.everywhere(head), LONGEST_S)
    assert federation.everywhere(head), "the entry did not reach everyone"
    seconds = federation.now - began
    federation.run_until(lambda: False, SETTLE_S)
    return seconds, federation.bytes["batches"], federation.deliveries.total() / others - 1


def measure(size, repeats):
    """Print how a new entry of one facility reaches all others that are its partners."""
    for loss in LOSS:
        found = []
        for seed in range(repeats):
            federation = Federation(size, seed, loss)
            federation.run_until(lambda: False, SETTLE_S)
            found += [publish_everywhere(federation, number) for number in range(1, ENTRIES + 1)]
        seconds, sent, twice = map(list, zip(*found, strict=True))
        row(
            "converge_100_seconds", seconds, "s of the virtual clock", against=LATENCY_S,
            ratio=statistics.median(seconds) / LATENCY_S, limit="one message",
            facilities=size, lost=loss, bytes_of_batches=sent,
            bytes_each=[each / (size - 1) for each in sent], duplicates_per_delivery=twice,
        )  # fmt: skip
