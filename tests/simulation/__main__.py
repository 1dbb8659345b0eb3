"""Run one seed again: `python -m tests.simulation SEED [--nodes N] [--minutes M] [--trace]`.

Prints the hash of all that was said, or the broken promise and what led to it.
"""

from __future__ import annotations

import argparse
import sys

from tests.simulation.proofs import Violation
from tests.simulation.world import World


def main():
    """Run the seed that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int)
    parser.add_argument("--nodes", type=int, help="how many facilities; else the seed says")
    parser.add_argument("--minutes", type=int, help="of faults; else the seed says")
    parser.add_argument("--trace", action="store_true", help="tell all that happens")
    chosen = parser.parse_args()
    world = World(chosen.seed, nodes=chosen.nodes, minutes=chosen.minutes, everything=chosen.trace)
    try:
        ending = world.run()
    except Violation as violation:
        sys.stdout.write(f"{violation}\n")
        return 1
    if chosen.trace:
        sys.stdout.write(world.story.text(world.names()) + "\n")
    sys.stdout.write(ending + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
