"""Facilities one of which ends its partnership with another, for promises 6 and 9.

The deny set, the purge and the relay are the real ones.  That new keys are taken for what is
published to everybody is counted here: a body names the key epoch under which it is sealed, and
whoever was answered in that epoch can read it.
"""

from __future__ import annotations

import random
from types import SimpleNamespace

from peer.index import memberships
from peer.index import partners as rows
from peer.index.batches import purge
from protocol.hashing import plain_hash
from protocol.limits import MEMBERSHIP_S
from protocol.messages import Batches, Relayed, decode
from tests.simulation.disk import DiskFull
from tests.simulation.faults import HOUR_S
from tests.simulation.node import Node
from tests.simulation.promises import WRONG_CLOCKS_S, Promises
from tests.simulation.world import World
from tests.simulation.writing import Writer

UNHEARD_S = 100 * HOUR_S
"""So late may the other side hear of the end: long after what was signed for it is over."""


def pairing_of(one, other):
    """Return the id of the one pairing that two facilities ever had."""
    return plain_hash(b"".join(sorted((one.peer_id, other.peer_id))))[:16]


class RemovingWriter(Writer):
    """A journal whose partners are those that were not removed."""

    def start(self):
        super().start()
        self.pen = self.pen.among(self.node.partners())

    def restore(self, *, told):
        """Put the backup back; people end again what they had ended since, as its guide says."""
        super().restore(told=told)
        for partner in sorted(self.node.ended):
            self.node.deny(partner)


class RemovingNode(Node):
    """A facility that can end a partnership.  `ended`: with whom its people have done so."""

    def __init__(self, name, world):
        super().__init__(name, world)
        self.writer = RemovingWriter(self)
        self.ended = set()

    @property
    def key_epoch(self):
        """How often the keys were changed: at each end of a partnership."""
        query = "SELECT count(*) FROM removals"
        return self.facility.index.execute(query).fetchone()[0]

    @property
    def sealed(self):
        return b"-key-%02d-" % self.key_epoch

    def publication(self, number):
        entry = super().publication(number)
        self.world.published(self, entry.body)
        return entry

    def is_partner(self, other):
        """Return whether the deny set says nothing against a facility."""
        pairing = pairing_of(self, self.world.members[other])
        return not rows.is_denied(self.facility.index, pairing)

    def partners(self):
        others = [name for name in self.world.members if name != self.name]
        return {self.world.members[each].peer_id for each in others if self.is_partner(each)}

    def others(self, partner):
        active = self.partners()
        return {each: held for each, held in super().others(partner).items() if each in active}

    def end(self, other):
        """End a partnership, here and at once; if the disk is full, as soon as it is not."""
        self.ended.add(other)
        self.world.disconnect(self.name, other)
        try:
            self.deny(other)
        except DiskFull:
            self.world.mishaps.free_disk(self)
            self.deny(other)
        self.pen_anew()

    def pen_anew(self):
        self.writer.pen = self.writer.pen.among(self.partners())

    def deny(self, other):
        """Put the pairing into the deny set, and forget all that the other has published."""
        member = self.world.members[other]
        row = SimpleNamespace(
            pairing=SimpleNamespace(pairing_id=pairing_of(self, member)), peer_id=member.peer_id
        )
        with self.transaction(self.facility.index):
            rows.deny(self.facility.index, row, self.now, "", by_them=False)
        with self.transaction(self.facility.partners):
            purge(self.facility.partners, member.peer_id)
            memberships.forget(self.facility.partners, member.peer_id)


