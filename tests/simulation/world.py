"""A federation under virtual time: real state machines, real tables, a hostile network, one seed.

`World(seed).run()` lets facilities publish, publish again and withdraw while all that `faults`
knows of happens to them and to the network between them.  Then everything heals.  What must hold
all the time, and what must be true in the end, are `promises`; a broken one is a Violation that
names the seed and tells what led to it.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import replace
from itertools import combinations, count

from protocol.entries import EntryKind, hole
from protocol.messages import Batches, Kind, Relayed, decode, encode
from tests.simulation.faults import CALM, DAY_S, HOUR_S, Faults, Mishaps
from tests.simulation.liars import LIARS
from tests.simulation.node import Node
from tests.simulation.promises import Promises
from tests.simulation.story import Story

START = 1_800_000_000
ROUND_S = 60 + 15
"""One round of the exchange: its interval and the longest jitter."""
HEALING_ROUNDS = 12
"""So many rounds after the last fault, everyone must agree: a lost question is asked again in the
next round, a partner whose answers failed to verify is heard again after BACK_OFF_MOST_S."""
SETTLING_S = 3 * ROUND_S
"""Until then what is late has arrived, and whoever missed whom the other lists was told."""
QUIET_S = 4 * ROUND_S
"""So long after that, nothing happens, and hardly anything may be said."""
LEAP_STEP_S = 6 * HOUR_S
LONG_LEAP_STEP_S = DAY_S
"""How virtual time passes while somebody is away: in steps, as idle minutes are all alike."""

NAMES = ("alice", "bob", "carol", "dave", "erin")
LIAR = "mallory"
MINUTES = (15, 20, 30)
LONG_MINUTES = 120
LONG_EVERY = 25
"""One seed in so many is a long one."""


def command(seed, nodes=None, minutes=None):
    """Return the command that runs a seed again and tells its story."""
    options = [f"--nodes {nodes}" if nodes else "", f"--minutes {minutes}" if minutes else ""]
    return " ".join(
        [".venv/bin/python -m tests.simulation", str(seed), *filter(None, options), "--trace"]
    )


class World:
    """The facilities, the network between them, and the clock.

    `nodes` are honest; `members` are these and the `liars`.
    What is not given follows from the seed: how many `nodes`, for how many `minutes`, which faults,
    the class of the `liar`.
    """

    node_class = Node

    def __init__(self, seed, *, nodes=None, minutes=None, faults=None, liar=None, everything=False):
        self.seed = seed
        self.command = command(seed, nodes, minutes)
        self.random = random.Random(seed)
        usual_minutes = self.random.choice(MINUTES)
        usual_nodes = self.random.choice((2, 3, 3, 3, 4, 5))
        self.minutes = minutes or (LONG_MINUTES if seed % LONG_EVERY == 0 else usual_minutes)
        some = Faults.some(self.random)
        self.faults = some if faults is None else faults
        self.mishaps = Mishaps(self)
        self.promises = Promises(self)
        self.story = Story(everything=everything)
        self.now = START
        self.healed = False
        self.rounds = 0
        self.order = count()
        self.agenda = []
        self.numbers = count(1)
        self.cut = set()
        self.severed = set()
        self.refusals = Counter()
        self.recoveries = Counter()
        self.sent_bytes = Counter()
        self.deliveries = Counter()
        self.nodes = {name: self.node_class(name, self) for name in NAMES[: nodes or usual_nodes]}
        usual_liar = self.random.choice(LIARS)
        if liar is None and self.mishaps.happens(self.faults.liar):
            liar = usual_liar
        self.liars = {LIAR: liar(LIAR, self)} if liar else {}
        self.members = self.nodes | self.liars
        self.by_id = {each.peer_id: each for each in self.members.values()}

    # -- time

    def at(self, delay_s, action, *arguments):
        heapq.heappush(self.agenda, (self.now + delay_s, next(self.order), action, arguments))

    def run(self):
        """Live through the faults, heal, and check every promise; return the hash of the story."""
        self.say("world", f"seed {self.seed}, {self.minutes} minutes, {self.faults}")
        for node in self.nodes.values():
            node.writer.start()
        for one, other in combinations(self.members, 2):
            self.connect(one, other)
        away_at = self.random.randrange(self.minutes)
        away = self.mishaps.happens(self.faults.absence)
        for minute in range(self.minutes):
            if away and minute == away_at:
                self.mishaps.absence()
            self.minute()
        self.heal()
        while self.rounds < HEALING_ROUNDS and not self.promises.agreed():
            self.rounds += 1
            for node in self.nodes.values():
                node.writer.round()
            self.pass_time(ROUND_S)
        self.promises.check_the_end()
        self.pass_time(SETTLING_S)
        self.sent_bytes.clear()
        self.pass_time(QUIET_S)
        self.promises.check_the_quiet(QUIET_S)
        return self.story.hash.hex()

    def pass_time(self, seconds):
        end = self.now + seconds
        while self.agenda and self.agenda[0][0] <= end:
            at, _, action, arguments = heapq.heappop(self.agenda)
            self.now = max(self.now, at)
            action(*arguments)
        self.now = end

    def minute(self):
        """One minute of the clinics' day, and of bad luck."""
        for node in self.nodes.values():
            if self.random.random() < 0.8:
                self.at(self.random.randrange(60), node.work)
            if self.random.random() < 0.3:
                self.at(self.random.randrange(60), self.promises.check_a_search, node.name)
            if node.up:
                node.writer.minute()
        for liar in self.liars.values():
            self.at(self.random.randrange(60), liar.work)
        self.mishaps.minute()
        self.pass_time(60)

    def leap(self, seconds, absent):
        """Let days pass in which little happens, and nothing to those who are `absent`."""
        step = LEAP_STEP_S if seconds <= 7 * DAY_S else LONG_LEAP_STEP_S
        for name in self.nodes:
            if name not in absent:
                self.start(name)
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            for name, node in self.nodes.items():
                if name not in absent:
                    node.renew()
                    if self.random.random() < 0.2:
                        node.work()
            self.pass_time(2 * ROUND_S)
            for name in absent:
                self.nodes[name].up = False

    def heal(self):
        self.say("world", "heals")
        self.healed = True
        self.faults = CALM
        self.cut.clear()
        self.severed.clear()
        for name, node in self.nodes.items():
            self.mishaps.right_clock(node)
            self.mishaps.free_disk(node)
            self.start(name)
        for liar in self.liars.values():
            liar.settle()
        for one, other in combinations(self.members, 2):
            if not self.linked(one, other):
                self.connect(one, other)

    # -- facilities

    def start(self, name):
        node = self.nodes[name]
        if not node.up:
            self.say(name, "starts")
            node.up = True
            node.writer.start()
            node.renew()
            self.promises.check_a_search(name)
            for other in self.members:
                if other != name and self.members[other].up:
                    self.connect(name, other)

    def linked(self, one, other):
        return other in self.members[one].lines

    def connect(self, one, other):
        """Bring a new link up, in the place of any old one."""
        self.disconnect(one, other)
        if frozenset({one, other}) in self.severed:
            return
        self.members[one].connected(other)
        self.members[other].connected(one)
        self.members[one].greet(other)
        self.members[other].greet(one)

    def disconnect(self, one, other):
        self.members[one].disconnected(other)
        self.members[other].disconnected(one)

    # -- network

    def send(self, me, partner, message):
        data = encode(message, Kind.TELL)
        self.story.heard(data)
        self.say(me, (f"-> {partner}  ", message))
        self.sent_bytes[me, partner] += len(data)
        self.promises.spoken(me, message)
        if (me, partner) in self.cut or self.random.random() < self.faults.loss:
            return
        for _ in range(1 + (self.random.random() < self.faults.repeat)):
            delay = self.random.randrange(90) if self.random.random() < self.faults.late else 0
            lives = self.lives(me, partner)
            self.at(delay, self.deliver, me, partner, self.tamper(message, data), lives)

    def lives(self, *names):
        return [self.members[name].lives for name in names]

    def deliver(self, me, partner, data, lives):
        arrives = self.members[partner].up and lives == self.lives(me, partner)
        if arrives and not self.promises.conceals(me, data):
            _, message = decode(data)
            if isinstance(message, Batches | Relayed):
                for batch in message.batches:
                    self.deliveries[partner, batch.header] += 1
            self.members[partner].receive(me, message)

    def tamper(self, message, data):
        """Return the message as it comes out of a broken proxy, or out of a hostile one."""
        if (
            not isinstance(message, Batches | Relayed)
            or self.random.random() >= self.faults.tampered
        ):
            return data
        batches = list(message.batches)
        which = self.random.randrange(len(batches))
        entries = list(batches[which].entries)
        published = [i for i, e in enumerate(entries) if e.kind == EntryKind.PUBLISHED]
        match self.random.randrange(5):
            case 0 if published:  # Forge a body.
                at = self.random.choice(published)
                entries[at] = replace(entries[at], payload=b"forged" + entries[at].payload)
            case 1 if published:  # Claim that it was withdrawn.
                at = self.random.choice(published)
                entries[at] = hole(entries[at])
            case 2 if entries:  # Lose the last entry.
                entries.pop()
            case 3 if entries:  # Let an entry be another.
                entries[-1] = replace(entries[-1], entry_id=self.random.randbytes(16))
            case _:  # Replay the first batch in the place of the last.
                batches.append(batches[0])
        batches[which] = replace(batches[which], entries=tuple(entries))
        return encode(replace(message, batches=tuple(batches)), Kind.TELL)

    def refused(self, me, partner, error):
        self.refusals[error.code] += 1

    # -- telling

    def say(self, who, what):
        self.story.say(self.now - START, who, what)

    def names(self):
        return {each.peer_id: each.name for each in self.members.values()}
