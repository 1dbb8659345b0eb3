"""Bringing partners what they have not confirmed: notices, and acknowledgements of theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from peer import audit
from peer.access import Access
from peer.actors import NODE
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Notify
from peer.errors import NodeError
from peer.index import Database, Tx, notices
from peer.index.notices import Sent
from peer.keys import NodeKeys
from peer.link import Links
from peer.notify.signing import sign_acknowledgement, sign_notice
from peer.partners import Partner, Partners
from protocol.errors import Refusal
from protocol.identifiers import PeerId

_log = structlog.get_logger()


class Delivery:
    """Empties the outbox: what waits is tried again every `notify.retry_s`."""

    def __init__(
        self,
        *,
        db: Database,
        keys: NodeKeys,
        access: Access,
        partners: Partners,
        links: Links,
        clock: Clock,
        settings: Notify,
    ) -> None:
        self._db = db
        self._keys = keys
        self._access = access
        self._partners = partners
        self._links = links
        self._clock = clock
        self._settings = settings
        self._due: set[PeerId] = set()
        self._is_due = asyncio.Event()

    def soon(self, peer_id: PeerId) -> None:
        """Have a partner brought what waits for it."""
        self._due.add(peer_id)
        self._is_due.set()

    async def run(self) -> None:
        """Deliver now, whenever it is `soon`, and from time to time; until cancelled."""
        self._due.update(partner.peer_id for partner in self._partners.active())
        while True:
            due, self._due = self._due, set()
            try:
                await asyncio.gather(*(self._deliver(peer_id) for peer_id in due))
            except NodeError as error:  # A full disk, for one: it is tried again.
                _log.warning("notices-interrupted", error=type(error).__name__)
            if not await is_set(self._is_due, self._settings.retry_s):
                self._due.update(partner.peer_id for partner in self._partners.active())

    async def _deliver(self, peer_id: PeerId) -> None:
        """Bring a partner what it has not confirmed: notices first, then acknowledgements."""
        partner = self._partners.get(peer_id)
        if partner is None or not partner.active:
            return
        waiting, owed = await self._db.read(
            lambda tx: (notices.undelivered(tx, peer_id), notices.owed(tx, peer_id))
        )
        for notice in waiting:
            if await self._given_up(notice, partner):
                continue
            note = partial(notices.delivered, notice_id=notice.notice_id, now=self._clock.now())
            if not await self._bring(partner, sign_notice(self._keys, notice, partner), note):
                return
        for seen in owed:
            note = partial(
                notices.acknowledgement_delivered,
                notice_id=seen.notice_id,
                partner=peer_id,
                now=self._clock.now(),
            )
            if not await self._bring(
                partner, sign_acknowledgement(self._keys, seen, self._clock.now()), note
            ):
                return

    async def _given_up(self, notice: Sent, partner: Partner) -> bool:
        """Decide again; give the notice up, on record, if it would not be written now."""
        for study in notice.content.studies:
            ask = partial(self._access.objection, partner=partner, purpose=notice.purpose)
            refusal = await self._db.read(partial(ask, study_instance_uid=study.study_instance_uid))
            if refusal is not None:
                await self._db.write(partial(_give_up, notice, refusal.reason, self._clock.now()))
                return True
        return False

    async def _bring(self, partner: Partner, message: object, note: Callable[[Tx], None]) -> bool:
        """Send one message and note that it arrived; return whether the partner can be reached."""
        try:
            await self._links.request(partner.peer_id, message, self._settings.deliver_s)
        except Refusal as refusal:
            _log.warning("notice-refused", partner=partner.peer_id.hex(), code=refusal.code)
            return True
        except (NodeError, TimeoutError):
            return False
        await self._db.write(note)
        return True


async def is_set(event: asyncio.Event, within_s: float) -> bool:
    """Wait for an event and clear it; return False if it is not set within that time."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True


def _give_up(notice: Sent, reason: str, now: int, tx: Tx) -> None:
    notices.refuse(tx, notice.notice_id, reason)
    detail = {"notice": notice.notice_id.hex(), "reason": reason}
    event = AuditEvent("notify", "refused", NODE, partner=notice.partner, detail=detail)
    audit.append(tx, event, now)
