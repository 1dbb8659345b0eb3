"""Broken rules: each takes one away from the real code, and the promise named with it must notice.

What a simulation has never caught it may be unable to see; so these stay in the suite.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from unittest import mock

import peer.index.bodies
import peer.index.epochs
import protocol.comparison
import protocol.entries
import protocol.frontier
import protocol.journal
import protocol.relay
from peer.index import forks, journal, orphans
from peer.index.held import Held
from protocol.comparison import Comparison
from protocol.events import Appended, Vouch
from protocol.exchange import Exchange
from protocol.forks import place_of
from protocol.recovery import Pen
from protocol.relay import Relay
from protocol.renewal import Renewal
from tests.simulation.faults import CALM
from tests.simulation.liars import Equivocator, Meddler
from tests.simulation.node import Node
from tests.simulation.writing import Writer


@dataclass(frozen=True)
class Mutant:
    """A rule that is broken: in which `places` by what, and the promises that must notice.

    `world`: what a seed need not choose, where only some worlds could notice.
    """

    places: tuple[tuple[object, str], ...]
    replacement: object
    promises: tuple
    world: dict = field(default_factory=dict)

    @contextmanager
    def at_large(self):
        with ExitStack() as stack:
            for target, name in self.places:
                stack.enter_context(mock.patch.object(target, name, self.replacement))
            yield


def _leaf_without_id(entry, leaf=protocol.entries.leaf):
    return leaf(replace(entry, entry_id=bytes(16)))


def _speak_before_the_commit(node):
    """Tell of a batch; the machine stops before it is durable, and has never signed it."""
    if not node.up or not node.writer.may_write():
        return
    before, images = node.truth.copy(), node.facility.index.serialize()
    fence = node.writer.fence
    head = node.append([node.some_entry()])
    if head is None:
        node.truth = before
        return
    for partner in list(node.lines):
        node.happen(partner, Appended(head))
    if node.world.random.random() < node.world.faults.interrupted:
        node.world.at(1, _lose, node, images, fence, before)


def _lose(node, images, fence, before):
    node.world.mishaps.crash(node)
    if not node.up:
        node.facility.index.deserialize(images)
        node.writer.fence, node.truth = fence, before


def _start_as_if_nothing_were(writer):
    writer.pen, writer.in_doubt = Pen(writer.node.now), False


def _introduce_once(comparison, now, introduce=Comparison.introduce, **_):
    return introduce(comparison, now) if comparison._said is None else []


_TWO_FACED = {"nodes": 3, "minutes": 15, "liar": Equivocator}
_MEDDLED_WITH = {"nodes": 2, "minutes": 15, "liar": Meddler}
_RELAYED = {"nodes": 3, "liar": Meddler, "faults": replace(CALM, severed=0.2)}
_LOSSES = {"faults": replace(CALM, loss=0.5)}
_WRONG_CLOCKS = {"faults": replace(CALM, clock=0.2), "nodes": 2, "minutes": 20}
_LEAVE = "UPDATE journal_bodies SET salt = salt, body = body"

MUTANTS = {
    "what is withdrawn is kept": Mutant(((peer.index.bodies, "_ZERO"),), _LEAVE, (2,)),
    "positions are not checked": Mutant(
        ((protocol.journal, "_check_position"),), lambda *_: None, (5,)
    ),
    "entry ids are not signed": Mutant(
        ((protocol.entries, "leaf"), (protocol.journal, "leaf")), _leaf_without_id, (5,)
    ),
    "holes are forgotten": Mutant(((Held, "incomplete_from"),), lambda *_: None, (1,)),
    "a batch is told before it is durable": Mutant(
        ((Node, "work"),), _speak_before_the_commit, (3, 4)
    ),
    "nobody asks again": Mutant(((Exchange, "_tick"),), lambda *_: [], (12, "acknowledgement")),
    "a clock set back is waited for": Mutant(
        ((Exchange, "_bound_pauses"),), lambda *_: None, (12, "acknowledgement"), _WRONG_CLOCKS
    ),
    "early headers are forgotten": Mutant(
        ((orphans, "keep"),), lambda _held, _signed, fault: fault, (4,), _TWO_FACED
    ),
    "histories are not compared": Mutant(((Comparison, "heard"),), lambda *_: [], (4,), _TWO_FACED),
    "proofs are not passed on": Mutant(
        ((Comparison, "_tell_forks"),), lambda *_: [], (4,), _TWO_FACED
    ),
    "what was lost is not said again": Mutant(
        ((Comparison, "introduce"),), _introduce_once, (4,), _TWO_FACED | _LOSSES
    ),
    "a fork is no reason to list less": Mutant(
        ((forks, "_stop_listing"),), lambda *_: None, (4,), _TWO_FACED
    ),
    "an accusation is a proof": Mutant(
        ((protocol.comparison, "verify_fork"),),
        lambda proof, *_: place_of(proof),
        (4,),
        _MEDDLED_WITH,
    ),
    "signatures are not verified": Mutant(
        ((protocol.entries, "verify"),), lambda *_: None, (3, 4, 5), _MEDDLED_WITH
    ),
    "a claim is an acknowledgement": Mutant(
        ((journal, "applied"),),
        lambda _tx, _me, claim: claim and claim.last_seq,
        ("acknowledgement",),
        _MEDDLED_WITH,
    ),
    "memberships are not verified": Mutant(
        ((protocol.relay, "open_membership"),), lambda *_: None, (5,), _RELAYED
    ),
    "a restored journal goes on without asking": Mutant(
        ((Pen, "may_continue"),), lambda pen, _: pen.set_back_at is not None, (3, 4)
    ),
    "nobody looks at the fence": Mutant(((Writer, "start"),), _start_as_if_nothing_were, (3, 4)),
    "what is void is kept": Mutant(
        ((peer.index.epochs, "erase_from"),), lambda *_, **__: None, (1, 2, 5, 8)
    ),
    "everything is signed every minute": Mutant(((Renewal, "is_due"),), lambda *_: True, (10,)),
    "memberships are renewed every minute": Mutant(
        ((Relay, "vouch"),), lambda *_: [Vouch()], (10,)
    ),
    "any hash will do": Mutant(
        ((Renewal, "renewed"),), lambda self, *_: self._heard, (12, "acknowledgement")
    ),
    "a lease has no end": Mutant(
        ((protocol.frontier, "is_fresh"),), lambda head, _: head is not None, (7,)
    ),
}
