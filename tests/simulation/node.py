"""One node: its databases, its clock, its people, and its exchanges while it is up.

It does what `peer.gossip` does, without threads: it performs the effects of the real exchanges on
the real tables, and what it has committed survives a crash, and nothing else.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from dataclasses import dataclass, replace

from peer.index import epochs, forks, journal, labels, memberships, orphans, relaying, witnesses
from peer.index.batches import load, store
from protocol import frontier
from protocol.errors import RemoteProtocolError
from protocol.events import (
    Appended,
    Begin,
    Begun,
    Connected,
    FindHeader,
    ForkKnown,
    Freeze,
    HeaderFound,
    HeldJournal,
    KeepMembership,
    Load,
    Received,
    Refuse,
    Regain,
    Renew,
    Send,
    Store,
    Stored,
    Tick,
    Vouch,
    Witness,
    Witnessed,
)
from protocol.exchange import Exchange
from protocol.frontier import claimed, is_ahead
from protocol.journal import epoch_of, is_joining
from protocol.limits import RENEW_S
from protocol.messages import HAVE_DOMAIN, MEMBERSHIP_DOMAIN, Membership, Refused
from protocol.relay import membership
from protocol.signing import sign
from protocol.statements import sign_statement
from tests.simulation.disk import DiskFull, Transaction
from tests.simulation.memory import Facility, label, labels_of, publish, withdraw
from tests.simulation.truth import Truth
from tests.simulation.writing import Writer

JITTER_S = 15
"""As `peer.gossip` spreads its HAVEs."""

COMPACTS = 0.3
"""How often a facility at work looks whether its journal is to be compacted."""


@dataclass
class Line:
    """One exchange; only the tick of its last `turn` is still awaited."""

    exchange: Exchange
    turn: int = 0


class Node:
    """A facility in a world; `sealed` stands in its bodies for how they are sealed."""

    honest, sealed = True, b"-body-"

    def __init__(self, name, world):
        self.name = name
        self.world = world
        self.facility = Facility(name)
        self.peer_id, self.node_keys = self.facility.peer_id, self.facility.node_keys
        self.usual_clock_error_s = self.clock_error_s = world.random.randint(-90, 90)
        self.up = True
        self.lines = {}
        self.hearing = None
        self.truth = Truth()
        self.writer = Writer(self)
        self.lives = 0
        """How often it was restored from a backup: what was under way then is lost."""

    @property
    def now(self):
        """The time by its own clock."""
        return self.world.now + self.clock_error_s

    def step_clock(self, seconds):
        self.clock_error_s += seconds

    def crash(self):
        """Lose everything that is not on the disk."""
        self.up = False
        for partner in list(self.lines):
            self.world.disconnect(self.name, partner)

    # -- its people

    def work(self):
        """Append a random batch; perhaps the machine stops before the first byte of it leaves."""
        if not self.up or not self.writer.may_write():
            return
        before, chance = self.truth.copy(), self.world.random
        entries = [self.some_entry() for _ in range(chance.randrange(5))]
        head = self.append(entries)
        if head is None:
            self.truth = before
            return
        if chance.random() < self.world.faults.interrupted:
            self.world.say(self.name, f"stops before it has told of batch {head.batch}")
            self.world.mishaps.crash(self)
        else:
            self.tell_of(head)
            if chance.random() < COMPACTS:
                self.compact()

    def compact(self):
        """Move some live entries to the tail, if enough is dead."""
        try:
            with self.transaction(self.facility.index):
                head = self.facility.compact(self.now)
        except DiskFull:
            self.world.say(self.name, "cannot compact: its disk is full")
            return
        if head is not None:
            self.world.promises.signed(self.name, head)
            self.world.say(self.name, f"compacts: batch {head.batch}, floor {head.floor}")
            self.tell_of(head)

    def some_entry(self):
        chance, truth = self.world.random, self.truth
        choice = chance.random()
        if choice < 0.6 or not truth.published:
            return self.publication(next(self.world.numbers))
        number = chance.choice(sorted(truth.published))
        if choice < 0.75:
            return self.publication(number)
        del truth.published[number]
        truth.ended.add(number)
        return withdraw(number)

    def publication(self, number):
        marker = self.world.random.randbytes(8).hex().encode()
        entry = publish(number, label(number) + self.sealed + marker)
        entry = replace(entry, salt=b"salt" + self.world.random.randbytes(6).hex().encode())
        self.truth.published[number] = entry.body
        self.truth.traces.setdefault(number, []).extend([entry.body, entry.salt])
        return entry

    def append(self, entries=()):
        """Sign and commit a batch; return the new head, or None if the disk is full."""
        try:
            with self.transaction(self.facility.index):
                head = self.facility.append(*entries, now=self.now)
        except DiskFull:
            self.world.say(self.name, "cannot publish: its disk is full")
            return None
        self.world.promises.signed(self.name, head)
        self.world.say(self.name, f"commits batch {head.batch} up to seq {head.last_seq}")
        return head

    def tell_of(self, head):
        for partner in list(self.lines):
            self.happen(partner, Appended(head))

    def renew(self):
        """Sign a fresh head if the last one is getting old, as `peer.publish` does."""
        head = self.facility.head()
        may = self.up and self.writer.may_write()
        if may and (head is None or not 0 <= self.now - head.issued_at < RENEW_S):
            fresh = self.append()
            if fresh is not None:
                self.tell_of(fresh)

    def search(self, wanted):
        """Return the entries that a search lists: of origins whose lease is not over."""
        found = labels.find(self.facility.partners, wanted)
        return [each for each in found if self.may_list(self.facility.held_of(each.origin))]

    def may_list(self, held):
        head = held.head()
        return frontier.is_fresh(head, self.now) and not is_joining(head, held.bare_through())

    # -- its links

    def connected(self, partner):
        mine, theirs = self.facility, self.world.members[partner]
        exchange = Exchange(
            mine.peer_id,
            theirs.peer_id,
            HeldJournal(mine.head(), mine.node_keys, mine.held_of(mine.peer_id).incomplete_from()),
            self.held_journal(theirs),
            lambda payload: sign(mine.node_seed, HAVE_DOMAIN, payload),
            others=lambda: self.others(partner),
        )
        self.lines[partner] = Line(exchange)

    def greet(self, partner):
        for origin, row in forks.all_of(self.facility.partners).items():
            self.happen(partner, ForkKnown(origin, row.proof))
        self.happen(partner, Connected(self.world.random.randrange(JITTER_S)))

    def disconnected(self, partner):
        self.lines.pop(partner, None)

    def receive(self, partner, message):
        self.hearing = message
        self.happen(partner, Received(message))

    def tick(self, partner, line, turn):
        if self.lines.get(partner) is line and line.turn == turn:
            self.happen(partner, Tick(self.world.random.randrange(JITTER_S)))

    def happen(self, partner, event):
        """Feed an event to one exchange and perform all that follows from it."""
        line = self.lines.get(partner)
        if line is None:
            return
        events = deque([event])
        try:
            while events:
                for effect in line.exchange.handle(events.popleft(), self.now):
                    outcome = self.perform(partner, line.exchange, effect)
                    if outcome is not None:
                        events.append(outcome)
        except DiskFull:
            self.world.say(self.name, f"cannot keep what {partner} says: its disk is full")
        line.turn += 1
        patience_s = max(1, line.exchange.wake_at - self.now)
        self.world.at(patience_s, self.tick, partner, line, line.turn)

    def perform(self, partner, exchange, effect):
        match effect:
            case Send(message):
                self.writer.cover(exchange.own, message)
                self.world.send(self.name, partner, message)
            case Renew():
                self.renewed(partner, exchange, effect)
            case Vouch():
                self.vouch(partner, exchange)
            case KeepMembership(statement):
                with self.transaction(self.facility.partners):
                    memberships.keep(self.facility.partners, exchange.partner, statement)
            case Freeze(origin, proof):
                self.freeze(origin, proof)
            case Refuse(error):
                self.refuse(partner, error)
            case _:
                return self.answer(partner, exchange, effect)
        return None

    def vouch(self, partner, exchange):
        body = membership(exchange.me, exchange.partner, self.now)
        statement = sign_statement(self.facility.node_seed, MEMBERSHIP_DOMAIN, body)
        self.world.send(self.name, partner, Membership(statement))

    def answer(self, partner, exchange, effect):
        """Perform an effect whose outcome the exchange waits for."""
        mine = self.facility
        match effect:
            case Store():
                return self.store(exchange, effect)
            case Load(origin, from_batch, epoch):
                tx = mine.index if origin == mine.peer_id else mine.partners
                most = self.world.random.choice([1, 1000, 10**6])
                back = origin == exchange.partner
                return load(tx, origin, from_batch, most, epoch=epoch, to_origin=back)
            case Begin(origin, records):
                return self.begin(partner, origin, records)
            case Witness():
                self.witness(partner, exchange, effect)
                return Witnessed(effect.body)
            case FindHeader(origin, _, batch, because):
                return HeaderFound(origin, batch, mine.held_of(origin).header(batch), because)
            case Regain():
                return self.writer.regain(effect)

    def refuse(self, partner, error):
        self.world.refused(self.name, partner, error)
        self.world.send(self.name, partner, Refused(error.code, str(error), "Ask again."))

    def freeze(self, origin, proof):
        tx = self.facility.partners
        with self.transaction(tx):
            news = forks.record(tx, origin, proof, self.now, None)
        self.world.promises.fork_found(self.name, origin)
        if news:
            for partner in list(self.lines):
                self.happen(partner, ForkKnown(origin, proof))

    def others(self, partner):
        """What is held of everyone else's journal, as `peer.gossip` tells an exchange."""
        ours = memberships.all_of(self.facility.partners)
        return {
            other.peer_id: replace(
                self.held_journal(other),
                linked=name in self.lines,
                membership=ours.get(other.peer_id),
            )
            for name, other in self.world.members.items()
            if name not in {self.name, partner}
        }

    def held_journal(self, other):
        held = self.facility.held_of(other.peer_id)
        head, forked = held.head(), other.peer_id in forks.all_of(self.facility.partners)
        early, lacking, joining = orphans.newest(held), held.incomplete_from(), held.joining()
        ended = epochs.newest(held.tx, other.peer_id) > epoch_of(head)
        return HeldJournal(head, other.node_keys, lacking, forked, joining, early, ended=ended)

    def store(self, exchange, effect):
        tx, origin = self.facility.partners, self.world.by_id[effect.origin]
        try:
            with self.transaction(tx):
                keys, batches = origin.node_keys, effect.batches
                follow = store if effect.origin == exchange.partner else relaying.store
                run = follow(tx, origin.peer_id, keys, batches, labels_of, effect.newest)
                run = epochs.drop_forked(tx, origin.peer_id, run)
        except sqlite3.IntegrityError as error:
            self.world.promises.position_taken_twice(self.name, origin.name, error)
        if effect.origin != exchange.partner:
            relay, shown = self.world.by_id[exchange.partner].name, self.hearing.membership
            self.world.promises.passed_on(relay, self.name, effect.origin, shown)
        self.world.promises.judged(self.name, origin.name, effect.batches[0], run.error)
        self.world.promises.stored(self.name, origin.name)
        return Stored(
            effect.origin,
            run.head,
            run.through,
            effect.more,
            run.incomplete_from,
            run.error,
            run.joining,
            run.early,
        )

    def begin(self, partner, origin, records):
        try:
            if origin == self.peer_id:
                begun = self.writer.learn_epochs(records)
                self.look_again()
                return begun
            tx = self.facility.partners
            with self.transaction(tx):
                begun = epochs.begin(tx, origin, records)
        except RemoteProtocolError as error:
            self.refuse(partner, error)
            return None
        forked = origin in forks.all_of(tx)
        if begun.rewound:
            self.world.recoveries["rewound"] += 1
            self.say(f"rewinds what it holds of {self.world.by_id[origin].name}")
            self.world.promises.rewound(self.name, self.world.by_id[origin].name)
        return Begun(origin, begun.head, begun.incomplete_from, begun.joining, forked, begun.early)

    def look_again(self):
        """Tell the exchanges where our journal ends, after what is under way."""
        for partner in list(self.lines):
            self.world.at(0, self.happen_again, partner)

    def happen_again(self, partner):
        own = self.facility.held_of(self.peer_id)
        self.happen(partner, Begun(self.peer_id, own.head(), own.incomplete_from()))

    def say(self, what):
        self.world.say(self.name, what)

    def witness(self, partner, exchange, effect):
        mine = self.facility
        ours, theirs = (claimed(effect.body, each) for each in (exchange.me, exchange.partner))
        last_seq = journal.applied(mine.index, mine.peer_id, ours)
        with self.transaction(mine.partners):
            witnesses.record(
                mine.partners,
                exchange.partner,
                effect.statement,
                last_seq=last_seq,
                in_step=theirs is not None and not is_ahead(theirs, exchange.theirs),
                now=self.now,
            )
        self.world.promises.acknowledged(partner, self.name, last_seq)
        self.writer.heard(exchange.partner, ours)

    def renewed(self, partner, exchange, effect):
        mine, theirs = self.facility, effect.theirs
        last_seq = journal.applied(mine.index, mine.peer_id, effect.ours)
        in_step = theirs is not None and not is_ahead(theirs, exchange.theirs)
        with self.transaction(mine.partners):
            witnesses.renew(
                mine.partners, exchange.partner, last_seq=last_seq, in_step=in_step, now=self.now
            )
        self.world.promises.acknowledged(partner, self.name, last_seq)

    def transaction(self, tx):
        return Transaction(tx)
