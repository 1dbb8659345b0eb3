"""Chains: the counted positions under which records of one key are found, one after the other.

A chain belongs to one match key (its records are patients' slots) or to one patient key (study
digests).  The origin gives each record the next position, once and for all; a searcher walks from
position 0 until CHAIN_MISSES positions in a row are empty.  Withdrawals leave gaps, so every
CHAIN_MISSES-th position is reserved for a *filler*, a record that says nothing: published before a
gap would end the walk too early.

The rule: no run of CHAIN_MISSES empty positions below the highest record.  A run that long contains
a reserved position, which is empty because it was never used, so a filler can always mend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from protocol.errors import LocalProtocolError
from protocol.limits import CHAIN_MISSES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

Found = TypeVar("Found")

Place: TypeAlias = "tuple[int, int]"
"""A chain by its number among those that are walked together, and a position in it."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The origin's view of a chain.

    next_position: lowest position that was never given away; it only grows.
    live: positions of records that are published.  fillers: positions of published fillers.
    """

    next_position: int = 0
    live: frozenset[int] = frozenset()
    fillers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """What to do to a chain, in this order: publish `fillers`, withdraw, publish at `positions`."""

    fillers: tuple[int, ...]
    positions: tuple[int, ...]
    after: Chain


def is_reserved(position: int) -> bool:
    """Return whether `position` may hold a filler and nothing else."""
    return position % CHAIN_MISSES == CHAIN_MISSES - 1


def change(chain: Chain, withdrawn: Collection[int] = (), published: int = 0) -> Change:
    """Return how to withdraw the records at `withdrawn` and publish `published` new ones.

    Raises LocalProtocolError if a position to withdraw holds no record.
    """
    gone = frozenset(withdrawn)
    if not gone <= chain.live:
        msg = "only the position of a live record can be withdrawn from a chain"
        raise LocalProtocolError(msg)
    positions, next_position = _next(chain.next_position, published)
    live = (chain.live - gone) | frozenset(positions)
    fillers = tuple(_missing(live, chain.fillers))
    return Change(fillers, positions, Chain(next_position, live, chain.fillers.union(fillers)))


def walk(
    count: int, look_up: Callable[[Sequence[Place]], Mapping[Place, Found]], most: int
) -> list[list[tuple[int, Found]]]:
    """Return (position, record) of `count` chains as a searcher sees them, at most `most` of each.

    `look_up` says what stands at some places: it is asked for the next CHAIN_MISSES of every chain
    at once.  A place counts as empty if nothing stands there; a filler counts as found.
    """
    walked: list[list[tuple[int, Found]]] = [[] for _ in range(count)]
    ends = dict.fromkeys(range(count), CHAIN_MISSES)
    asked = [(number, position) for number in ends for position in range(CHAIN_MISSES)]
    while asked:
        found = look_up(asked)
        for number, position in asked:
            record = found.get((number, position))
            if record is not None and len(walked[number]) < most:
                walked[number].append((position, record))
                ends[number] = position + 1 + CHAIN_MISSES
        beyond = {number: position + 1 for number, position in asked}
        asked = [
            (number, position)
            for number, first in beyond.items()
            if len(walked[number]) < most
            for position in range(first, ends[number])
        ]
    return walked


def _next(position: int, count: int) -> tuple[tuple[int, ...], int]:
    positions: list[int] = []
    while len(positions) < count:
        if not is_reserved(position):
            positions.append(position)
        position += 1
    return tuple(positions), position


def _missing(live: frozenset[int], fillers: frozenset[int]) -> Iterator[int]:
    """Yield the reserved positions of every run of empty positions that would end a walk."""
    last = -1
    highest = max(live, default=-1)
    for position in sorted(live | {each for each in fillers if each < highest}):
        if position - last > CHAIN_MISSES:
            yield from (each for each in range(last + 1, position) if is_reserved(each))
        last = position