class RemovalPromises(Promises):
    """Judges a world in which a partnership ends."""

    def journals(self):
        for origin, holder in super().journals():
            if not self.world.is_over(origin.name, holder.name):
                yield origin, holder

    def unproved(self):
        """Only who lists a liar is told of its forks."""
        over = {name for name in self.world.nodes if self.world.is_over(name, "mallory")}
        for sentence in super().unproved():
            if sentence.split()[0] not in over and "not all" not in sentence:
                yield sentence

    def stored(self, holder, origin):
        super().stored(holder, origin)
        if origin in self.world.nodes[holder].ended:
            self.fail(9, f"{holder} stores the journal of {origin}, with which it has ended")

    # -- 6: nothing published after a removal is readable by the removed

    def told(self, me, partner, message):
        """Judge what an honest facility says after the end."""
        world = self.world
        if me in world.nodes and partner in world.nodes[me].ended:
            self.fail(9, f"{me} speaks to {partner}, with which it has ended")
        if not (isinstance(message, Relayed) and me in world.nodes and world.ended_at is not None):
            return
        late_s = world.now - world.ended_at - MEMBERSHIP_S - WRONG_CLOCKS_S
        if late_s > 0 and (world.by_id[message.origin].name, partner) == world.pair:
            self.fail(6, f"{me} passes on to {partner} what it may have no more")

    def arrived(self, partner, message):
        """Judge whether the removed can read what has reached it, by whatever way."""
        world = self.world
        if not isinstance(message, Batches | Relayed) or partner != world.pair[1]:
            return
        payloads = [entry.payload for batch in message.batches for entry in batch.entries]
        for body in world.secret:
            readable = int(body.split(b"-key-")[1][:2]) in world.answered
            if readable and any(body in payload for payload in payloads):
                self.fail(6, f"{partner} can read what {world.pair[0]} published after the end")

    # -- 9: removed keys never return

    def check_the_end(self):
        super().check_the_end()
        for node in self.world.nodes.values():
            for other in sorted(node.ended):
                member = self.world.members[other]
                if node.facility.held_of(member.peer_id).head():
                    self.fail(9, f"{other} is back at {node.name}, which has ended with it")


class RemovalWorld(World):
    """A world in which `pair[0]`, at some minute, ends its partnership with `pair[1]`.

    secret: the bodies that it has published since.  answered: the key epochs in which the other was
    answered, and so can read.
    """

    node_class = RemovingNode

    def __init__(self, seed, **options):
        self.secret, self.answered, self.ended_at = set(), set(), None
        super().__init__(seed, **{"nodes": 3 + seed % 3} | options)
        self.promises = RemovalPromises(self)
        self.command = f"tests.simulation.removing.RemovalWorld({seed}).run()"
        self.chance = random.Random(f"removal {seed}")
        one = self.chance.choice(sorted(self.nodes))
        self.pair = one, self.chance.choice(sorted(self.members.keys() - {one}))
        self.ends_in = self.chance.randrange(2, self.minutes)

    def is_over(self, one, other):
        """Return whether one of the two has ended the partnership."""
        ends = ((one, other), (other, one))
        return any(b in self.nodes[a].ended for a, b in ends if a in self.nodes)

    def published(self, node, body):
        if self.ended_at is not None and node.name == self.pair[0]:
            self.secret.add(body)

    def minute(self):
        one, other = self.pair
        self.ends_in -= 1
        if self.ended_at is None and self.linked(one, other):
            self.answered.add(self.nodes[one].key_epoch)
        if self.ended_at is None and self.ends_in <= 0:
            self.end()
        super().minute()

    def end(self):
        one, other = self.pair
        self.ended_at = self.now
        self.say(one, f"ends its partnership with {other}")
        self.nodes[one].end(other)
        if other in self.nodes:
            self.at(self.chance.choice([30, HOUR_S, UNHEARD_S]), self.hear_of_the_end)

    def hear_of_the_end(self):
        one, other = self.pair
        if one not in self.nodes[other].ended:
            self.say(other, f"hears that {one} has ended their partnership")
            self.nodes[other].end(one)

    def heal(self):
        if self.ended_at is None:
            self.end()
        super().heal()
        if self.pair[1] in self.nodes:
            self.hear_of_the_end()

    def connect(self, one, other):
        """Bring a link up, unless one side's deny set is against it."""
        ends = ((one, other), (other, one))
        if all(self.nodes[a].is_partner(b) for a, b in ends if a in self.nodes):
            super().connect(one, other)
        else:
            self.disconnect(one, other)

    def send(self, me, partner, message):
        self.promises.told(me, partner, message)
        super().send(me, partner, message)

    def deliver(self, me, partner, data, lives):
        self.promises.arrived(partner, decode(data)[1])
        super().deliver(me, partner, data, lives)
