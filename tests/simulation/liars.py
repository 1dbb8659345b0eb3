"""Liars: members of a federation that keep no rule and hold no keys but their own.

Each is a small program of its own that speaks the messages of docs/protocol/journal.md, and has
nothing of the exchange and the tables that honest nodes run.  No promise is made to a liar; every
promise among the others must hold in its presence.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import ClassVar

from protocol.comparison import listed_as
from protocol.entries import EntryKind, SignedHeader, hole
from protocol.epochs import VERSION, EpochRecord, sign_epoch
from protocol.frontier import origin_head
from protocol.hashing import HASH_BYTES
from protocol.identifiers import EntryId
from protocol.journal import Withdraw
from protocol.messages import (
    HAVE_DOMAIN,
    MEMBERSHIP_DOMAIN,
    Batches,
    Epochs,
    Fork,
    Have,
    HaveBody,
    HeldHeader,
    Membership,
    OriginHead,
    Origins,
    Refused,
    Relayed,
    Want,
    WantHeader,
    WantRelayed,
)
from protocol.relay import membership
from protocol.statements import sign_statement
from tests.histories import History
from tests.simulation.memory import Facility, publish

TICK_S = 45
ANSWER = 5
"""Batches of one answer."""
AHEAD = 4
"""By so many batches the history of which some slip is longer than the one that is shown."""
REMEMBERED = 60
"""Messages and headers of others that are kept to be said again."""


class Liar:
    """What every liar needs: keys, links, and a history to begin with."""

    honest = False
    lives = 1
    """It never dies; what is on its way to a node that was restored is lost."""

    def __init__(self, name, world):
        self.name, self.world = name, world
        self.chance = random.Random(f"{name} {world.seed}")
        self.facility = Facility(name)
        self.peer_id, self.node_keys = self.facility.peer_id, self.facility.node_keys
        self.up = True
        self.lines = set()
        self.signed = set()
        self.histories = [History(self.facility)]
        self.sign(self.histories[0])
        self.world.at(self.chance.randrange(TICK_S), self.tick)

    # -- links

    def connected(self, partner):
        self.lines.add(partner)

    def disconnected(self, partner):
        self.lines.discard(partner)

    def greet(self, partner):
        """Say whom one lists, everybody, and vouch for the partner."""
        others = [each for each in self.world.members.values() if each.name != partner]
        theirs = self.world.members[partner].peer_id
        names = [listed_as(self.peer_id, theirs, each.peer_id) for each in others]
        self.say(partner, Origins(tuple(sorted(names))))
        body = membership(self.peer_id, theirs, self.world.now)
        self.say(
            partner, Membership(sign_statement(self.facility.node_seed, MEMBERSHIP_DOMAIN, body))
        )

    def tick(self):
        for partner in sorted(self.lines):
            self.speak(partner)
        self.world.at(TICK_S, self.tick)

    def say(self, partner, message):
        self.world.send(self.name, partner, message)

    # -- its own journal

    def sign(self, history):
        """Continue a history by a batch of new entries, perhaps with the end of an older one."""
        entries = [publish(next(self.world.numbers)) for _ in range(self.chance.randrange(3))]
        if history.live and self.chance.random() < 0.4:
            entries.append(Withdraw(EntryId(self.chance.choice(history.live).entry_id)))
        batch = history.append(*entries, now=self.world.now)
        self.signed.add(batch.header)
        return batch

    def have(self, partner, *heads):
        body = HaveBody(
            self.peer_id, self.world.members[partner].peer_id, self.world.now, tuple(heads)
        )
        self.say(partner, Have(sign_statement(self.facility.node_seed, HAVE_DOMAIN, body)))

    def give(self, partner, history, from_batch):
        batches = history.batches[from_batch:]
        if batches:
            some, more = tuple(batches[:ANSWER]), len(batches) > ANSWER
            self.say(partner, Batches(self.peer_id, some, more))


class Equivocator(Liar):
    """Signs two histories.  It shows each partner one of them, and now and then the other.

    Or it shows all the same one, and lets a batch of the other slip: one whose place in the history
    that is shown has yet to be filled.
    """

    def __init__(self, name, world):
        super().__init__(name, world)
        self.faces = {}
        self.two_faced = self.chance.random() < 0.6

    def work(self):
        """Continue each history; from some moment on there are two."""
        if len(self.histories) == 1 and self.chance.random() < 0.3:
            self.world.say(self.name, f"parts its history from batch {self.batch_of(0) + 1} on")
            self.histories.append(self.histories[0].copy())
            for _ in range(AHEAD):
                self.sign(self.histories[1])
        for history in self.histories:
            if self.chance.random() < 0.6:
                self.sign(history)
        if self.two_faced and self.lines and self.chance.random() < 0.05:
            self.faces[self.chance.choice(sorted(self.lines))] = self.chance.randrange(2)

    def settle(self):
        """Let both histories become equally long, so that nothing stays out of comparison."""
        length = 1 + max(len(each.batches) for each in self.histories)
        for history in self.histories:
            while len(history.batches) < length:
                self.sign(history)

    def batch_of(self, history):
        return len(self.histories[history].batches) - 1

    def shown(self, partner):
        if self.two_faced and partner not in self.faces:
            self.faces[partner] = self.chance.randrange(2)
        return self.histories[min(self.faces.get(partner, 0), len(self.histories) - 1)]

    def speak(self, partner):
        self.have(partner, origin_head(self.peer_id, self.shown(partner).head))
        if self.two_faced or len(self.histories) == 1 or self.chance.random() < 0.7:
            return
        early = self.histories[1].batches[len(self.histories[0].batches) + 1 :]
        if early:
            self.say(partner, Batches(self.peer_id, (early[-1],), more=False))

    def receive(self, partner, message):
        match message:
            case Want(self.peer_id, _, from_batch):
                self.give(partner, self.shown(partner), from_batch)
            case WantHeader(self.peer_id, _, batch) if batch <= self.shown(partner).head.batch:
                header = self.shown(partner).batches[batch].signed_header
                self.say(partner, HeldHeader(self.peer_id, header))


class Meddler(Liar):
    """Replays, withholds and alters what others say, and claims whatever comes to its mind."""

    def __init__(self, name, world):
        super().__init__(name, world)
        self.heard = deque(maxlen=REMEMBERED)
        self.headers = deque(maxlen=REMEMBERED)
        self.memberships = deque(maxlen=REMEMBERED)

    def work(self):
        self.sign(self.histories[0])

    def settle(self):
        """It goes on as before."""

    def speak(self, partner):
        mischief = self.chance.choice(self.MISCHIEF)
        mischief(self, partner)

    def greet(self, partner):
        super().greet(partner)
        self.claim(partner)

    def receive(self, partner, message):
        self.heard.append(message)
        match message:
            case Have() if self.chance.random() < 0.3:
                self.say(partner, Want(self.world.members[partner].peer_id, 0, 0))
            case Batches(origin, batches):
                self.headers += [(origin, each.signed_header) for each in batches]
            case Want(origin, _, from_batch) if self.chance.random() < 0.5:
                if origin == self.peer_id:
                    self.give(partner, self.histories[0], from_batch)
                else:
                    self.replay(partner)
            case WantHeader():
                self.hand_over_a_header(partner)
            case Membership(statement):
                self.memberships.append((self.world.members[partner].peer_id, statement))
            case WantRelayed(origin, _, _, statement):
                self.memberships.append((origin, statement))
                if self.chance.random() < 0.7:
                    self.relay(partner, origin)

    # -- mischief

    def replay(self, partner):
        """Say again what somebody said, to them or to somebody else."""
        if self.heard:
            self.say(partner, self.chance.choice(self.heard))

    def alter(self, partner):
        """Say it with other entries, another header, or under another name."""
        given = [each for each in self.heard if isinstance(each, Batches)]
        if not given:
            return
        message = self.chance.choice(given)
        batches = list(message.batches)
        which = self.chance.randrange(len(batches))
        batches[which] = self.altered(batches[which])
        origin = self.chance.choice([message.origin, message.origin, self.peer_id])
        self.say(partner, replace(message, origin=origin, batches=tuple(batches)))

    def relay(self, partner, origin=None):
        """Pass on what it has of a third journal: old or altered, whole or in part."""
        given = [each for each in self.heard if isinstance(each, Batches | Relayed)]
        given = [each for each in given if each.origin == (origin or each.origin)]
        if given and self.memberships:
            message = self.chance.choice(given)
            batches = list(message.batches[: self.chance.choice([1, ANSWER])])
            if self.chance.random() < 0.5:
                batches[-1] = self.altered(batches[-1])
            shown = self.shown_for(message.origin)
            more = self.chance.random() < 0.3
            self.say(partner, Relayed(message.origin, tuple(batches), more, None, shown))

    def ask_for_relay(self, partner):
        """Ask for a third journal, with a membership that is one's own or another's."""
        others = [each for each in self.world.nodes.values() if each.name != partner]
        if others and self.memberships:
            origin = self.chance.choice(others).peer_id
            batch = self.chance.choice([0, 0, self.chance.randrange(60)])
            self.say(partner, WantRelayed(origin, 0, batch, self.shown_for(origin)))

    def shown_for(self, origin):
        """Return a membership: the right one if there is one, now and then any."""
        right = [statement for of, statement in self.memberships if of == origin]
        anything = [statement for _, statement in self.memberships]
        return self.chance.choice(right if right and self.chance.random() < 0.8 else anything)

    def altered(self, batch):
        entries = list(batch.entries)
        match self.chance.randrange(4):
            case 0 if entries:
                entries[-1] = replace(entries[-1], entry_id=self.chance.randbytes(16))
            case 1:
                entries = [hole(each) for each in entries]
            case 2:
                return replace(batch, signature=self.chance.randbytes(64))
            case _:
                return replace(batch, header=self.altered_header(batch.signed_header).header)
        return replace(batch, entries=tuple(entries))

    def altered_header(self, signed):
        """Return a header in which one byte of its digest is another."""
        header = bytearray(signed.header)
        header[-20] ^= 1
        return SignedHeader(bytes(header), signed.signature)

    def overclaim(self, partner):
        """Sign to hold more than there is, of anybody's journal, or something else in its place."""
        heads = [
            OriginHead(
                each.peer_id,
                self.chance.choice([0, 0, 0, 3]),
                self.chance.randrange(60),
                self.chance.randbytes(HASH_BYTES),
                self.chance.choice([0, 1 << 30]),
            )
            for each in self.world.members.values()
        ]
        self.have(partner, *sorted(heads, key=lambda each: each.origin))

    def accuse(self, partner):
        """Call two headers of an honest facility a fork."""
        origin, first = self.some_header()
        _, second = self.some_header()
        second = self.chance.choice([second, self.altered_header(first)])
        self.say(partner, Fork(origin, first, second))

    def hand_over_a_header(self, partner):
        origin, signed = self.some_header()
        self.say(partner, HeldHeader(origin, self.altered_header(signed)))

    def some_header(self):
        own = self.histories[0].batches[-1].signed_header
        return self.chance.choice([*self.headers, (self.peer_id, own)])

    def begin_an_epoch(self, partner):
        """Sign with one's own root key what another's would have to say."""
        origin = self.chance.choice(sorted(each.peer_id for each in self.world.members.values()))
        record = EpochRecord(
            version=VERSION,
            origin=self.peer_id,
            epoch=self.chance.randrange(1, 3),
            first_batch=self.chance.randrange(3),
            previous=self.chance.randbytes(HASH_BYTES),
            issued_at=self.world.now,
        )
        self.say(partner, Epochs(origin, (sign_epoch(self.facility.root_seed, record),)))

    def show_holes(self, partner):
        """Push the own journal without its bodies."""
        batch = self.histories[0].batches[-1]
        entries = [hole(e) if e.kind == EntryKind.PUBLISHED else e for e in batch.entries]
        bare = replace(batch, entries=tuple(entries))
        self.say(partner, Batches(self.peer_id, (bare,), more=self.chance.random() < 0.5))

    def ask(self, partner):
        """Ask for journals that this link does not carry, and for batches that do not exist."""
        members = sorted(each.peer_id for each in self.world.members.values())
        origin, batch = self.chance.choice(members), self.chance.randrange(1 << 16)
        epoch = self.chance.choice([0, 7])
        self.say(partner, self.chance.choice([Want, WantHeader])(origin, epoch, batch))

    def refuse(self, partner):
        self.say(partner, Refused("busy", "They do not feel like it.", ""))

    def claim(self, partner):
        """Say the truth about the own journal, for once."""
        self.have(partner, origin_head(self.peer_id, self.histories[0].head))

    MISCHIEF: ClassVar = (
        replay,
        alter,
        relay,
        ask_for_relay,
        overclaim,
        accuse,
        hand_over_a_header,
        begin_an_epoch,
        show_holes,
        ask,
        refuse,
        claim,
    )


LIARS = (Equivocator, Meddler)
