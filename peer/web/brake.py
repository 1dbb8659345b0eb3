"""Slows down whoever presents false credentials."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from peer.config import People

FIRST_DELAY_S: Final = 0.1
"""Unnoticed by someone who mistypes."""

SOURCES: Final = 1024
"""Addresses remembered, the latest to fail: bounds what an attacker can make the node hold."""


class Brake:
    """Delays the answer to a failure, twice as long after each, for each source address.

    A delay makes guessing pointless, and must not pile up connections: `people.max_delay_s`.
    """

    def __init__(self, settings: People) -> None:
        self._settings = settings
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def delay_s(self, source: str, now: float) -> float:
        """Note a failure at `now` (seconds, monotonic) and return how long to wait, in seconds."""
        count, last = self._failures.pop(source, (0, now))
        if now - last > self._settings.forgiven_s:
            count = 0
        self._failures[source] = (count + 1, now)
        while len(self._failures) > SOURCES:
            self._failures.popitem(last=False)
        # The exponent is bounded, or the power would overflow after a thousand failures.
        return min(FIRST_DELAY_S * 2.0 ** min(count, 16), self._settings.max_delay_s)

    async def failed(self, source: str) -> None:
        """Wait as long as this failure of `source` deserves."""
        await asyncio.sleep(self.delay_s(source, asyncio.get_running_loop().time()))
