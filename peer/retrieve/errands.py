"""Retrievals under way: each is tried until it has ended, one way or another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeAlias

import structlog

from peer.errors import NodeError
from peer.index import Database, transfers
from peer.index.transfers import RetrievalRow, State
from peer.partners import Partners
from peer.retrieve.arriving import Arriving
from peer.retrieve.leave import Promise, Unreachable
from peer.retrieve.ledger import Ledger, read_actor
from peer.retrieve.pace import NotNow, Pace
from peer.retrieve.recipient import Attempt, Recipient
from peer.retrieve.repair import NotMended
from peer.retrieve.turns import Turns, is_urgent
from protocol.digest import StudyDigest
from protocol.errors import Refusal, RemoteProtocolError
from protocol.identifiers import PeerId
from protocol.quota import QUOTA
from protocol.reciprocity import is_mended_by_exchange

LOOK_S: Final = 0.02
"""How often it is looked whether the origin has given leave: nobody notices so short a time."""

LIMITED: Final = "limited"
"""The code of what waits because nothing may be fetched at this time of the day."""

WRONG_CONTENT: Final = "wrong-content"
"""How ingest refuses a study that is not what its manifest says."""

_STUCK: Final = (
    "The node could not record how this retrieval ended ({}). It is tried again by itself; look at "
    "the room on the disk and at the node's log."
)

_log = structlog.get_logger()


class Prior(Protocol):
    """A partner's study that a search has listed."""

    @property
    def digest(self) -> StudyDigest:
        """What it is said to be."""


PriorLookup: TypeAlias = Callable[[PeerId, str], Awaitable[Prior | None]]
"""What an opened digest says of a study at an origin: `Search.prior`."""


@dataclass(slots=True)
class _Errand:
    row: RetrievalRow
    task: asyncio.Task[None]
    attempt: Attempt | None = None
    """The one that is made now."""
    waits: bool = False
    """Whether no attempt is made now: its origin cannot be reached, or it is not its time."""
    ends: bool = False
    """Whether this attempt has come to an end that is about to be recorded."""
    stuck: str = ""
    """Why not even its end could be recorded; it is tried again."""


