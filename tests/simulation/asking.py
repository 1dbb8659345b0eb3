"""The federation of `tests.simulation.world`, whose facilities also ask each other.

Each asks each other one now and then.  Whoever is asked answers or refuses by the rule of
`protocol.reciprocity`; whoever is refused for want of an exchange exchanges at once and asks once
more, as `peer.reciprocity` does.  Questions and answers get lost and come late like all the rest.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from contextlib import contextmanager
from itertools import permutations

from peer.index import orphans
from protocol import reciprocity
from protocol.frontier import claimed, have_body
from protocol.journal import is_joining
from protocol.limits import CLOCK_WARNING_S, EXCHANGED_S, WANT_S
from protocol.messages import HAVE_DOMAIN, Have
from protocol.reciprocity import HeardRefusal, Progress
from protocol.statements import sign_statement
from tests.simulation.faults import CALM
from tests.simulation.node import DiskFull, Node
from tests.simulation.world import HEALING_ROUNDS, ROUND_S, World

LATE_S = 90
"""A message is at most so late."""

MONTH_S = 31 * 24 * 3600


class AskingNode(Node):
    """A node that remembers how far each exchange has come, and what it was refused."""

    def __init__(self, name, world):
        super().__init__(name, world)
        self.progress = {}
        self.refused = {}
        self.heads = []
        self.moved_at = {}
        self.clock_errors = [(world.now, self.clock_error_s)]

    def crash(self):
        super().crash()
        self.progress.clear()
        self.refused.clear()

    # -- its clock, by which it judges what was lately

    def step_clock(self, seconds):
        super().step_clock(seconds)
        self.clock_errors.append((self.world.now, self.clock_error_s))

    def since(self, within_s):
        """Return the first instant that is within so many seconds by this clock.

        What happened before the clock was set back happened lately for longer.
        """
        ends = [*(at for at, _ in self.clock_errors[1:]), self.world.now]
        spans = [
            (max(start, self.now - within_s - error), min(end, self.now + CLOCK_WARNING_S - error))
            for (start, error), end in zip(self.clock_errors, ends, strict=True)
        ]
        return min(first for first, last in spans if first <= last)

    # -- what it keeps of the exchanges, as `peer.gossip` does: in memory

    def held(self, partner):
        held = self.facility.held(self.world.members[partner].facility)
        head = held.head()
        joining = is_joining(head, held.bare_through())
        return head, held.incomplete_from() is None and not joining

    def gone_on(self, partner, change):
        self.progress[partner] = change(self.progress.get(partner, Progress()))

    def witness(self, partner, exchange, effect):
        with self.blamed_on_us(partner):
            super().witness(partner, exchange, effect)
        self.heard(partner, claimed(effect.body, exchange.partner))

    def renewed(self, partner, exchange, effect):
        with self.blamed_on_us(partner):
            super().renewed(partner, exchange, effect)
        self.heard(partner, effect.theirs)

    def heard(self, partner, claim):
        head, whole = self.held(partner)
        self.gone_on(partner, lambda known: known.heard(claim, head, self.now, whole=whole))

    @contextmanager
    def blamed_on_us(self, partner):
        try:
            yield
        except DiskFull:
            self.gone_on(partner, lambda known: known.failed(self.now))
            raise

    def store(self, exchange, effect):
        partner = self.world.by_id[effect.origin].name
        before, _ = self.held(partner)
        with self.blamed_on_us(partner):
            stored = super().store(exchange, effect)
        head, whole = self.held(partner)
        if effect.origin != exchange.partner:
            return stored  # It was passed on: its origin has said nothing.
        if head != before:
            self.moved_at[partner] = self.world.now
        self.gone_on(
            partner,
            lambda known: known.stored(head, self.now, whole=whole, advanced=head != before),
        )
        return stored

    def begin(self, partner, origin, records):
        before, _ = self.held(partner)
        begun = super().begin(partner, origin, records)
        head, whole = self.held(partner)
        if head != before:
            self.gone_on(partner, lambda known: known.rewound(head, self.now, whole=whole))
        return begun

    # -- how far its own journal went, whenever somebody could hear of it

    def connected(self, partner):
        self.note_head()
        super().connected(partner)

    def tell_of(self, head):
        self.note_head()
        super().tell_of(head)

    def look_again(self):
        self.note_head()
        super().look_again()

    def note_head(self):
        head = self.facility.head()
        batch = -1 if head is None else head.batch
        if not self.heads or self.heads[-1][1] != batch:
            self.heads.append((self.world.now, batch))

    def had_at_least(self, since):
        """Return the earliest batch with which its journal ended at any moment from `since` on.

        What a restore took cannot be given, until it is back.
        """
        before = bisect_right([at for at, _ in self.heads], since)
        return min(batch for _, batch in self.heads[before - 1 :]) if before else -1

    # -- asking and being asked

    def ask(self, partner, again=False):
        if self.up and partner in self.lines:
            self.world.pass_on(self.name, partner, "asked", again)

    def objection(self, asker):
        return reciprocity.objection(
            self.progress.get(asker, Progress()),
            self.held(asker)[0],
            self.now,
            refused=self.refused.get(asker),
        )

    def asked(self, asker, again):
        refusal = self.objection(asker)
        code = "" if refusal is None else refusal.code
        self.world.was_asked(self, asker, code)
        self.world.pass_on(self.name, asker, "answered", code, again)

    def answered(self, partner, code, again):
        if not code:
            self.refused.pop(partner, None)
            return
        self.refused[partner] = HeardRefusal(code, self.now)
        if reciprocity.is_mended_by_exchange(code) and not again:
            self.exchange_now(partner)
            self.world.at(2, self.ask, partner, True)

    def exchange_now(self, partner):
        mine, theirs = self.facility, self.world.nodes[partner].facility
        copy = mine.held(theirs)
        joining = {theirs.peer_id} if copy.joining() else ()
        held = {mine.peer_id: mine.head(), theirs.peer_id: copy.head()}
        early = orphans.newest(copy)
        body = have_body(mine.peer_id, theirs.peer_id, held, self.now, joining, early)
        have = Have(sign_statement(mine.node_seed, HAVE_DOMAIN, body))
        self.world.send(self.name, partner, have)


class AskingWorld(World):
    """`forgiving`: an answer in kind is no violation by itself; a standing deadlock still is."""

    node_class = AskingNode

    def __init__(self, seed, *, forgiving=False, **options):
        super().__init__(seed, **options)
        self.command = f"tests.simulation.asking.AskingWorld({seed}).run()"
        self.forgiving = forgiving
        self.chance = random.Random(f"asking {seed}")
        self.codes = Counter()
        self.answers = Counter()
        self.renew()

    def run(self):
        story = super().run()
        self.check_gates()
        return story

    def minute(self):
        for one, other in permutations(self.nodes, 2):
            if self.chance.random() < 0.5:
                self.at(self.chance.randrange(60), self.nodes[one].ask, other)
        self.renew()
        super().minute()

    def heal(self):
        super().heal()
        self.renew()

    def renew(self):
        """Look whether a fresh head is due, as `peer.publish` does every few seconds.

        After a clock was set back it is: a head from the future vouches for nothing.
        """
        for node in self.nodes.values():
            node.renew()

    def pass_on(self, me, partner, what, *arguments):
        """Bring a question or an answer to the other side, as far as the network does."""
        if (me, partner) in self.cut or self.chance.random() < self.faults.loss:
            return
        delay = self.chance.randrange(LATE_S) if self.chance.random() < self.faults.late else 0
        self.at(delay, self.arrive, me, partner, what, arguments)

    def arrive(self, me, partner, what, arguments):
        node = self.nodes[partner]
        if node.up and me in node.lines:
            getattr(node, what)(me, *arguments)

    # -- promise 11

    def was_asked(self, node, asker, code):
        self.codes[code] += 1
        if not code:
            self.answers[node.name, asker] += 1
            self.check_answer(node, asker)
        elif code == reciprocity.NOT_ANSWERED and not self.forgiving:
            self.promises.fail(11, f"{node.name} answers {asker} in kind; nobody refused by policy")

    def check_answer(self, node, asker):
        """Whoever is answered gave its journal, as it was a quarter of an hour ago at least.

        By the heads that it really signed, and not by what was concluded from its messages; a
        quarter of an hour by the clock of who answers.  A full disk here is the one excuse.
        """
        progress = node.progress.get(asker, Progress())
        coming = node.since(WANT_S) - LATE_S <= node.moved_at.get(asker, 0)
        if coming or progress.failed_lately(node.now):
            return
        head, _ = node.held(asker)
        held = -1 if head is None else head.batch
        due = self.nodes[asker].had_at_least(node.since(EXCHANGED_S) - 2 * LATE_S)
        if held < due:
            self.promises.fail(
                11, f"{node.name} answers {asker}, of whom it holds {held} of {due} batches"
            )

    def check_gates(self):
        """No standing deadlock: when all is well everyone answers everyone."""
        for me, asker in permutations(self.nodes, 2):
            if (refusal := self.nodes[me].objection(asker)) is not None:
                self.promises.fail(11, f"{me} still refuses {asker}: {refusal.code}")


def first_contact(seed, here, there, **options):
    """Two facilities with so many studies each meet, and ask each other before anything else."""
    world = AskingWorld(seed, nodes=2, minutes=1, **options)
    for name, studies in (("alice", here), ("bob", there)):
        for _ in range(studies):
            node = world.nodes[name]
            node.append([node.publication(next(world.numbers))])
    world.connect("alice", "bob")
    for one, other in permutations(world.nodes, 2):
        world.nodes[one].ask(other)
    return world


def live(world, rounds=HEALING_ROUNDS):
    """Let everybody ask everybody once a minute, heal half way through, and look at the gates."""
    faults = world.faults
    for world.faults in (faults, CALM):
        for minute in range(rounds * ROUND_S // 60):
            world.at(60 * minute, world.renew)
            for one, other in permutations(world.nodes, 2):
                world.at(60 * minute, world.nodes[one].ask, other)
        world.pass_time(rounds * ROUND_S)
    world.faults = faults
    world.check_gates()


def away_for_a_month(world):
    """All nodes are off for 31 days; when they start they sign a fresh head, as nodes do."""
    for node in world.nodes.values():
        node.crash()
    world.pass_time(MONTH_S)
    for name in world.nodes:
        world.start(name)
