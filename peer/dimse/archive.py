"""What the threads of the DICOM network ask of the node, on its event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from peer.access import Access, Permit
from peer.actors import Actor
from peer.audit import Audit, AuditEvent
from peer.index import Database, Tx
from protocol.errors import Refusal

Answer = TypeVar("Answer")

ReadInstance: TypeAlias = Callable[[Permit, str], Awaitable[bytes]]

LOOK_S: Final = 0.25
"""How often it is looked whether the asker has gone, and how far a study has come."""

ANSWER_S: Final = 60.0
"""Longest wait for the node itself: a page of the index or an instance takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The rooms that a query or a retrieval needs; every method but `run` blocks its thread."""

    db: Database
    audit: Audit
    access: Access
    read_instance: ReadInstance
    """Returns the bytes of an instance exactly as they were stored."""
    loop: asyncio.AbstractEventLoop

    def wait(
        self, work: Coroutine[Any, Any, Answer], look: Callable[[], None] | None = None
    ) -> Answer:
        """Return what `work` does on the event loop; raise Refusal "busy" if it takes too long.

        `look` is called now and then while it runs; what that raises ends it.
        """
        running = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            if look is not None:
                _look_on(running, look)
            return running.result(ANSWER_S)
        except (concurrent.futures.CancelledError, TimeoutError):
            running.cancel()
            raise Refusal("busy", "The node is too busy or stops. Ask again.") from None
        except BaseException:
            running.cancel()
            raise

    def read(self, work: Callable[[Tx], Answer]) -> Answer:
        """Return what `work` finds in the index."""
        return self.wait(self.db.read(work))

    def record(self, event: AuditEvent) -> None:
        """Put on record what is about to be done."""
        self.wait(self.audit.record(event))

    def permit(self, study_instance_uid: str, actor: Actor, what: str) -> Permit:
        """Return leave to read a study; raise NotFound or Refusal."""
        return self.wait(self.access.permit_local(study_instance_uid, actor, what))

    def content(self, permit: Permit, sop_instance_uid: str) -> bytes:
        """Return an instance as it was stored; raise NotFound, Refusal or Damaged."""

        async def read() -> bytes:
            return await self.read_instance(permit, sop_instance_uid)

        return self.wait(read())


def _look_on(running: concurrent.futures.Future[Answer], look: Callable[[], None]) -> None:
    """Call `look` now and then until `running` is done, or has taken too long."""
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        done, _ = concurrent.futures.wait([running], LOOK_S)
        if done:
            return
        look()
