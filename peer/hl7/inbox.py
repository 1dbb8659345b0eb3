"""The room: takes messages, each in one transaction, and keeps those that it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Conflict, NodeError, NotFound
from peer.hl7.answer import answer_to
from peer.hl7.kinds import Kinds
from peer.hl7.message import CONTROL_ID, Segment, read_header, read_message
from peer.hl7.refused import (
    DUPLICATE_KEY,
    INTERNAL,
    MESSAGE_TYPE,
    SEGMENT_SEQUENCE,
    Refused,
)
from peer.hl7.senders import Sender, Senders, sender_of
from peer.index import Database, Tx, final_reports, hl7
from peer.index.hl7 import Sent
from peer.logs import Seldom
from peer.patients import Patients
from peer.search import Prefetch
from protocol.errors import Refusal
from protocol.hashing import plain_hash

FORGET_S: Final = 3600
"""How often what was taken long ago is forgotten: the time it is remembered is days."""

AT_A_TIME: Final = 1000
"""Reports of long ago that are looked at in one go: other writes wait some milliseconds for it."""

KIND: Final = 32
"""Characters that are kept of a kind: code and event have three each."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as a connection has it.  `whole`: not cut off where it became too large."""

    block: bytes
    whole: bool = True


class Hl7:
    """Takes what senders send: an answer of AA says that it is durable."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        *,
        settings: Settings,
        patients: Patients,
        prefetch: Prefetch,
    ) -> None:
        self._db = db
        self._clock = clock
        self._settings = settings.hl7
        self._patients = patients
        self._prefetch = prefetch
        self._kinds = Kinds(patients, prefetch, clock, settings.hl7)
        self._faults = Seldom(settings.audit.fault_s)
        self._waiting = 0
        self._is_full = False
        self.senders = Senders(settings.hl7.senders, settings.ingest.default_issuer)

    async def run(self) -> None:
        """Forget what was taken long ago, until cancelled."""
        while True:
            try:
                await self._forget()
            except NodeError as error:
                _log.warning("hl7-not-forgotten", reason=type(error).__name__)
            await asyncio.sleep(FORGET_S)

    async def _forget(self) -> None:
        now, settings = self._clock.now(), self._settings

        def work(tx: Tx) -> None:
            hl7.forget(tx, now - settings.remembered_s)
            final_reports.forget(tx, now - settings.unlinked_s, now, AT_A_TIME)

        await self._db.write(work)
        await self._count()

    def warnings(self) -> Iterator[str]:
        """Yield what an operator should look at."""
        if self._waiting:
            yield (
                f"{self._waiting} HL7 message(s) were refused and wait for somebody to look: "
                "openpriors hl7 parked"
            )
        if self._is_full:
            yield (
                "Refused HL7 messages are kept no more, for want of room (hl7.max_parked, "
                "hl7.max_parked_each, hl7.max_parked_bytes): look through those that wait"
            )

    async def receive(self, arrived: Arrived, candidates: Sequence[Sender]) -> bytes:
        """Take a message that came from where `candidates` send; return what they are answered."""
        header, refused = None, None
        # Of bytes that name nobody it is known where they came from.
        sender: Sender | None = candidates[0]
        try:
            header = read_header(arrived.block)
            sender = None
            sender = sender_of(header, candidates)
            self._must_be_whole(arrived)
            await self._take(arrived.block, sender, again=False)
        except Refused as error:
            refused = error
            await self._refuse(arrived, header, sender, error)
        return answer_to(header, refused, self._clock.now())

    async def parked(self, limit: int) -> list[dict[str, Any]]:
        """Return the messages that wait, as the API shows them, the one that came first first."""
        return [asdict(row) for row in await self._db.read(lambda tx: hl7.parked(tx, limit))]

    async def retry(self, number: int, actor: Actor) -> dict[str, Any]:
        """Take a message that waits; raise NotFound, or Refusal with what is still wrong."""
        row, sent = await self._one(number)
        sender = self.senders.named(row.sender)
        if sender is None:
            raise Conflict("Its sender is in the table no more. Add it, or discard the message.")
        try:
            await self._take(sent.content, sender, again=True)
        except Refused as error:
            await self._on_record("failed", actor, sent, "tried again")
            remedy = "Correct what it says and retry, or discard the message."
            raise Refusal("hl7-refused", error.reason, remedy) from error
        await self._drop(number, actor, sent, "tried again")
        return asdict(row)

    async def discard(self, number: int, actor: Actor) -> dict[str, Any]:
        """Keep a message that waits no longer; raise NotFound."""
        row, sent = await self._one(number)
        await self._drop(number, actor, sent, "discarded")
        return asdict(row)

    # -- one message ------------------------------------------------------------------------------

    async def _take(self, block: bytes, sender: Sender, *, again: bool) -> None:
        """Do what a message says, in one transaction; raise Refused."""
        try:
            await self._db.write(lambda tx: self.take_in(tx, block, sender, again=again))
        except (NodeError, Refusal) as error:
            _log.warning("hl7-not-taken", reason=type(error).__name__)
            said = f"This node cannot take it now; send it again. {error}"
            raise Refused("AR", INTERNAL, said) from error
        except Refused:
            raise
        except Exception as error:  # A sender that gets no answer sends the same for ever.
            _log.exception("hl7-failed")
            said = "This node has failed at the message; its log has the place."
            raise Refused("AE", INTERNAL, said) from error
        await self._follow()

    async def _follow(self) -> None:
        """Do what follows a message that is durable; whatever fails there, it was taken."""
        try:
            self._prefetch.look()
            await self._count()
            await self._patients.changed()
        except Exception as error:  # noqa: BLE001  Publishing tries again by itself.
            _log.warning("hl7-not-followed", reason=type(error).__name__)

    def take_in(self, tx: Tx, block: bytes, sender: Sender, *, again: bool) -> None:
        """Do what a message says, in the caller's transaction; raise Refused.

        `again`: somebody here says that it is to be taken although another one has its control ID.
        """
        message = read_message(block, sender.settings.character_set)
        sent = _sent(block, sender, message.header)
        known = hl7.taken(tx, sender.name, message.control_id)
        if known == sent.hash and not again:
            return
        if known is not None and known != sent.hash and not again:
            raise Refused(
                "AE",
                DUPLICATE_KEY,
                "Another message with this control ID (MSH-10) was taken before. If both are to "
                "be taken, retry this one here.",
            )
        self._kinds.take(tx, message, sender)
        hl7.take(tx, sent, self._clock.now())

    def _must_be_whole(self, arrived: Arrived) -> None:
        if not arrived.whole:
            most = self._settings.max_message_bytes
            said = f"The message is larger than {most} bytes (hl7.max_message_bytes)."
            raise Refused("AR", SEGMENT_SEQUENCE, said)

    # -- what was refused -------------------------------------------------------------------------

    async def _refuse(
        self, arrived: Arrived, header: Segment | None, sender: Sender | None, error: Refused
    ) -> None:
        """Log that a message was refused, and keep it, unless it is a stranger's or cut off.

        One that is refused again and again is on record once.
        """
        who = "unknown" if sender is None else sender.name
        if self._faults.is_due((who, error.error), self._clock.now()):
            _log.warning("hl7-refused", code=f"{error.answer.lower()}-{error.error}")
        is_passing = isinstance(error.__cause__, NodeError | Refusal)
        is_no_use = (error.answer, error.error) == ("AR", MESSAGE_TYPE)
        if sender is None or not arrived.whole or is_passing or is_no_use:
            return
        sent = _sent(arrived.block, sender, header)
        now, settings = self._clock.now(), self._settings
        room = hl7.Room(settings.max_parked, settings.max_parked_each, settings.max_parked_bytes)

        def work(tx: Tx) -> int | None:
            times = hl7.park(
                tx,
                sent,
                answer=error.answer,
                error=error.error,
                reason=error.reason,
                now=now,
                room=room,
            )
            if times == 1:
                audit.append(tx, self._event("refused", sender.actor, sent, "parked"), now)
            return times

        try:
            if await self._db.write(work) is None:
                self._is_full = True
                if self._faults.is_due((who, "full"), now):
                    _log.warning("hl7-parked-full", sender=who)
            await self._count()
        except Exception as failure:  # noqa: BLE001  What it was refused for is told.
            _log.warning("hl7-not-parked", reason=type(failure).__name__)

    async def _count(self) -> None:
        """Count who waits; where fewer do than before there is room again."""
        before, self._waiting = self._waiting, await self._db.read(hl7.count)
        if self._waiting < before:
            self._is_full = False

    async def _one(self, number: int) -> tuple[hl7.ParkedRow, Sent]:
        found = await self._db.read(lambda tx: hl7.one(tx, number))
        if found is None:
            raise NotFound("No message of this number waits. List them to find it.")
        return found

    async def _drop(self, number: int, actor: Actor, sent: Sent, what: str) -> None:
        def work(tx: Tx) -> None:
            hl7.discard(tx, number)
            audit.append(tx, self._event("success", actor, sent, what), self._clock.now())

        await self._db.write(work)
        await self._count()

    async def _on_record(self, outcome: str, actor: Actor, sent: Sent, what: str) -> None:
        event = self._event(outcome, actor, sent, what)
        await self._db.write(lambda tx: audit.append(tx, event, self._clock.now()))

    def _event(self, outcome: str, actor: Actor, sent: Sent, what: str) -> AuditEvent:
        detail = {
            "sender": sent.sender,
            "control_id": sent.control_id,
            "kind": sent.kind,
            "what": what,
        }
        return AuditEvent("hl7", outcome, actor, detail=detail)


def _sent(block: bytes, sender: Sender, header: Segment | None) -> Sent:
    control_id, kind = "", ""
    if header is not None:
        control_id = header.text(10)[:CONTROL_ID]
        kind = "^".join(each for each in (header.text(9), header.text(9, 2)) if each)[:KIND]
    return Sent(sender.name, control_id, kind, plain_hash(block), block)
