"""`make bench-matching`: recall by kind of error, and strangers met, in a synthetic population.

Everybody of the population is published by one origin. Some of them are asked for, written in
another way (`tests.misspellings`), and what their match keys lead to is scored as a searcher scores
it. The keys of the questions are kept and the population streams past them, so that a million
people need little memory.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from protocol.matching.keys import Demographics, index_keys, query_keys
from protocol.matching.names import all_readings
from protocol.matching.score import score, share_of
from tests.benchmarks.machine import row
from tests.misspellings import KINDS, NICKNAMES
from tests.population import people

SEED = 20_261_124
COUNTED = 50_000
"""People from whom it is told how common each name is."""
LISTED = ("match", "probable")
MOST_HINTS = 8
"""Hints of one facility that a person gets to see (`search.max_hints`)."""


@dataclass
class Asked:
    """A question about somebody, and whom its keys lead to: {number: (turn, tier, record)}.

    Hints are taken from each weak key in turn, as a searcher takes them, after who was opened.
    """

    number: int
    recorded: Demographics
    question: Demographics
    met: dict = field(default_factory=dict)
    led: Counter = field(default_factory=Counter)

    def meet(self, number, place, tier, record):
        """Note that the key at `place` leads to somebody."""
        turn = (-1 if tier == "strong" else self.led[place], place)
        self.led[place] += 1
        if number not in self.met or turn < self.met[number][0]:
            self.met[number] = (turn, tier, record)


def questions(size, each):
    """Return {kind: up to `each` questions}, each about somebody else of the population."""
    rng = random.Random(SEED)
    asked = {kind: [] for kind in KINDS}
    chance = min(1.0, 30 * each * len(KINDS) / size)
    for number, somebody in enumerate(people(size, SEED)):
        if rng.random() > chance:
            continue
        wanted = [kind for kind in KINDS if len(asked[kind]) < each]
        if not wanted:
            break
        kind = rng.choice(wanted)
        if (pair := KINDS[kind](rng, somebody)) is not None:
            asked[kind].append(Asked(number, *pair))
    return asked


def publish(size, asked):
    """Publish the population past the questions; return how common each name is."""
    wanted, recorded = defaultdict(list), {}
    for each in (one for some in asked.values() for one in some):
        recorded[each.number] = each.recorded
        for place, key in enumerate(query_keys(each.question, NICKNAMES)):
            wanted[key.text].append((each, place, key.tier))
    borne = Counter()
    for number, somebody in enumerate(people(size, SEED)):
        record = recorded.get(number) or somebody.recorded()
        for key in index_keys(record, NICKNAMES):
            for each, place, tier in wanted.get(key.text, ()):
                each.meet(number, place, tier, record)
        if number < COUNTED:
            for reading in all_readings(record.names)[:1]:
                borne.update(reading.borne)
    counted = min(size, COUNTED)
    return {name: share_of(bearers, counted) for name, bearers in borne.items()}


@dataclass
class Tally:
    """What became of the questions of one kind."""

    asked: int = 0
    listed: int = 0
    hinted: int = 0
    strangers_opened: int = 0
    strangers_listed: int = 0
    strangers_hinted: int = 0

    def add(self, one, shares):
        """Count one question: whom it lists, at whom it hints, and who of them is a stranger."""
        self.asked += 1
        hints = []
        for number, (turn, tier, record) in one.met.items():
            fit = score(one.question, record, NICKNAMES, shares=shares).tier
            self.strangers_opened += tier == "strong" and number != one.number
            if tier == "strong" and fit in LISTED:
                self.listed += number == one.number
                self.strangers_listed += number != one.number
            elif tier == "weak" or fit == "possible":
                hints.append((turn, number))
        shown = [number for _, number in sorted(hints)[:MOST_HINTS]]
        self.hinted += one.number in shown
        self.strangers_hinted += sum(number != one.number for number in shown)


def main():
    """Measure a population of the size asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=1000, help="questions of every kind")
    arguments = parser.parse_args()
    started = time.process_time()
    asked = questions(arguments.size, arguments.each)
    shares = publish(arguments.size, asked)
    whole = Tally()
    for kind, some in asked.items():
        tally = Tally()
        for one in some:
            tally.add(one, shares)
            whole.add(one, shares)
        row(
            f"recall_{kind}",
            [(tally.listed + tally.hinted) / tally.asked],
            "share",
            listed=tally.listed / tally.asked,
            hinted=tally.hinted / tally.asked,
            questions=tally.asked,
        )
    for what in ("opened", "listed", "hinted"):
        number = getattr(whole, f"strangers_{what}") / whole.asked
        row(
            f"strangers_{what}_per_search",
            [number],
            "people",
            population=arguments.size,
            questions=whole.asked,
            cpu_seconds=time.process_time() - started,
        )


if __name__ == "__main__":
    sys.exit(main())
