"""A facility's own journal in a world: its fence, its pen, and what it does after it was set back.

It does what `peer.recovery` and `peer.publish` do, without files and without threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peer.index import epochs, journal
from peer.index.batches import store
from peer.index.fence import Position
from peer.index.journal import Halt
from protocol.entries import Header, read_header
from protocol.epochs import sign_epoch
from protocol.events import Begun, Stored
from protocol.forks import ForkFound
from protocol.limits import HEADER_BYTES
from protocol.messages import Batches
from protocol.records import from_bytes
from protocol.recovery import Pen
from tests.simulation.memory import number_of, withdraw

PATIENCE = 0.05
IMPATIENCE = 0.3
"""How often in a minute an operator goes on without the partners that are silent: before they have
had their time, and after."""


@dataclass(frozen=True)
class Backup:
    """Both databases as they were once, and what was true then."""

    index: bytes
    partners: bytes
    truth: object


def place(head):
    return Position(0, epochs.NONE) if head is None else Position(head.epoch, head.batch)


class Writer:
    """Whether `node` may write its journal.  The fence outlives its databases."""

    def __init__(self, node):
        self.node = node
        self.fence = None
        self.in_doubt = False
        self.pen = Pen(0)
        self.backup = None

    @property
    def tx(self):
        return self.node.facility.index

    @property
    def me(self):
        return self.node.peer_id

    def may_write(self):
        return journal.halted(self.tx) is None and self.pen.pause(self.node.now) is None

    # -- backups ------------------------------------------------------------------------------

    def back_up(self):
        mine = self.node.facility
        self.backup = Backup(
            mine.index.serialize(), mine.partners.serialize(), self.node.truth.copy()
        )

    def restore(self, *, told):
        """Put the backup in the place of what the disk had; `told`: the node is told of it."""
        mine, truth = self.node.facility, self.node.truth
        mine.free_disk()
        mine.index.deserialize(self.backup.index)
        mine.partners.deserialize(self.backup.partners)
        # What was ever published must go if it does not come back.
        self.node.truth = replace(self.backup.truth.copy(), traces=truth.traces)
        self.in_doubt = told

    # -- the pen ------------------------------------------------------------------------------

    def start(self):
        """Find out whether the journal was set back."""
        now, head = self.node.now, self.node.facility.head()
        if self.in_doubt or (self.fence is not None and self.fence > place(head)):
            with self.node.transaction(self.tx):
                journal.halt(self.tx, Halt.BEHIND)
            self.in_doubt = False
            self.node.say("knows that its journal was set back")
        partners = {each.peer_id for each in self.node.world.members.values()} - {self.me}
        self.pen = Pen(now).among(partners)
        halted = journal.halted(self.tx)
        if halted in {Halt.BEHIND, Halt.FORKED}:
            self.pen = self.pen.set_back(now)
        if halted is Halt.REGAINED:
            self.rebuild()

    def cover(self, own, message):
        """Raise the fence before a byte leaves that shows how far the journal has come."""
        spoken = [place(own)]
        if isinstance(message, Batches) and message.origin == self.me:
            last = from_bytes(Header, message.batches[-1].header, HEADER_BYTES)
            spoken.append(Position(last.epoch, last.batch))
        if self.fence is None or max(spoken) > self.fence:
            self.fence = max(spoken)

    def heard(self, partner, claim):
        now, before = self.node.now, self.pen.pause(self.node.now)
        held = claim is None or self.holds(claim)
        self.pen = self.pen.heard(partner, claim, now, held=held)
        if self.pen.set_back_at is not None:
            self.soon(self.settle)
        elif before is not None and self.pen.pause(now) is None:
            self.soon(self.node.renew)

    def soon(self, action):
        """Do it once what is under way on a link is done; another task does it in a node."""
        self.node.world.at(0, action)

    def holds(self, claim):
        return journal.holds(self.tx, self.me, claim)

    def settle(self):
        """End the recovery if nothing is lacking any more."""
        is_bare = self.node.facility.held_of(self.me).joining()
        if not self.node.up or is_bare or not self.pen.may_continue(self.holds):
            return
        with self.node.transaction(self.tx):
            journal.halt(self.tx, Halt.REGAINED)
        self.pen = self.pen.recovered(self.node.now)
        head = self.node.facility.head()
        self.fence = None if head is None else place(head)
        self.node.say(f"has its journal back, up to {self.fence}")
        self.node.world.recoveries["in the same epoch"] += 1
        self.rebuild()

    # -- what partners hold of it -------------------------------------------------------------

    def regain(self, effect):
        node, mine = self.node, self.node.facility
        before = mine.head()
        with node.transaction(self.tx):
            run = store(self.tx, self.me, mine.node_keys, effect.batches, None, effect.newest)
            run = epochs.drop_void(self.tx, self.me, run)
            shown = [
                read_header(each.signed_header, self.me, mine.node_keys) for each in effect.batches
            ]
            behind = any(Position(each.epoch, each.batch) > place(before) for each in shown)
            if behind:
                journal.halt(self.tx, Halt.BEHIND)
        node.world.promises.shown_its_own(
            node.name,
            unknown=behind and self.pen.set_back_at is None,
            forked=isinstance(run.error, ForkFound),
        )
        if behind:
            self.pen = self.pen.set_back(node.now)
        if run.head != before:
            node.world.recoveries["batches given back"] += 1
            node.look_again()
        if behind:
            self.soon(self.settle)
        return Stored(self.me, run.head, run.through, effect.more, run.incomplete_from, run.error)

    def learn_epochs(self, records):
        known = epochs.newest(self.tx, self.me)
        with self.node.transaction(self.tx):
            begun = epochs.begin(self.tx, self.me, records, labelled=False)
            if epochs.newest(self.tx, self.me) > known:
                journal.halt(self.tx, Halt.BEHIND)
        if epochs.newest(self.tx, self.me) > known:
            self.node.say("learns of an epoch that it has forgotten")
            self.pen = self.pen.set_back(self.node.now)
        return Begun(self.me, begun.head, begun.incomplete_from)

    # -- its operator -------------------------------------------------------------------------

    def minute(self):
        """Perhaps fetch the root key out of the safe, where some partners do not answer."""
        due_at, chance = self.pen.epoch_due_at(), self.node.world.random
        if due_at is None:
            return
        if chance.random() < (IMPATIENCE if self.node.now >= due_at else PATIENCE):
            self.begin_epoch()

    def round(self):
        """With everyone there: what nobody can give back is waited for no longer."""
        if self.pen.set_back_at is not None and not self.pen.unheard():
            self.begin_epoch()

    def begin_epoch(self):
        claims = [claim.epoch for claim in self.pen.answers.values() if claim is not None]
        known = [*claims, 0 if self.fence is None else self.fence.epoch]
        record = replace(epochs.following(self.tx, self.me, known), issued_at=self.node.now)
        with self.node.transaction(self.tx):
            epochs.drop_bare(self.node.facility.held_of(self.me))
            signed = sign_epoch(self.node.facility.node_seed[::-1], record)
            epochs.begin(self.tx, self.me, [signed], labelled=False)
            journal.end_fork(self.tx)
        self.pen = self.pen.recovered(self.node.now)
        self.node.say(f"begins epoch {record.epoch} with batch {record.first_batch}")
        self.node.world.recoveries["by the root key"] += 1
        self.rebuild()

    # -- what is published --------------------------------------------------------------------

    def rebuild(self):
        """Bring what the index says in step with the journal, and write on.

        What the journal has ended is not published again; what only the journal knows ends.
        """
        node, truth = self.node, self.node.truth
        held, live = node.facility.held_of(self.me), node.facility.live(node.facility)
        bodies = {number_of(key): body for key, (_, _, body) in live.items()}
        known = {n: bodies[n] for n in truth.published if n in bodies}
        unknown = {number_of(key) for key, _ in held.live()} - known.keys()
        node.truth = replace(truth, published=known, ended=set(truth.traces) - known.keys())
        with node.transaction(self.tx):
            journal.resume(self.tx)
        if unknown or journal.begins_epoch(self.tx, self.me):
            head = node.append([withdraw(number) for number in sorted(unknown)])
            if head is not None:
                node.tell_of(head)
        node.renew()
