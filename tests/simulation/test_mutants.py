"""Each rule that is broken on purpose is noticed, by the promise that it breaks."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.proofs import Violation
from tests.simulation.world import World

SEEDS = range(40)
"""Within so many seeds each mutant is caught; most in the first few."""


def first_broken(**options):
    """Return what the first seed that notices anything says."""
    for seed in SEEDS:
        try:
            World(seed, **options).run()
        except Violation as violation:
            return violation
    return None


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name):
    mutant = MUTANTS[name]
    with mutant.at_large():
        broken = first_broken(**mutant.world)
    assert broken is not None, f"no seed noticed that {name}"
    assert broken.promise in mutant.promises, broken
