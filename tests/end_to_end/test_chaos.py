"""Three hospitals at work while they are killed, cut off, set to another time and left no room.

Afterwards nothing that was acknowledged is lost, and all agree.  A seed decides what is done and
what befalls whom; when exactly a process dies between two of its instructions, nobody decides.
Again with a seed: `make test-deep ARGS="-k 'chaos and seed-7'"`.
"""

from __future__ import annotations

import random

import pytest

from tests.chaos.faults import befall
from tests.chaos.staff import Staff
from tests.chaos.truth import check
from tests.chaos.world import World
from tests.processes import wait_until

FEW, MANY = 8, 40
"""Faults of one run: half a minute, or two and a half."""
SEEDS = 12
ACTIONS_AFTER = 12
"""Of each hospital after the last fault: a revocation is among them."""


def work_on(staff):
    """Let each of them do a little more, so that no restart makes good what is done now."""
    enough = [each.done + ACTIONS_AFTER for each in staff]
    wait_until(
        lambda: all(
            each.done >= wanted or each.failure for each, wanted in zip(staff, enough, strict=True)
        ),
        "the staff cannot work any more",
        120,
    )


def survive(folder, seed, faults):
    """Let three hospitals work through so many faults, and see what is left."""
    world = World(folder)
    told = []
    try:
        world.begin()
        staff = [Staff(world, home, seed * 10 + home) for home in range(3)]
        for each in staff:
            each.start()
        try:
            told.extend(befall(world, random.Random(seed), faults))
            work_on(staff)
        finally:
            for each in staff:
                each.ended.set()
            for each in staff:
                each.join()
        world.heal()
        assert [each.failure for each in staff] == [None] * 3
        check(world)
    except BaseException as error:
        error.add_note(f"Again with: make test-deep ARGS=\"-k 'chaos and seed-{seed}'\"")
        error.add_note("\n".join([f"What befell whom, with seed {seed}:", *told]))
        error.add_note(f"What was done: {dict(sorted(world.ledger.counts.items()))}")
        error.add_note(world.logs())
        raise
    finally:
        world.close()
    return world.ledger


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_and_all_converge(tmp_path):
    ledger = survive(tmp_path, 1, FEW)
    for what in ("admit", "revoke", "retrieve", "retrieval complete"):
        assert ledger.counts.get(what), f"there was no {what} in all of it"


@pytest.mark.deep
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(SEEDS), ids="seed-{}".format)
def test_nothing_is_lost_in_long_trouble(tmp_path, seed):
    survive(tmp_path, seed, MANY)
