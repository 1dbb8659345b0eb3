"""Which results are of one person: what the score calls a match, and what people here have said.

There is no silent merge: whoever was called two people stays two, whatever the score says, and
nothing below a match joins anybody by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from peer.search.answer import Result
from protocol.identifiers import PatientIdentifier
from protocol.matching.blocks import Block, blocks
from protocol.matching.keys import Demographics
from protocol.matching.nicknames import NicknameTable
from protocol.matching.score import score

COMPARISONS: Final = 5_000
"""Most comparisons of one answer, half a second in all.  Only an origin that makes up a hundred
people of one name and birth date gets there; those that are not compared stay apart."""

Pair = tuple[bytes, bytes]


def grouped(
    results: Sequence[Result],
    nicknames: NicknameTable,
    same: Iterable[Pair] = (),
    other: Iterable[Pair] = (),
) -> tuple[tuple[Demographics, ...], tuple[Result, ...]]:
    """Return the persons behind the results, and the results with the index of theirs.

    Two records are of one person if they are linked (`same`, pairs of refs) or if their
    descriptions are the same or match, directly or through others; never if that would join a pair
    of `other`.  The best match to the question stands for the person, with the identifiers of all
    of their records: one number may be issued twice.
    """
    ranked = sorted(results, key=lambda one: -one.score.bits)
    of_ref = {each.ref: each.patient for each in reversed(ranked)}
    refs = list(dict.fromkeys(each.ref for each in ranked))
    groups = _Groups(refs, same, other)
    bearing: defaultdict[Demographics, list[bytes]] = defaultdict(list)
    for ref in refs:
        bearing[of_ref[ref]].append(ref)
    for alike in bearing.values():
        groups.join_all(alike, alike[:1])
    descriptions = list(bearing)
    for one, two in islice(_worth_comparing(descriptions), COMPARISONS):
        ours, theirs = bearing[descriptions[one]], bearing[descriptions[two]]
        if groups.leaders(ours) == groups.leaders(theirs):
            continue
        if score(descriptions[one], descriptions[two], nicknames).tier == "match":
            groups.join_all(ours, theirs)
    leaders = {ref: groups.leader(ref) for ref in refs}
    places = {leader: place for place, leader in enumerate(dict.fromkeys(leaders.values()))}
    first = {leaders[ref]: ref for ref in reversed(refs)}
    numbers: defaultdict[bytes, dict[PatientIdentifier, None]] = defaultdict(dict)
    for ref in refs:
        numbers[leaders[ref]] |= dict.fromkeys(of_ref[ref].identifiers)
    persons = tuple(
        replace(of_ref[first[leader]], identifiers=tuple(numbers[leader])) for leader in places
    )
    return persons, tuple(replace(each, person=places[leaders[each.ref]]) for each in results)


def told_apart(
    persons: Sequence[Demographics], results: Sequence[Result]
) -> tuple[tuple[Demographics, ...], tuple[Result, ...], tuple[Result, ...]]:
    """Return the persons who are surely meant, their studies, and the studies of the doubtful.

    One sure record makes its person sure: whatever belongs to that person matches it.
    """
    sure = sorted({each.person for each in results if each.is_sure})
    places = {person: place for place, person in enumerate(sure)}
    return (
        tuple(persons[person] for person in sure),
        tuple(replace(r, person=places[r.person]) for r in results if r.person in places),
        tuple(each for each in results if each.person not in places),
    )


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
    """Refs that belong together, and groups that must stay apart."""

    def __init__(self, refs: Iterable[bytes], same: Iterable[Pair], other: Iterable[Pair]) -> None:
        pairs_apart, pairs_same = list(other), list(same)
        known = (*refs, *(ref for pair in (*pairs_same, *pairs_apart) for ref in pair))
        self._above = {ref: ref for ref in known}
        self._apart: defaultdict[bytes, set[bytes]] = defaultdict(set)
        for one, two in pairs_apart:
            self._apart[one].add(two)
            self._apart[two].add(one)
        for one, two in pairs_same:
            self._join(one, two)

    def leader(self, ref: bytes) -> bytes:
        while self._above[ref] != ref:
            self._above[ref] = self._above[self._above[ref]]
            ref = self._above[ref]
        return ref

    def leaders(self, refs: Iterable[bytes]) -> set[bytes]:
        return {self.leader(ref) for ref in refs}

    def join_all(self, ours: Iterable[bytes], theirs: Iterable[bytes]) -> None:
        """Join each group of `ours` with those of `theirs`, as far as none must stay apart."""
        others = list(dict.fromkeys(map(self.leader, theirs)))
        for one in dict.fromkeys(map(self.leader, ours)):
            for other in others:
                self._join(one, other)

    def _join(self, one: bytes, other: bytes) -> None:
        into, gone = self.leader(one), self.leader(other)
        if into == gone or gone in self._apart[into]:
            return
        self._above[gone] = into
        for each in self._apart.pop(gone, ()):
            self._apart[each].discard(gone)
            self._apart[each].add(into)
            self._apart[into].add(each)
