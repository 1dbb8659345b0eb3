"""The other facilities, for AEs that an operator lets ask them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from peer.actors import Actor
from peer.dimse.archive import LOOK_S, Archive
from peer.index.conditions import StudyQuery
from peer.index.transfers import UNFINISHED, State
from peer.retrieve import Retrieval, Retrieve
from peer.search import Answer, KnownPrior, Question, Search
from protocol.errors import Refusal

UNREACHED_S: Final = 30.0
"""How long in all a study's facility may be out of reach while an AE waits for it; the study comes
all the same, and is here when the AE asks again."""


AT_ONCE: Final = 16
"""Requests that wait for other facilities at once, a quarter of the associations as shipped: each
holds one, and modalities must find room."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Searches and retrievals for an AE; every method blocks its thread."""

    archive: Archive
    rooms: Search
    retrieve: Retrieve
    waiting: threading.BoundedSemaphore = field(
        default_factory=partial(threading.BoundedSemaphore, AT_ONCE)
    )

    def search(self, question: Question, actor: Actor, look: Callable[[], None]) -> Answer:
        """Return what every facility has; what `look` raises meanwhile ends the search."""
        return self.archive.wait(self.rooms.search(question, actor), look)

    def fetch(
        self,
        study_instance_uid: str,
        wanted: StudyQuery,
        actor: Actor,
        look: Callable[[int], None],
    ) -> None:
        """Fetch a study that a search has listed from whoever has it, if anyone.

        Of another patient than `wanted` names it is not fetched.  `look` is told again and again
        how many instances are still to come; what it raises ends the waiting, and not the
        retrieval.  Raises Refusal: "not-fetched" if nobody gives it, "busy" if too many wait.
        """
        holders = self.archive.wait(self.rooms.holders(study_instance_uid))
        holders = [each for each in holders if _is_of(wanted, each)]
        if holders and not self.waiting.acquire(blocking=False):
            raise Refusal("busy", f"{AT_ONCE} requests wait for other facilities. Ask again.")
        try:
            reason = ""
            for prior in holders:
                begun = self.archive.wait(
                    self.retrieve.retrieve(prior.origin, study_instance_uid, actor)
                )
                ended = self._followed(begun, prior, look)
                if ended.state == State.COMPLETE:
                    return
                reason = ended.sentence
        finally:
            if holders:
                self.waiting.release()
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
            if now.state == State.WAITING:  # Not while it waits for its turn here.
                unreached += LOOK_S
            now = self.archive.wait(self.retrieve.status(now.retrieval_id))
        return now


def _is_of(wanted: StudyQuery, prior: KnownPrior) -> bool:
    """Whether a study is the patient's whom a request names, if it names one."""
    return not wanted.patient_id or any(
        each.value == wanted.patient_id and wanted.issuer in (None, "", each.issuer)
        for each in prior.patient.identifiers
    )
