"""What goes wrong: how often, and what then happens to a node or to the network.

A seed switches on some kinds of fault and leaves others out (swarm testing, Groce et al. 2012): a
federation in which everything fails at once hides what only happens when one thing does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import permutations

HOUR_S = 3600
DAY_S = 24 * HOUR_S

ABSENCES_S = (*[80 * HOUR_S] * 5, *[31 * DAY_S] * 4, 181 * DAY_S)
"""Longer than a lease; longer than any lease may be; longer than sealed batches are kept."""


BACKED_UP = 0.1
RESTORED_BY_THE_BOOK = 0.5


@dataclass(frozen=True)
class Faults:
    """Probabilities: the first four for each message, the others for each minute and node or pair.

    `absence` and `liar` are for a whole run: that somebody's machine is off for days, or
    everybody's; that one of the members lies.
    """

    loss: float = 0.1
    repeat: float = 0.1
    late: float = 0.3
    tampered: float = 0.15
    partition: float = 0.1
    deafness: float = 0.1
    severed: float = 0.05
    crash: float = 0.1
    interrupted: float = 0.1
    clock: float = 0.02
    full_disk: float = 0.03
    absence: float = 0.6
    restore: float = 0.05
    liar: float = 0.6

    @classmethod
    def some(cls, chance):
        """Return the faults of one seed: each kind is in it, or is not."""
        usual = cls()
        left_out = {each.name: 0.0 for each in fields(cls) if chance.random() < 0.4}
        return replace(usual, **left_out)


CALM = Faults(*[0.0 for _ in fields(Faults)])


class Mishaps:
    """Brings the faults about, minute after minute."""

    def __init__(self, world):
        self.world = world
        self.chance = world.random

    def minute(self):
        faults, world = self.world.faults, self.world
        for node in list(world.nodes.values()):
            if self.happens(faults.crash):
                self.soon(self.crash, node)
            if self.happens(faults.clock):
                self.soon(self.step_clock, node)
            if self.happens(faults.full_disk):
                self.soon(self.fill_disk, node)
            if faults.restore and self.happens(BACKED_UP):
                self.soon(self.back_up, node)
            if node.writer.backup and self.happens(faults.restore):
                self.soon(self.restore, node)
        self.network()

    def network(self):
        faults, world = self.world.faults, self.world
        for one, other in permutations(world.members, 2):
            if one < other and self.happens(faults.partition):
                self.soon(self.part, [(one, other), (other, one)])
            if one < other and self.happens(faults.severed):
                self.soon(self.sever, one, other)
            if self.happens(faults.deafness):
                self.soon(self.part, [(one, other)])

    def happens(self, probability):
        return probability > 0 and self.chance.random() < probability

    def soon(self, action, *arguments):
        self.world.at(self.chance.randrange(60), action, *arguments)

    # -- the machines

    def crash(self, node):
        """Everything that is not committed is lost; the machine is back some time later."""
        if node.up and not self.world.healed:
            self.world.say(node.name, "crashes")
            node.crash()
            self.world.at(self.chance.randrange(10, 300), self.world.start, node.name)

    def step_clock(self, node):
        """The clock jumps by minutes or hours, forward or back, and is put right an hour later."""
        if self.world.healed:
            return
        most = self.chance.choice([300, 6 * HOUR_S])
        step_s = self.chance.randint(-most, most)
        self.world.say(node.name, f"has its clock stepped by {step_s} s")
        node.step_clock(step_s)
        self.world.at(self.chance.randrange(60, HOUR_S), self.right_clock, node)

    def right_clock(self, node):
        if node.clock_error_s != node.usual_clock_error_s:
            self.world.say(node.name, "has its clock put right")
            node.step_clock(node.usual_clock_error_s - node.clock_error_s)

    def fill_disk(self, node):
        """For some minutes SQLite gets no further page."""
        if not self.world.healed:
            self.world.say(node.name, "has a full disk")
            node.facility.fill_disk()
            self.world.at(self.chance.randrange(30, 300), self.free_disk, node)

    def free_disk(self, node):
        self.world.say(node.name, "has room on its disk again")
        node.facility.free_disk()

    def back_up(self, node):
        if node.up and not self.world.healed:
            self.world.say(node.name, "is backed up")
            node.writer.back_up()

    def restore(self, node):
        """Its disk dies; the machine is back some time later, with what the backup has.

        Sometimes somebody copies the files, so that the fence alone shows that they are old.
        """
        if not self.world.healed:
            self.world.say(node.name, "is restored from its backup")
            node.crash()
            node.lives += 1
            node.writer.restore(told=self.chance.random() < RESTORED_BY_THE_BOOK)
            self.world.promises.restored(node.name)
            self.world.at(self.chance.randrange(10, 300), self.world.start, node.name)

    # -- the network

    def part(self, directions):
        """Nothing arrives in these directions for some minutes."""
        if self.world.healed:
            return
        for direction in directions:
            self.world.say(direction[0], f"cannot reach {direction[1]}")
            self.world.cut.add(direction)
            self.world.at(self.chance.randrange(20, 400), self.world.cut.discard, direction)

    def sever(self, one, other):
        """There is no link between two facilities for some minutes, and both know it."""
        if not self.world.healed:
            self.world.say(one, f"has no link to {other}")
            self.world.severed.add(frozenset({one, other}))
            self.world.disconnect(one, other)
            self.world.at(self.chance.randrange(60, 900), self.mend, one, other)

    def mend(self, one, other):
        world = self.world
        world.severed.discard(frozenset({one, other}))
        if world.members[one].up and world.members[other].up and not world.linked(one, other):
            world.connect(one, other)

    # -- absence

    def absence(self):
        """Some machines are off for days; the others go on as if it were one."""
        world = self.world
        seconds = self.chance.choice(ABSENCES_S)
        absent = self.chance.sample(sorted(world.nodes), self.chance.randint(1, len(world.nodes)))
        for name in absent:
            world.say(name, f"is switched off for {seconds // HOUR_S} hours")
            world.nodes[name].crash()
        world.leap(seconds, absent)
        for name in absent:
            world.start(name)
