"""Whoever was removed gets nothing new that it can read, and does not come back; many seeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from unittest import mock

import pytest

import peer.index.partners
import protocol.relay
from protocol.messages import Relayed
from tests.simulation.faults import CALM
from tests.simulation.proofs import Violation
from tests.simulation.removing import RemovalWorld, RemovingNode

SEEDS = range(20)
MUTANT_SEEDS = range(40)
AT_A_TIME = 5
SEVERED = replace(CALM, severed=0.1, absence=1.0)


@pytest.mark.parametrize("first", SEEDS[::AT_A_TIME])
def test_the_removed_reads_nothing_new_and_does_not_return(first):
    for seed in range(first, first + AT_A_TIME):
        RemovalWorld(seed).run()


@pytest.mark.deep
@pytest.mark.parametrize("first", range(1000, 2000, 50))
def test_the_removed_reads_nothing_new_and_does_not_return_under_many_seeds(first):
    for seed in range(first, first + 50):
        RemovalWorld(seed).run()


def test_the_removed_is_given_sealed_batches_by_others():
    """Where nothing reached the removed, nothing would be judged."""
    felt = Counter()

    class Watched(RemovalWorld):
        def send(self, me, partner, message):
            origin = self.by_id[message.origin].name if isinstance(message, Relayed) else None
            felt["after the end"] += self.ended_at is not None and (origin, partner) == self.pair
            super().send(me, partner, message)

    for seed in SEEDS:
        Watched(seed, faults=SEVERED).run()
        if felt["after the end"]:
            return
    pytest.fail("nobody passed anything on to the removed")


# -- mutants --------------------------------------------------------------------------------------

MUTANTS = {
    "keys are not changed": (RemovingNode, "key_epoch", 0, 6),
    "memberships have no end": (protocol.relay, "MEMBERSHIP_S", 10**7, 6),
    "the deny set is not asked": (peer.index.partners, "is_denied", lambda *_: False, 9),
}


def first_broken():
    """Return what the first seed that notices anything says."""
    for seed in MUTANT_SEEDS:
        try:
            RemovalWorld(seed, faults=SEVERED).run()
        except Violation as violation:
            return violation
    return None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name):
    target, attribute, replacement, promise = MUTANTS[name]
    with mock.patch.object(target, attribute, replacement):
        broken = first_broken()
    assert broken is not None, f"no seed noticed that {name}"
    assert broken.promise == promise, broken
