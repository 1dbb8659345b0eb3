"""How often one person or program here searches other facilities in an hour.

Whoever guesses patients does it under one name; a day's figure of the agreement would be used up by
that one name, and nobody else could search.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from peer.actors import Actor
from peer.clock import Clock
from peer.index import Database, Tx, searches
from protocol.errors import Refusal
from protocol.quota import QUOTA
from protocol.reciprocity import breaks_glass

HOUR_S: Final = 3600
MINUTE_S: Final = 60


class Pace:
    """Counts searches of other facilities; `most`: in any hour, of whoever has no own limit."""

    def __init__(self, db: Database, clock: Clock, most: int) -> None:
        self._db = db
        self._clock = clock
        self._most = most

    async def take(self, actor: Actor) -> Refusal | None:
        """Count a search that is about to be made; return why nobody is asked for it, or None.

        Breaking the glass is counted and always passes.  What is not asked does not count.
        """
        now, most = self._clock.now(), self._limit(actor)

        def work(tx: Tx) -> Refusal | None:
            made = searches.since(tx, _who(actor), now - HOUR_S)
            if len(made) >= most and not breaks_glass(actor.purpose):
                return _too_many(most, made[-most] + HOUR_S)
            searches.note(tx, _who(actor), now, now - HOUR_S)
            return None

        return await self._db.write(work)

    async def has_room(self, actor: Actor) -> bool:
        """Return whether less than half is used: the other half is for what cannot wait."""
        now = self._clock.now()
        made = await self._db.read(lambda tx: searches.since(tx, _who(actor), now - HOUR_S))
        return 2 * len(made) < self._limit(actor)

    def _limit(self, actor: Actor) -> int:
        return self._most if actor.per_hour is None else actor.per_hour


def _who(actor: Actor) -> str:
    """Return under what searches are counted: a person and a program may bear one name."""
    return f"{actor.kind} {actor.name}"


def _too_many(most: int, until: int) -> Refusal:
    at = datetime.fromtimestamp(-(-until // MINUTE_S) * MINUTE_S, UTC)
    return Refusal(
        QUOTA,
        f"you have searched {most} times in an hour, and can again from {at:%H:%M} UTC on",
        "Search again then, or with emergency access if the patient cannot wait.",
    )
