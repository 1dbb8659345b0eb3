"""What one partner may make this side do: budgets for each kind of load, spent like water.

A token bucket for each load and each of two measures, messages and bytes.  What was taken is noted
after the fact, and the answer is a pause: so long nothing more is to be read from that partner.  It
never refuses and never forgets to serve; it makes whoever sends more than its budget wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.limits import MESSAGE_BYTES
from protocol.messages import Kind

PAUSE_MOST_S: Final = 5.0
"""Longest pause after one message.  Well below the ten seconds in which a link must answer a ping,
so that whoever is slowed keeps its link."""

LEAST_BYTES_PER_S: Final = MESSAGE_BYTES / PAUSE_MOST_S
"""Slowest rate of bytes that is kept in spite of PAUSE_MOST_S, whatever size the messages have."""


class Load(StrEnum):
    """What a message is a burden on."""

    EXCHANGE = "exchange"
    """Journals: everything that is told rather than asked, unasked answers, and pings."""
    REQUESTS = "requests"
    """Evaluations, grants, receipts, notices: each is decided on, recorded and answered."""
    RANGES = "ranges"
    """Pieces of packs, over the link or from the listener."""
    LINKS = "links"
    """Links that are opened: a handshake, and an exchange that begins anew."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`per_s` a second in the long run, `at_once` after a rest."""

    per_s: float
    at_once: float


@dataclass(frozen=True, slots=True)
class Budget:
    """How many messages, and how many bytes of them read and answered."""

    messages: Rate
    size: Rate


def load_of(kind: int, name: str) -> Load:
    """Return the load that a frame of this kind and name is."""
    if kind != Kind.REQUEST:
        return Load.EXCHANGE
    return Load.RANGES if name == "read-range" else Load.REQUESTS


class Allowance:
    """What one partner has left of each budget.  Instants are seconds that never run backwards."""

    def __init__(self, budgets: Mapping[Load, Budget]) -> None:
        self._buckets = {
            load: (_Bucket(budget.messages), _Bucket(budget.size))
            for load, budget in budgets.items()
        }

    def spend(self, load: Load, messages: int, size: int, now: float) -> float:
        """Note what was taken at `now`; return for how many seconds nothing more is to be."""
        counted, weighed = self._buckets[load]
        return max(counted.spend(messages, now), weighed.spend(size, now))


class _Bucket:
    """Fills at a rate up to a level; below zero there is a debt that time pays."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._level = rate.at_once
        self._at: float | None = None

    def spend(self, cost: float, now: float) -> float:
        rate = self._rate
        elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        level = min(rate.at_once, self._level + elapsed * rate.per_s) - cost
        self._level = max(level, -PAUSE_MOST_S * rate.per_s)
        return max(0.0, -self._level / rate.per_s)
