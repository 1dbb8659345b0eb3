"""A federation under virtual time: real state machines, real tables, a hostile network, one seed.

`World(seed).run()` lets facilities publish, publish again and withdraw while messages are lost,
repeated, delayed past each other and tampered with, links and whole directions fail, and facilities
crash between their commit and the first byte of it.  Then everything heals.  Every promise that the
journal makes is a function here, called after each step or at the end; a broken one is a Violation
that names the seed.
"""

from __future__ import annotations

import heapq
import random
import sqlite3
import sys
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import count, permutations

from peer.index import witnesses
from peer.index.batches import load, store
from protocol.entries import EntryKind, Header, hole
from protocol.exchange import (
    Appended,
    Connected,
    Exchange,
    Freeze,
    Halt,
    HeldJournal,
    Load,
    Received,
    Refuse,
    Send,
    Store,
    Stored,
    Tick,
    Witness,
)
from protocol.frontier import claimed
from protocol.hashing import plain_hash
from protocol.messages import HAVE_DOMAIN, Batches, Kind, decode, encode
from protocol.records import from_bytes
from protocol.signing import sign
from tests.simulation.memory import Facility, labels_of, publish, withdraw

START = 1_800_000_000
ROUND_S = 60 + 15
"""One round of the exchange: its interval and the longest jitter."""
HEALING_ROUNDS = 12
"""So many rounds after the last fault, everyone must agree: a lost question is asked again in the
next round, a partner whose answers failed to verify is heard again after BACK_OFF_MOST_S."""


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True)
class Faults:
    """How hostile the network is: probabilities per message, and per minute for the last two."""

    loss: float = 0.1
    repeat: float = 0.1
    late: float = 0.3
    tampered: float = 0.15
    partition: float = 0.15
    crash: float = 0.1


CALM = Faults(0, 0, 0, 0, 0, 0)


@dataclass
class Node:
    """A facility that is up or down, with its exchanges while it is up."""

    facility: Facility
    skew_s: int
    up: bool = True
    lines: dict[str, Exchange] = field(default_factory=dict)
    published: dict[int, bytes] = field(default_factory=dict)
    ended: dict[int, list[bytes]] = field(default_factory=dict)
    """Entry numbers withdrawn, each with the bodies and salts that must be gone."""
    bodies: dict[int, list[bytes]] = field(default_factory=dict)


