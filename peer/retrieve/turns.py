"""Whose turn it is to fetch: so many studies at once, and whoever is in an emergency at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from protocol.consent import PurposeOfUse

EMERGENCIES: Final = frozenset({PurposeOfUse.ETREAT, PurposeOfUse.BTG})
"""Purposes of use for which someone may die while others are served first."""


def is_urgent(purpose: str) -> bool:
    """Whether a retrieval for this purpose overtakes the others."""
    return purpose in EMERGENCIES


class Turns:
    """Turns to fetch a study: `at_once` for ordinary retrievals, and as many more for emergencies.

    While an emergency has a turn the others pause between two parts (`give_way`), so that it has
    the whole line; they lose nothing of what they have.
    """

    def __init__(self, at_once: int) -> None:
        self._ordinary = asyncio.Semaphore(at_once)
        self._urgent = asyncio.Semaphore(at_once)
        self._emergencies = 0
        self._calm = asyncio.Event()
        self._calm.set()

    @asynccontextmanager
    async def turn(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for a turn, and have it for as long as the context lasts."""
        async with self._urgent if urgent else self._ordinary:
            self._begin(urgent)
            try:
                yield
            finally:
                self._end(urgent)

    def _begin(self, urgent: bool) -> None:  # noqa: FBT001 - as in `turn`
        self._emergencies += urgent
        if self._emergencies:
            self._calm.clear()

    def _end(self, urgent: bool) -> None:  # noqa: FBT001 - as in `turn`
        self._emergencies -= urgent
        if not self._emergencies:
            self._calm.set()

    async def give_way(self, *, urgent: bool) -> None:
        """Return when a retrieval may go on: an urgent one at once."""
        if not urgent:
            await self._calm.wait()
