"""What happens to the hospitals, at moments and places that a seed decides."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

from tests.chaos.cable import State
from tests.chaos.world import SMALL, Place, World

HOUR_S = 3600
LONGEST_S = 2.5
"""How long a fault lasts at most: three times as long as a node needs to notice most of them."""


def kill(place: Place, rng: random.Random) -> str:
    """End the process at once; start it again after a while."""
    place.kill()
    time.sleep(rng.uniform(0, LONGEST_S))
    place.start()
    return "killed"


def kill_twice(place: Place, rng: random.Random) -> str:
    """End it again while it recovers from the first time."""
    place.kill()
    place.start()
    time.sleep(rng.uniform(0, 0.3))
    place.kill()
    place.start()
    return "killed twice"


def cut(place: Place, rng: random.Random) -> str:
    """Cut its cable, in one direction or both."""
    state = rng.choice([State.CUT, State.DEAF, State.MUTE])
    place.cable.set(state)
    time.sleep(rng.uniform(0, LONGEST_S))
    place.cable.set(State.WHOLE)
    return state.value


def step_clock(place: Place, rng: random.Random) -> str:
    """Set its clock hours ahead or back, while it runs, and right again."""
    hours = rng.choice([-30, -5, -1, 1, 5, 30])
    place.step_clock(hours * HOUR_S)
    time.sleep(rng.uniform(0, LONGEST_S))
    place.step_clock(0)
    return f"clock {hours:+} h"


def restart_at_another_time(place: Place, rng: random.Random) -> str:
    """Kill it, and start it with a clock that is wrong by hours; set it right while it runs."""
    hours = rng.choice([-7, 7])
    place.kill()
    place.step_clock(hours * HOUR_S)
    place.start()
    time.sleep(rng.uniform(0, LONGEST_S))
    place.step_clock(0)
    return f"killed, clock {hours:+} h"


def fill_disk(place: Place, rng: random.Random) -> str:
    """Leave it no room to write, and kill it there now and then."""
    if place.disk is None:
        return "no small disk here"
    place.disk.fill()
    time.sleep(rng.uniform(0, LONGEST_S))
    killed = rng.random() < 0.3
    if killed:
        place.kill()
    place.disk.empty()
    if killed:
        place.start()
    return "disk full" + (", killed" if killed else "")


FAULTS: list[tuple[Callable[[Place, random.Random], str], int]] = [
    (kill, 5), (kill_twice, 1), (cut, 3), (step_clock, 2), (restart_at_another_time, 1),
    (fill_disk, 3),
]  # fmt: skip


def befall(world: World, rng: random.Random, count: int) -> Iterator[str]:
    """Let `count` things happen, one after the other, each kind at least once; yield each."""
    kinds, weights = [each for each, _ in FAULTS], [weight for _, weight in FAULTS]
    first = rng.sample(kinds, len(kinds))
    for fault in (*first, *rng.choices(kinds, weights, k=count - len(first))):
        time.sleep(rng.uniform(0, 0.8))
        number = SMALL if fault is fill_disk else rng.randrange(len(world.places))
        yield f"{number + 1}: {fault(world.places[number], rng)}"
