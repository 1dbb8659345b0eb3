"""Holds a partner to its budgets: whoever sends more than they allow is read more slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from peer.clock import Clock
from peer.config import Link
from protocol.budget import Allowance, Budget, Load, Rate

BURST_S: Final = 60
"""So many seconds' worth of messages may come at once: a list that is searched, a ward round's
studies that are fetched, a day's batches after a night without a connection."""

LINKS: Final = Budget(Rate(0.5, 30), Rate(1.0, 1.0))
"""A link that flaps is dialled again every second at first, then every thirty."""

Slowed: TypeAlias = Callable[[Load], Awaitable[None]]


def budgets_of(settings: Link) -> Mapping[Load, Budget]:
    """Return the budgets that the settings give to each partner."""

    def messages(per_s: float) -> Rate:
        return Rate(per_s, per_s * BURST_S)

    return {
        Load.EXCHANGE: Budget(
            messages(settings.exchange_messages_per_s),
            Rate(settings.exchange_bytes_per_s, settings.exchange_bytes_at_once),
        ),
        Load.REQUESTS: Budget(
            messages(settings.requests_per_s),
            # A grant is answered with a manifest of up to four mebibytes.
            Rate(settings.exchange_bytes_per_s, settings.exchange_bytes_at_once),
        ),
        Load.RANGES: Budget(
            messages(settings.ranges_per_s),
            Rate(settings.range_bytes_per_s, settings.range_bytes_per_s * BURST_S),
        ),
        Load.LINKS: LINKS,
    }


class Meter:
    """One partner's allowance.  `slowed` is awaited when it made the partner wait."""

    def __init__(self, settings: Link, clock: Clock, slowed: Slowed) -> None:
        budgets = budgets_of(settings)
        self._allowance = Allowance(budgets)
        self._shown_s = settings.slowed_s
        self._clock = clock
        self._slowed = slowed
        self._slowed_at: int | None = None
        self._in_line = {load: asyncio.Lock() for load in budgets}

    @property
    def slowed_at(self) -> int | None:
        """When the partner was last made to wait (Unix seconds), None if not lately."""
        at = self._slowed_at
        return at if at is not None and self._clock.now() - at < self._shown_s else None

    async def spend(self, load: Load, size: int, messages: int = 1) -> None:
        """Note what was taken from the partner, and wait until more may be.

        Of several connections each waits for those before it: many are no way to have more.
        """
        async with self._in_line[load]:
            pause_s = self._note(load, messages, size)
            if pause_s > 0:
                self._slowed_at = self._clock.now()
                await self._slowed(load)
                await asyncio.sleep(pause_s)

    def charge(self, load: Load, size: int) -> None:
        """Note what an answer to the partner weighs; what it sends next waits for that."""
        self._note(load, 0, size)

    def _note(self, load: Load, messages: int, size: int) -> float:
        return self._allowance.spend(load, messages, size, asyncio.get_running_loop().time())