class World:
    """The facilities, the network between them, and the clock."""

    def __init__(self, seed, nodes=3, faults=Faults(), minutes=60, durable=True):
        self.seed = seed
        self.random = random.Random(seed)
        self.now = START
        self.faults = faults
        self.minutes = minutes
        self.durable = durable
        self.order = count()
        self.agenda = []
        self.numbers = count(1)
        self.cut = set()
        self.spoken = {}
        self.transcript = b""
        self.refusals = set()
        names = ["alice", "bob", "carol", "dave", "erin"][:nodes]
        self.nodes = {
            name: Node(Facility(name), skew_s=self.random.randint(-90, 90)) for name in names
        }
        self.by_id = {node.facility.peer_id: name for name, node in self.nodes.items()}

    # -- time

    def at(self, delay_s, action, *arguments):
        heapq.heappush(self.agenda, (self.now + delay_s, next(self.order), action, arguments))

    def run(self):
        """Live through the faults, heal, and check every promise."""
        for one, other in permutations(self.nodes, 2):
            if one < other:
                self.connect(one, other)
        for minute in range(self.minutes):
            self.at(minute * 60, self.minute)
        self.pass_time(self.minutes * 60)
        self.heal()
        self.pass_time(HEALING_ROUNDS * ROUND_S)
        self.check_everything()
        return plain_hash(self.transcript).hex()

    def pass_time(self, seconds):
        end = self.now + seconds
        while self.agenda and self.agenda[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(self.agenda)
            action(*arguments)
        self.now = end

    def minute(self):
        """One minute of the clinics' day, and of bad luck."""
        for name in self.nodes:
            if self.random.random() < 0.8:
                self.at(self.random.randrange(60), self.work, name)
            if self.random.random() < self.faults.crash:
                self.at(self.random.randrange(60), self.crash, name)
        for pair in permutations(self.nodes, 2):
            if self.random.random() < self.faults.partition:
                self.cut.add(pair)
                self.at(self.random.randrange(20, 400), self.cut.discard, pair)

    def heal(self):
        self.faults = CALM
        self.cut.clear()
        for name in self.nodes:
            self.start(name)
        for one, other in permutations(self.nodes, 2):
            if one < other and other not in self.nodes[one].lines:
                self.connect(one, other)

    # -- facilities

    def work(self, name):
        """Append a random batch; sometimes crash between the commit and the first byte of it.

        Where commits are not `durable`, it crashes after the first bytes, and the commit is undone.
        """
        node = self.nodes[name]
        if not node.up:
            return
        before = node.facility.index.serialize(), dict(node.published), dict(node.ended)
        entries = []
        for _ in range(self.random.randrange(5)):
            choice = self.random.random()
            if choice < 0.6 or not node.published:
                entries.append(self.new_entry(node, next(self.numbers)))
            elif choice < 0.75:
                entries.append(self.new_entry(node, self.random.choice(sorted(node.published))))
            else:
                number = self.random.choice(sorted(node.published))
                entries.append(withdraw(number))
                del node.published[number]
                node.ended[number] = node.bodies[number]
        head = node.facility.append(*entries, now=self.now + node.skew_s)
        crashes = self.random.random() < self.faults.crash
        if not (crashes and self.durable):
            for other in list(node.lines):
                self.happen(name, other, Appended(head))
        if crashes:
            self.crash(name)
            if not self.durable:
                image, node.published, node.ended = before
                node.facility.index.deserialize(image)

    def new_entry(self, node, number):
        marker = self.random.randbytes(8).hex().encode()
        entry = publish(number, b"label%011d-body-%s" % (number, marker))
        entry = replace(entry, salt=b"salt" + self.random.randbytes(6).hex().encode())
        node.published[number] = entry.body
        node.bodies.setdefault(number, []).extend([entry.body, entry.salt])
        return entry

    def crash(self, name):
        self.nodes[name].up = False
        for other in list(self.nodes[name].lines):
            self.disconnect(name, other)
        self.at(self.random.randrange(10, 300), self.start, name)

    def start(self, name):
        if not self.nodes[name].up:
            self.nodes[name].up = True
            for other in self.nodes:
                if other != name and self.nodes[other].up:
                    self.connect(name, other)

    def connect(self, one, other):
        for me, partner in ((one, other), (other, one)):
            mine, theirs = self.nodes[me].facility, self.nodes[partner].facility
            held = mine.held(theirs)
            self.nodes[me].lines[partner] = Exchange(
                mine.peer_id,
                theirs.peer_id,
                HeldJournal(mine.head(), mine.node_keys),
                HeldJournal(held.head(), theirs.node_keys, held.incomplete_from()),
                lambda payload, seed=mine.node_seed: sign(seed, HAVE_DOMAIN, payload),
            )
        for me, partner in ((one, other), (other, one)):
            self.happen(me, partner, Connected(self.random.randrange(15)))

    def disconnect(self, one, other):
        self.nodes[one].lines.pop(other, None)
        self.nodes[other].lines.pop(one, None)

    # -- exchanges

    def happen(self, me, partner, event):
        """Feed an event to one exchange and perform all that follows from it."""
        exchange = self.nodes[me].lines.get(partner)
        if exchange is None:
            return
        events = deque([event])
        while events:
            for effect in exchange.handle(events.popleft(), self.now + self.nodes[me].skew_s):
                outcome = self.perform(me, partner, exchange, effect)
                if outcome is not None:
                    events.append(outcome)
        delay_s = max(1, exchange.wake_at - self.now - self.nodes[me].skew_s)
        self.at(delay_s, self.tick, me, partner, exchange)

    def tick(self, me, partner, exchange):
        due = self.now + self.nodes[me].skew_s >= exchange.wake_at
        if due and self.nodes[me].lines.get(partner) is exchange:
            self.happen(me, partner, Tick(self.random.randrange(15)))

    def perform(self, me, partner, exchange, effect):
        facility = self.nodes[me].facility
        match effect:
            case Send(message):
                self.send(me, partner, message)
            case Store(origin, batches, more):
                return self.store(me, origin, batches, more)
            case Load(origin, from_batch):
                tx = facility.index if origin == facility.peer_id else facility.partners
                return load(tx, origin, from_batch, max_bytes=self.random.choice([1, 1000, 10**6]))
            case Witness(body, statement):
                claim = claimed(body, facility.peer_id)
                witnesses.record(
                    facility.partners,
                    exchange.partner,
                    statement,
                    last_seq=None if claim is None else claim.last_seq,
                    in_step=False,
                    now=self.now,
                )
                self.check_acknowledgement(partner, me, claim)
            case Refuse(error):
                self.refusals.add(error.code)
            case Freeze() | Halt():
                self.fail(f"{me} found a fork among honest facilities: {effect}")
        return None

    def store(self, me, origin, batches, more):
        facility = self.nodes[me].facility
        author = self.nodes[self.by_id[origin]].facility
        facility.partners.execute("BEGIN")
        try:
            run = store(facility.partners, origin, author.node_keys, batches, labels_of)
        except sqlite3.IntegrityError as error:
            self.fail(f"(5) {me} accepted a position of {self.by_id[origin]} twice: {error}")
        facility.partners.execute("COMMIT")
        self.check_held(me, self.by_id[origin])
        return Stored(origin, run.head, run.through, more, run.incomplete_from, run.error)

    # -- network

    def send(self, me, partner, message):
        data = encode(message, Kind.TELL)
        self.transcript = plain_hash(self.transcript + data)
        self.check_spoken(me, message)
        if (me, partner) in self.cut or self.random.random() < self.faults.loss:
            return
        copies = 1 + (self.random.random() < self.faults.repeat)
        for _ in range(copies):
            delay = self.random.randrange(90) if self.random.random() < self.faults.late else 0
            self.at(delay, self.deliver, me, partner, self.tamper(message, data))

    def deliver(self, me, partner, data):
        if self.nodes[partner].up:
            _, message = decode(data)
            self.happen(partner, me, Received(message))

    def tamper(self, message, data):
        """Return the message as a lying neighbour would pass it on."""
        if not isinstance(message, Batches) or self.random.random() >= self.faults.tampered:
            return data
        batches = list(message.batches)
        which = self.random.randrange(len(batches))
        entries = list(batches[which].entries)
        published = [i for i, e in enumerate(entries) if e.kind == EntryKind.PUBLISHED]
        match self.random.randrange(4):
            case 0 if published:  # Forge a body.
                at = self.random.choice(published)
                entries[at] = replace(entries[at], payload=b"forged" + entries[at].payload)
            case 1 if published:  # Claim that it was withdrawn.
                at = self.random.choice(published)
                entries[at] = hole(entries[at])
            case 2 if entries:  # Lose the last entry.
                entries.pop()
            case _:  # Replay the first batch in the place of the last.
                batches.append(batches[0])
        batches[which] = replace(batches[which], entries=tuple(entries))
        return encode(replace(message, batches=tuple(batches)), Kind.TELL)

    # -- promises

    def fail(self, sentence):
        raise Violation(f"seed {self.seed}, {self.now - START} s: {sentence}")

    def check_spoken(self, me, message):
        """(3) No honest origin ever speaks two batches for one position."""
        if not isinstance(message, Batches):
            return
        for batch in message.batches:
            header = from_bytes(Header, batch.header, 512)
            position = (header.origin, header.epoch, header.batch)
            if self.spoken.setdefault(position, batch.header) != batch.header:
                self.fail(f"(3) {me} speaks two batches for position {position[1:]}")

    def check_acknowledgement(self, author, me, claim):
        """What a HAVE acknowledges is applied, durably, before it is said."""
        if claim is not None:
            held = self.nodes[author].facility.held(self.nodes[me].facility).head()
            if held is None or held.last_seq < claim.last_seq:
                self.fail(f"{author} acknowledged seq {claim.last_seq} of {me} without holding it")

    def check_held(self, holder, origin):
        """(5) What is held is a beginning of what the origin signed, and (8) its signed state."""
        theirs = self.nodes[origin].facility
        copy = self.nodes[holder].facility.held(theirs)
        original = theirs.held(theirs)
        head = copy.head()
        if head is None:
            return
        for batch in range(head.batch + 1):
            if copy.header(batch) != original.header(batch):
                self.fail(f"(5) {holder} holds a header that {origin} did not sign")
        rows = copy.tx.execute(
            "SELECT seq, leaf FROM journal_standings WHERE journal = ? AND leaf IS NOT NULL",
            (copy.journal,),
        ).fetchall()
        total = sum(
            int.from_bytes(plain_hash(row["leaf"] + row["seq"].to_bytes(8, "big")), "big")
            for row in rows
        )
        if (len(rows), (total % 2**256).to_bytes(32, "big")) != (
            head.live_count,
            head.state_digest,
        ):
            self.fail(f"(8) the state that {holder} holds of {origin} is not the signed one")
        unexplained = copy.tx.execute(
            "SELECT count(*) FROM journal_entries e JOIN journal_standings s"
            " ON s.journal = e.journal AND s.seq = e.seq AND s.leaf IS NOT NULL"
            " LEFT JOIN journal_missing m ON m.journal = e.journal AND m.seq = e.seq"
            " WHERE e.journal = ? AND e.body IS NULL AND m.seq IS NULL",
            (copy.journal,),
        ).fetchone()[0]
        if unexplained:
            self.fail(f"(5) {holder} took a hole of {origin} without a signed reason")

    def check_everything(self):
        """What must be true some rounds after everything healed."""
        for origin, node in self.nodes.items():
            expected = node.facility.live(node.facility)
            if {each[2] for each in expected.values()} != set(node.published.values()):
                self.fail(f"{origin}'s own journal is not what it published")
            for holder, other in self.nodes.items():
                if holder == origin:
                    continue
                held = other.facility.held(node.facility)
                if held.head() != node.facility.head():
                    self.fail(f"(12) {holder} has not caught up with {origin}")
                if held.incomplete_from() is not None:
                    self.fail(f"(12) {holder} still misses a body of {origin}")
                if other.facility.live(node.facility) != expected:
                    self.fail(f"(1) {holder} finds something else of {origin} than it published")
                self.check_held(holder, origin)
                self.check_told(origin, holder)
        self.check_erasure()

    def check_told(self, origin, holder):
        """The origin knows that its withdrawals are applied."""
        facility = self.nodes[origin].facility
        head = facility.head()
        if head is not None and head.last_seq:
            told = witnesses.acknowledged(facility.partners, head.last_seq)
            if self.nodes[holder].facility.peer_id not in told:
                self.fail(f"{origin} was not told that {holder} has applied all")

    def check_erasure(self):
        """(2) No withdrawn body or salt is anywhere, in the bytes of any database."""
        for holder, node in self.nodes.items():
            image = node.facility.images()
            for origin, author in self.nodes.items():
                for number, traces in author.ended.items():
                    if any(trace in image for trace in traces):
                        self.fail(f"(2) {holder} still has what {origin} withdrew ({number})")


if __name__ == "__main__":
    sys.stdout.write(World(int(sys.argv[1])).run() + "\n")
