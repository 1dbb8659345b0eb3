"""One C-STORE: its data set is taken in as it comes, and answered when it is durable."""

from __future__ import annotations

import asyncio
import concurrent.futures
from dataclasses import dataclass
from typing import Final

from peer.actors import Actor
from peer.dicom import file_meta
from peer.dimse.commands import Command
from peer.dimse.statuses import (
    CANNOT_UNDERSTAND,
    DATA_SET_MISMATCH,
    DUPLICATE,
    ERROR_COMMENT_CHARACTERS,
    NOT_AUTHORISED,
    OUT_OF_RESOURCES,
    SUCCESS,
)
from peer.ingest import Ingest, Outcome, Share
from protocol.errors import Refusal

STATUSES: Final = {
    "conflict": DUPLICATE,
    "not-allowed": NOT_AUTHORISED,
    "no-space": OUT_OF_RESOURCES,
    "disk-error": OUT_OF_RESOURCES,
    "oversized": OUT_OF_RESOURCES,
    "busy": OUT_OF_RESOURCES,
    "late": OUT_OF_RESOURCES,
    "missing-uid": DATA_SET_MISMATCH,
    "invalid-uid": DATA_SET_MISMATCH,
    "uid-mismatch": DATA_SET_MISMATCH,
}
"""Status of C-STORE for a refusal (PS3.4 table B.2-1, PS3.7 annex C); what is not named here could
not be understood."""

NOT_ALLOWED: Final = Outcome(
    "refused", "not-allowed", "This AE title may not store here from this address."
)
LATE: Final = Outcome("refused", "late", "Not stored in time. Send it again.")


@dataclass(frozen=True, slots=True)
class Keeper:
    """Where instances go, from a thread: the node's ingest, which runs in its event loop."""

    ingest: Ingest
    loop: asyncio.AbstractEventLoop
    timeout_s: int


class Storing:
    """A C-STORE request whose data set is coming.  Lives in the thread of its association.

    What cannot be kept is dropped as it comes, so that the caller can be answered.
    """

    def __init__(
        self, keeper: Keeper, request: Command, transfer_syntax: str, actor: Actor | None
    ) -> None:
        self.request = request
        self._keeper = keeper
        self._actor = actor
        self._share: Share = keeper.ingest.memory.share()
        self._incoming = keeper.ingest.incoming()
        if actor is None:
            self._incoming.refuse(NOT_ALLOWED)
            return
        names = (request.sop_class_uid, request.sop_instance_uid, transfer_syntax)
        self.add(memoryview(file_meta(*names)))

    def add(self, fragment: memoryview) -> None:
        """Take the next fragment of the data set."""
        try:
            more = self._incoming.room(len(fragment))
            if more:
                self._share.grow_blocking(more)
        except Refusal as refusal:
            self._incoming.refuse(Outcome("refused", refusal.code, refusal.reason))
        if self._incoming.add(fragment):
            self._incoming.flush()
        if self._incoming.is_refused:
            self._share.give_back()

    def finish(self) -> tuple[int, str]:
        """Return status and comment once the instance is durable, or why it is not kept."""
        try:
            outcome = self._kept()
        finally:
            self.close()
        if outcome.status != "refused":
            return SUCCESS, ""
        status = STATUSES.get(outcome.code, CANNOT_UNDERSTAND)
        return status, outcome.reason[:ERROR_COMMENT_CHARACTERS]

    def close(self) -> None:
        """Give everything back that is held."""
        self._incoming.drop()
        self._share.give_back()

    def _kept(self) -> Outcome:
        taken = self._incoming.take()
        if isinstance(taken, Outcome) or self._actor is None:
            return taken if isinstance(taken, Outcome) else NOT_ALLOWED
        named = self.request.sop_instance_uid
        storing = self._keeper.ingest.store_from_thread(
            taken, self._actor, "dimse", named, self._keeper.loop
        )
        try:
            (outcome,) = storing.result(self._keeper.timeout_s)
        except (concurrent.futures.CancelledError, TimeoutError):
            return LATE
        return outcome
