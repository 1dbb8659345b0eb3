"""What is written down of a retrieval: how it ended, the receipt we sign, the audit record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import Literal

import structlog

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import NotFound
from peer.index import Database, Tx, studies, transfers
from peer.index.transfers import RetrievalRow, State
from peer.keys import NodeKeys
from peer.reciprocity import Reciprocity
from peer.retrieve.leave import Unreachable, asked
from protocol.errors import Refusal
from protocol.grant import DESTROYED, INCOMPLETE, RECEIPT_DOMAIN, VERIFIED, ReceiptBody
from protocol.identifiers import PeerId
from protocol.limits import PROTOCOL_VERSION, RECEIPT_MISSING
from protocol.messages import ReceiptMessage
from protocol.signing import sign
from protocol.statements import Statement, sign_statement

_log = structlog.get_logger()


class Ledger:
    """Writes endings, each in one transaction, and sees to it that origins get their receipts."""

    def __init__(
        self,
        db: Database,
        keys: NodeKeys,
        reciprocity: Reciprocity,
        clock: Clock,
        answer_s: float,
    ) -> None:
        self._db = db
        self._keys = keys
        self._reciprocity = reciprocity
        self._clock = clock
        self._answer_s = answer_s
        self._delivering = asyncio.Lock()

    async def wait(self, row: RetrievalRow, code: str, reason: str, remedy: str) -> None:
        """Note that a retrieval goes on by itself, and what it waits for."""
        now = self._clock.now()
        await self._db.write(
            lambda tx: transfers.set_state(
                tx, row.retrieval_id, State.WAITING, now, code, reason, remedy
            )
        )

    async def complete(self, row: RetrievalRow) -> None:
        """End a retrieval whose every instance was verified and is held.

        Raises NotFound if the study was purged meanwhile: nobody signs for what is not here.
        """
        await self._end(row, State.COMPLETE, self._receipt(row, VERIFIED, row.instances, ()), None)

    async def revoked(
        self, row: RetrievalRow, refusal: Refusal, lacking: Sequence[str] | None
    ) -> None:
        """End a retrieval whose origin took its leave back, after what had arrived is destroyed.

        `lacking`: what is not held, of a study of which an earlier version is; None if nothing is.
        Nobody signs that nothing is kept of a study that is held.
        """
        receipt = None
        if lacking is None:
            receipt = self._receipt(row, DESTROYED, 0, ())
        elif lacking:
            receipt = self._receipt(row, INCOMPLETE, row.instances - len(lacking), lacking)
        await self._end(row, State.REVOKED, receipt, refusal)

    async def refused(self, row: RetrievalRow, refusal: Refusal) -> None:
        """End a retrieval for which there never was a grant."""
        await self._end(row, State.REFUSED, None, refusal)

    async def failed(self, row: RetrievalRow, refusal: Refusal, missing: Sequence[str]) -> None:
        """End a retrieval otherwise; a grant that was used gets a receipt of what is `missing`."""
        receipt = None
        if missing and row.grant_id is not None:
            verified = row.instances - len(missing)
            receipt = self._receipt(row, INCOMPLETE, verified, missing)
        await self._end(row, State.FAILED, receipt, refusal)

    def _receipt(
        self, row: RetrievalRow, outcome: str, verified: int, missing: Sequence[str]
    ) -> ReceiptBody:
        return ReceiptBody(
            version=PROTOCOL_VERSION,
            author=self._keys.peer_id,
            addressee=row.origin,
            issued_at=self._clock.now(),
            grant_id=row.grant_id or b"",
            manifest_root=row.manifest_root or b"",
            outcome=outcome,
            instances=row.instances,
            verified=verified,
            missing=tuple(missing[:RECEIPT_MISSING]),
        )

    async def _end(
        self, row: RetrievalRow, state: str, receipt: ReceiptBody | None, why: Refusal | None
    ) -> None:
        now = self._clock.now()
        code, reason, remedy = ("", "", "") if why is None else (why.code, why.reason, why.remedy)
        detail: dict[str, str | int] = {} if why is None else {"code": code, "reason": reason}

        def work(tx: Tx) -> None:
            if state == State.COMPLETE and studies.get(tx, row.study_instance_uid) is None:
                raise NotFound("It was removed here while its retrieval came to its end.")
            transfers.set_state(tx, row.retrieval_id, state, now, code, reason, remedy)
            transfers.forget_packs(tx, row.retrieval_id)
            if receipt is None:
                outcome: str = "refused" if state == State.REFUSED else "failed"
                record(tx, row, "retrieve", outcome, now, detail)
                return
            statement = sign_statement(self._keys.node_seed, RECEIPT_DOMAIN, receipt)
            transfers.put_own_receipt(tx, row.retrieval_id, statement, receipt.verified)
            detail.update({"outcome": receipt.outcome, "says": receipt.sentence()})
            whole: str = "success" if state == State.COMPLETE else "failed"
            record(tx, row, "receipt", whole, now, {"grant": receipt.grant_id.hex(), **detail})

        await self._db.write(work)

    async def deliver(self, peer_id: PeerId) -> None:
        """Send an origin every receipt that it has not confirmed; what fails is tried again."""
        async with self._delivering:
            rows = await self._db.read(lambda tx: transfers.owed_receipts(tx, peer_id))
            for row in rows:
                if row.receipt is None:
                    continue
                # By the node key of today: it may have waited longer than the key that signed it.
                payload = row.receipt.payload
                signed = Statement(payload, sign(self._keys.node_seed, RECEIPT_DOMAIN, payload))
                try:
                    await asked(self._reciprocity, peer_id, ReceiptMessage(signed), self._answer_s)
                except Unreachable:
                    return
                except Refusal as refusal:
                    _log.warning("receipt-refused", partner=peer_id.hex(), code=refusal.code)
                    continue
                delivered = partial(
                    transfers.receipt_delivered,
                    retrieval_id=row.retrieval_id,
                    now=self._clock.now(),
                )
                await self._db.write(delivered)


def record(
    tx: Tx,
    row: RetrievalRow,
    action: Literal["retrieve", "receipt"],
    outcome: str,
    now: int,
    detail: dict[str, str | int],
) -> None:
    """Put what happened to a retrieval on record."""
    event = AuditEvent(
        action=action,
        outcome=outcome,
        actor=read_actor(row.actor),
        study_instance_uid=row.study_instance_uid,
        partner=row.origin,
        detail={"retrieval": row.retrieval_id.hex(), **detail},
    )
    audit.append(tx, event, now)


def write_actor(actor: Actor) -> str:
    """Return an actor of this facility as it is kept beside a retrieval."""
    return json.dumps([actor.name, actor.kind, sorted(actor.roles), actor.purpose, actor.pseudonym])


def read_actor(text: str) -> Actor:
    """Return the actor that `write_actor` wrote."""
    name, kind, roles, purpose, pseudonym = json.loads(text)
    return Actor(name, kind, frozenset(roles), purpose, None, pseudonym)
