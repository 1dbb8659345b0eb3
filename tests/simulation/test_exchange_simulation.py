"""Many federations, each from one seed; and mutants, so that the simulation is known to see."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import peer.index.batches
import protocol.journal
from protocol.exchange import Exchange
from tests.simulation.world import CALM, Violation, World

SEEDS = range(12)
MUTANT_SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_holds_under_faults(seed):
    World(seed).run()


@pytest.mark.parametrize("nodes", [2, 5])
def test_every_promise_holds_among_few_and_many(nodes):
    World(1, nodes=nodes).run()


def test_every_promise_holds_on_a_good_day():
    world = World(1, faults=CALM)
    world.run()
    assert not world.refusals, "nobody has anything to refuse when nothing goes wrong"


def test_the_faults_are_felt():
    """A simulation in which nothing happens would pass as well."""
    worlds = [World(seed) for seed in MUTANT_SEEDS]
    for world in worlds:
        world.run()
    assert {"replayed", "wrong-content", "incomplete"} <= {c for w in worlds for c in w.refusals}
    ended = [len(node.ended) for world in worlds for node in world.nodes.values()]
    assert sum(ended) > 100


def test_a_seed_tells_one_story_whatever_the_hash_seed():
    runs = {
        subprocess.run(
            [sys.executable, "-m", "tests.simulation.world", "3"],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert len(runs) == 1


@pytest.mark.deep
def test_every_promise_holds_under_many_seeds():
    for seed in range(100, 400):
        World(seed, nodes=4, minutes=120).run()


# -- mutants: each breaks one rule, and must be seen ----------------------------------------------


def broken_promises(**options):
    """What the seeds say: the promise that each finds broken first."""
    found = []
    for seed in MUTANT_SEEDS:
        try:
            World(seed, **options).run()
        except Violation as violation:
            found.append(str(violation))
    return found


def caught(*promises, **options):
    """Whether some seed notices, and none blames a promise that this mutant does not break."""
    found = broken_promises(**options)
    assert all(any(promise in each for promise in promises) for each in found), found
    return bool(found)


def test_a_facility_that_does_not_erase_is_caught(monkeypatch):
    keep = "UPDATE journal_bodies SET salt = salt, body = body"
    monkeypatch.setattr(peer.index.batches, "_ZERO", keep)
    assert caught("(2)")


def test_a_reader_that_ignores_positions_is_caught(monkeypatch):
    monkeypatch.setattr(protocol.journal, "_check_position", lambda *_: None)
    assert caught("(5)")


def test_an_origin_that_speaks_before_its_commit_is_durable_is_caught():
    assert caught("(3)", "found a fork", durable=False)


def test_a_reader_that_forgets_its_holes_is_caught(monkeypatch):
    monkeypatch.setattr(peer.index.batches.Held, "incomplete_from", lambda _: None)
    assert caught("(1)")


def test_an_exchange_that_never_asks_again_is_caught(monkeypatch):
    monkeypatch.setattr(Exchange, "_tick", lambda *_: [])
    assert caught("(12)")
