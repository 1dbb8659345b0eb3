"""Which results are of one person: no silent merge, only what the score calls a match."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from peer.search.answer import Result
from protocol.matching.blocks import Block, blocks
from protocol.matching.keys import Demographics
from protocol.matching.nicknames import NicknameTable
from protocol.matching.score import score

COMPARISONS: Final = 5_000
"""Most comparisons of one answer, half a second in all.  Only an origin that makes up a hundred
people of one name and birth date gets there; those that are not compared stay apart."""


def grouped(
    results: Sequence[Result], nicknames: NicknameTable
) -> tuple[tuple[Demographics, ...], tuple[Result, ...]]:
    """Return the persons behind the results, and the results with the index of theirs.

    Two descriptions are of one person if they match each other, directly or through others.  The
    best match to the question stands for the person.
    """
    ranked = sorted(results, key=lambda one: -one.score.bits)
    descriptions = list(dict.fromkeys(result.patient for result in ranked))
    groups = _Groups(len(descriptions))
    for one, other in islice(_worth_comparing(descriptions), COMPARISONS):
        if groups.leader(one) == groups.leader(other):
            continue
        if score(descriptions[one], descriptions[other], nicknames).tier == "match":
            groups.join(one, other)
    leaders = [groups.leader(number) for number in range(len(descriptions))]
    places = {leader: place for place, leader in enumerate(sorted(set(leaders)))}
    persons = tuple(descriptions[leader] for leader in places)
    index = {
        description: places[leader]
        for description, leader in zip(descriptions, leaders, strict=True)
    }
    return persons, tuple(replace(each, person=index[each.patient]) for each in results)


def _worth_comparing(descriptions: Sequence[Demographics]) -> Iterator[tuple[int, int]]:
    """Yield the pairs that share a block."""
    members: defaultdict[Block, list[int]] = defaultdict(list)
    for one, description in enumerate(descriptions):
        own = blocks(description)
        for other in sorted({each for block in own for each in members[block]}):
            yield one, other
        for block in own:
            members[block].append(one)


class _Groups:
    """Numbers that belong together; the lowest of a group leads it."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def leader(self, number: int) -> int:
        while self._above[number] != number:
            self._above[number] = self._above[self._above[number]]
            number = self._above[number]
        return number

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.leader(one), self.leader(other)))
        self._above[high] = low
