"""The other facilities, for AEs that an operator lets ask them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from peer.actors import Actor
from peer.dimse.archive import LOOK_S, Archive
from peer.index.transfers import UNFINISHED, State
from peer.retrieve import Retrieval, Retrieve
from peer.search import Answer, KnownPrior, Question, Search
from protocol.errors import Refusal

UNREACHED_S: Final = 30.0
"""How long a facility may be out of reach while an AE waits for its study; it comes all the same,
and is here when the AE asks again."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Searches and retrievals for an AE; every method blocks its thread."""

    archive: Archive
    rooms: Search
    retrieve: Retrieve

    def search(self, question: Question, actor: Actor, look: Callable[[], None]) -> Answer:
        """Return what every facility has; what `look` raises meanwhile ends the search."""
        return self.archive.wait(self.rooms.search(question, actor), look)

    def fetch(self, study_instance_uid: str, actor: Actor, look: Callable[[int], None]) -> None:
        """Fetch a study that a search has listed from whoever has it, if anyone.

        `look` is told again and again how many instances are still to come; what it raises ends
        the waiting, and not the retrieval.  Raises Refusal "not-fetched" if nobody gives it.
        """
        reason = ""
        for prior in self.archive.wait(self.rooms.holders(study_instance_uid)):
            begun = self.archive.wait(
                self.retrieve.retrieve(prior.origin, study_instance_uid, actor)
            )
            ended = self._followed(begun, prior, look)
            if ended.state == State.COMPLETE:
                return
            reason = ended.sentence
        if reason:
            raise Refusal("not-fetched", reason)

    def _followed(
        self, now: Retrieval, prior: KnownPrior, look: Callable[[int], None]
    ) -> Retrieval:
        """Return a retrieval once it has ended, or has waited too long for its origin."""
        unreached = 0.0
        while now.state in UNFINISHED and unreached < UNREACHED_S:
            look(max(1, (now.row.instances or prior.digest.instances) - now.row.verified))
            self.archive.wait(asyncio.sleep(LOOK_S))
            unreached = unreached + LOOK_S if now.state == State.WAITING else 0.0
            now = self.archive.wait(self.retrieve.status(now.retrieval_id))
        return now