class Errands:
    """Begins, interrupts and goes on with retrievals.  `retry_s`: how long one waits to go on."""

    def __init__(
        self,
        *,
        db: Database,
        partners: Partners,
        ledger: Ledger,
        recipient: Recipient,
        turns: Turns,
        pace: Pace,
        prior: PriorLookup,
        retry_s: float,
    ) -> None:
        self._db = db
        self._partners = partners
        self._ledger = ledger
        self._recipient = recipient
        self._turns = turns
        self._pace = pace
        self._prior = prior
        self._retry_s = retry_s
        self._errands: dict[bytes, _Errand] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._woken: dict[PeerId, asyncio.Event] = {}

    # -- from outside -----------------------------------------------------------------------
    def start(self, row: RetrievalRow) -> None:
        """Go on with a retrieval, unless it has ended or is gone on with already."""
        if row.finished or row.retrieval_id in self._errands:
            return
        task = asyncio.create_task(self._see_through(row))
        self._errands[row.retrieval_id] = _Errand(row, task)
        task.add_done_callback(lambda _: self._errands.pop(row.retrieval_id, None))
        task.add_done_callback(_tell_of_failure)

    async def interrupt(self, row: RetrievalRow) -> None:
        """End what is fetched of a retrieval now; what has arrived is noted."""
        errand = self._errands.get(row.retrieval_id)
        if errand is not None and not (errand.attempt and errand.attempt.arrived):
            errand.task.cancel()
            await asyncio.wait([errand.task])

    def connected(self, peer_id: PeerId) -> None:
        """Go on with whatever waits for a partner that can be reached now."""
        self.wake(peer_id)
        task = asyncio.create_task(self._ledger.deliver(peer_id))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        task.add_done_callback(_tell_of_failure)

    def wake(self, peer_id: PeerId) -> None:
        """Have what waits for a partner tried again at once."""
        self._woken.setdefault(peer_id, asyncio.Event()).set()

    def task(self, retrieval_id: bytes) -> asyncio.Task[None] | None:
        """Return what sees a retrieval through, None if nothing does any more."""
        errand = self._errands.get(retrieval_id)
        return None if errand is None else errand.task

    def viewable(self, retrieval_id: bytes) -> bool:
        """Whether a retrieval has come so far that its study can be looked at."""
        errand = self._errands.get(retrieval_id)
        return (
            errand is not None
            and errand.attempt is not None
            and errand.attempt.arriving is not None
        )

    async def arriving(self, study_instance_uid: str, within_s: float) -> Arriving | None:
        """Return a study that is on its way now; wait so long for its origin's leave.

        None at once if nothing is tried to get it now.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            made = [
                each
                for each in self._errands.values()
                if each.row.study_instance_uid == study_instance_uid and not self._rests(each)
            ]
            for each in made:
                if each.attempt is not None and each.attempt.arriving is not None:
                    return each.attempt.arriving
            tasks = [each.task for each in made]
            if not tasks or loop.time() >= until:
                return None
            await asyncio.wait(tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)

    def _rests(self, errand: _Errand) -> bool:
        return errand.waits and not self._woken[errand.row.origin].is_set()

    async def waiting(self, study_instance_uid: str) -> str | None:
        """Return why a study does not come now that comes by itself later, None if none does."""
        for errand in tuple(self._errands.values()):
            if errand.row.study_instance_uid == study_instance_uid:
                row = self.seen(await self.current(errand.row))
                if row.state == State.WAITING:
                    return row.reason
        return None

    def seen(self, row: RetrievalRow) -> RetrievalRow:
        """Return a row as it is by now: its progress is noted now and then."""
        errand = self._errands.get(row.retrieval_id)
        if errand is not None and errand.stuck:
            return replace(row, state=State.WAITING, code="failed", reason=errand.stuck)
        if errand is None or errand.attempt is None or errand.attempt.transfer is None:
            return row
        return replace(row, bytes_verified=errand.attempt.transfer.bytes_verified)

    async def current(self, row: RetrievalRow) -> RetrievalRow:
        """Return a row as it is on record by now."""
        found = await self._db.read(lambda tx: transfers.retrieval(tx, row.retrieval_id))
        return row if found is None else found

    async def close(self) -> None:
        """Stop; what has arrived is noted and goes on at the next start."""
        under_way = [*(each.task for each in self._errands.values()), *self._deliveries]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    # -- one errand -------------------------------------------------------------------------
    async def _see_through(self, row: RetrievalRow) -> None:
        errand = self._errands[row.retrieval_id]
        woken = self._woken.setdefault(row.origin, asyncio.Event())
        while True:
            woken.clear()
            async with self._turns.turn(urgent=urgent(row)):
                if await self._attempt(row):
                    break
            errand.waits = True
            with suppress(TimeoutError):
                async with asyncio.timeout(self._retry_s):
                    await woken.wait()
            errand.waits = False
        await self._ledger.deliver(row.origin)

    async def _attempt(self, row: RetrievalRow) -> bool:
        """Make one attempt, whatever comes of it; return whether the retrieval has ended."""
        errand = self._errands[row.retrieval_id]
        try:
            errand.stuck, errand.ends = "", False
            try:
                return await self._try(row)
            except Exception as error:  # Nothing may leave it "fetching" for ever.
                if errand.ends and isinstance(error, NodeError):
                    raise  # It has no other end for that: it comes to the same one again.
                _log.error("retrieval-interrupted", exc_info=error)
                await self._end_failed(row, None, _unforeseen(error))
                return True
        except Exception as error:  # noqa: BLE001 - nor may an ending that could not be recorded
            _log.error("retrieval-interrupted", exc_info=error)
            errand.stuck = _STUCK.format(type(error).__name__)
            return False

    async def _try(self, row: RetrievalRow) -> bool:
        """Make one attempt; return whether the retrieval has ended with it."""
        errand = self._errands[row.retrieval_id]
        attempt: Attempt | None = None
        try:
            if not urgent(row):
                self._pace.check(row.origin)
            attempt = errand.attempt = await self._begin(row)
            await self._recipient.carry_out(attempt)
            await self._ledger.complete(await self.current(row))
        except NotNow as error:
            if (await self.current(row)).code != LIMITED:
                remedy = "It goes on by itself; an operator can change transfer.limits."
                await self._ledger.wait(row, LIMITED, str(error), remedy)
            return False
        except Unreachable:
            name = self._partners.name(row.origin)
            await self._ledger.wait(
                row,
                "not-connected",
                f"{name} cannot be reached now; the retrieval goes on by itself when it can.",
                "See the list of partners for the state of the connection.",
            )
            return False
        except Refusal as refusal:
            if is_mended_by_exchange(refusal.code) or refusal.code == QUOTA:
                await self._ledger.wait(row, refusal.code, refusal.reason, refusal.remedy)
                return False
            await self._end_refused(row, attempt, refusal)
        except (RemoteProtocolError, NodeError) as error:
            await self._end_failed(row, attempt, error)
        finally:
            errand.attempt = None
        return True

    async def _begin(self, row: RetrievalRow) -> Attempt:
        partner = self._partners.trusted(row.origin)
        promise = await self._promise(row)
        current = await self.current(row)
        return Attempt(row, read_actor(current.actor), partner, promise)

    async def _promise(self, row: RetrievalRow) -> Promise:
        """Return what the digest promises now; what it did before, once there was a grant.

        A digest is hidden when its origin has been silent for long, as well as when it is
        withdrawn: of a study that was granted before, the origin itself says which it is.
        """
        prior = await self._prior(row.origin, row.study_instance_uid)
        if prior is not None:
            digest = prior.digest
            return Promise(digest.retrieve_handle, digest.manifest_root, digest.manifest_version)
        known = await self.current(row)
        if known.retrieve_handle is not None and known.manifest_root is not None:
            return Promise(known.retrieve_handle, known.manifest_root, known.manifest_version)
        raise Refusal(
            "not-published",
            "No study of this UID is published to this facility by that partner now.",
            "Search for the patient again; then ask the partner.",
        )

    async def _end_refused(
        self, row: RetrievalRow, attempt: Attempt | None, refusal: Refusal
    ) -> None:
        """End with the origin's "no"; what had arrived under an earlier grant is destroyed."""
        self._errands[row.retrieval_id].ends = True
        if refusal.code == WRONG_CONTENT:
            await self._end_failed(row, attempt, refusal)
            return
        await self._recipient.destroy(row)
        current = await self.current(row)
        if current.grant_id is None:
            await self._ledger.refused(current, refusal)
        else:
            lacking = await self._recipient.lacking(current, attempt)
            await self._ledger.revoked(current, refusal, lacking)

    async def _end_failed(
        self, row: RetrievalRow, attempt: Attempt | None, error: Exception
    ) -> None:
        code = error.code if isinstance(error, (Refusal, RemoteProtocolError)) else "failed"
        _log.warning("retrieval-failed", retrieval=row.retrieval_id.hex(), code=code)
        if isinstance(error, NotMended):
            missing, reason = list(error.missing), str(error)
        else:
            missing = await self._recipient.missing(await self.current(row), attempt)
            held = await self._recipient.holds(row)
            kept = "The study is held as it was" if held else "The study was not kept"
            reason = f"{kept}: {error}"
        await self._recipient.destroy(row)
        current = await self.current(row)
        if missing:
            total = current.instances
            reason = f"{total - len(missing)}/{total} instances verified. {reason}"
        why = Refusal(code, reason, "Try again; if it persists, tell the partner's operator.")
        await self._ledger.failed(current, why, missing)


def _unforeseen(error: Exception) -> NodeError:
    return NodeError(
        f"The node failed while it retrieved the study ({type(error).__name__}); this is a fault "
        "of the software, and its log names it."
    )


def urgent(row: RetrievalRow) -> bool:
    """Whether a retrieval overtakes the others."""
    return is_urgent(read_actor(row.actor).purpose)


def _tell_of_failure(task: asyncio.Task[None]) -> None:
    """Log what ended a task that should have dealt with it; the next start goes on from there."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("retrieval-interrupted", exc_info=error)
