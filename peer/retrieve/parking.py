"""Where retrievals stand that did not come, each with its reason, until somebody deals with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from peer.actors import Actor
from peer.clock import Clock
from peer.errors import NotFound
from peer.index import Database, Tx, transfers
from peer.index.transfers import RetrievalRow
from peer.retrieve.ledger import record, write_actor
from peer.retrieve.status import Retrieval
from protocol.identifiers import PeerId


class Parking:
    """The retrievals that did not come.  `listed`: most of them in one answer."""

    def __init__(
        self, db: Database, clock: Clock, name_of: Callable[[PeerId], str], listed: int
    ) -> None:
        self._db = db
        self._clock = clock
        self._name_of = name_of
        self._listed = listed

    async def list(self) -> Sequence[Retrieval]:
        """Return them, the one that ended last first."""
        rows = await self._db.read(lambda tx: transfers.parked(tx, self._listed))
        return [Retrieval(row, self._name_of(row.origin)) for row in rows]

    async def get(self, retrieval_id: bytes) -> RetrievalRow:
        """Return one of them; raise NotFound."""
        row = await self._db.read(lambda tx: transfers.parked_one(tx, retrieval_id))
        if row is None:
            raise _not_parked()
        return row

    async def take_off(self, retrieval_id: bytes, actor: Actor) -> None:
        """Take one off the list, on record; its receipt stays.  Raises NotFound."""
        now = self._clock.now()

        def work(tx: Tx) -> None:
            row = transfers.parked_one(tx, retrieval_id)
            if row is None:
                raise _not_parked()
            transfers.unpark(tx, retrieval_id, now)
            theirs = replace(row, actor=write_actor(actor))
            record(tx, theirs, "retrieve", "success", now, {"removed": "from the list"})

        await self._db.write(work)


def _not_parked() -> NotFound:
    return NotFound("No retrieval of this id stands among those that did not come.")
