"""Which results are of one person: no silent merge, only what the score calls a match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peer.search.answer import Result
from protocol.matching.keys import Demographics
from protocol.matching.nicknames import NicknameTable
from protocol.matching.score import score


def grouped(
    results: Sequence[Result], nicknames: NicknameTable
) -> tuple[tuple[Demographics, ...], tuple[Result, ...]]:
    """Return the persons behind the results, and the results with the index of theirs.

    Two descriptions are of one person if they match each other, directly or through others.  The
    best match to the question stands for the person.
    """
    ranked = sorted(results, key=lambda one: -one.score.bits)
    descriptions = list(dict.fromkeys(result.patient for result in ranked))
    group = list(range(len(descriptions)))
    for i, one in enumerate(descriptions):
        for j in range(i):
            if group[i] != group[j] and score(one, descriptions[j], nicknames).tier == "match":
                low, high = sorted((group[i], group[j]))
                group = [low if each == high else each for each in group]
    leaders = sorted(set(group))
    persons = tuple(descriptions[leader] for leader in leaders)
    index = {description: leaders.index(group[i]) for i, description in enumerate(descriptions)}
    return persons, tuple(replace(each, person=index[each.patient]) for each in results)
