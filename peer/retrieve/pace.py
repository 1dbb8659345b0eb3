"""How fast studies are fetched: the operator's limits, for all partners and for each, by the clock.

An emergency is never slowed.  Nothing is dropped: whoever is too fast reads on later, and the
origin's socket fills up.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from peer.clock import Clock
from peer.config import RateLimit
from peer.errors import NodeError
from protocol.identifiers import PeerId

STEP_S: Final = 1.0
"""Longest sleep before the limits are looked at again: a window may have ended."""

LEAST_PREFIX: Final = 8
"""Fewest digits of an identity that name a partner."""


class NotNow(NodeError):
    """Nothing may be fetched from this partner at this time of the day."""


class _Bucket:
    """Bytes that were fetched and are not yet paid for by time, at `rate` bytes a second."""

    def __init__(self) -> None:
        self.debt = 0.0
        self.rate = 0
        self._at = 0.0

    def drain(self, now: float, rate: int | None) -> None:
        """Pay for the time since the last time; without a rate for everything."""
        self.debt = 0.0 if rate is None else max(0.0, self.debt - (now - self._at) * rate)
        self.rate, self._at = rate or 0, now


class Pace:
    """Holds retrievals to the limits.  `now` and `sleep`: of a clock that only goes forward."""

    def __init__(
        self,
        limits: Sequence[RateLimit],
        clock: Clock,
        name_of: Callable[[PeerId], str],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._name_of = name_of
        self._now = now
        self._sleep = sleep
        self._buckets: dict[PeerId | None, _Bucket] = {}

    def check(self, origin: PeerId) -> None:
        """Return if anything may be fetched from a partner now; raise NotNow."""
        for scope in (None, origin):
            holding = self._slowest(scope, origin)
            if holding is not None and not holding.bytes_per_s:
                raise NotNow(self.reason(origin))

    async def take(self, origin: PeerId, size: int) -> None:
        """Return when the next bytes may come, after `size` have come from a partner.

        Raises NotNow once nothing may be fetched.
        """
        if not self._limits:
            return
        for scope in (None, origin):
            self._drained(scope, origin).debt += size
        for scope in (None, origin):
            while (bucket := self._drained(scope, origin)).debt >= 1:
                self.check(origin)
                # Without a rate a window of nothing has ended just now: look again.
                await self._sleep(min(STEP_S, bucket.debt / bucket.rate) if bucket.rate else 0)

    def _drained(self, scope: PeerId | None, origin: PeerId) -> _Bucket:
        bucket = self._buckets.setdefault(scope, _Bucket())
        holding = self._slowest(scope, origin)
        bucket.drain(self._now(), None if holding is None else holding.bytes_per_s)
        return bucket

    def reason(self, origin: PeerId) -> str:
        """Return why a retrieval from a partner is slow now, for a person; '' if it is not."""
        held = [self._slowest(scope, origin) for scope in (None, origin)]
        holding = min(
            (each for each in held if each is not None),
            key=lambda each: each.bytes_per_s,
            default=None,
        )
        if holding is None:
            return ""
        whole_day = holding.begin == holding.end
        until = "" if whole_day else f" until {holding.end} UTC"
        if not holding.bytes_per_s:
            return f"Nothing is fetched{until}, by this node's settings; emergencies are."
        rate = f"{holding.bytes_per_s / 1e6:.3g} MB/s"
        return f"Slowed to {rate}{until} by this node's settings."

    def _slowest(self, scope: PeerId | None, origin: PeerId) -> RateLimit | None:
        """Return the limit that holds now for all partners (None) or for one."""
        time_of_day = dt.datetime.fromtimestamp(self._clock.now(), dt.UTC).strftime("%H:%M")
        holding = [
            each
            for each in self._limits
            if covers(each, time_of_day)
            and (self._is_of(each, origin) if scope is not None else not each.partner)
        ]
        return min(holding, key=lambda each: each.bytes_per_s, default=None)

    def _is_of(self, limit: RateLimit, origin: PeerId) -> bool:
        named = limit.partner.casefold()
        if not named:
            return False
        is_prefix = len(named) >= LEAST_PREFIX and origin.hex().startswith(named)
        return is_prefix or named == self._name_of(origin).casefold()


def covers(limit: RateLimit, time_of_day: str) -> bool:
    """Whether a limit holds at a time "HH:MM"; its window may go beyond midnight."""
    if limit.begin < limit.end:
        return limit.begin <= time_of_day < limit.end
    return time_of_day >= limit.begin or time_of_day < limit.end
