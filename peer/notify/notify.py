"""The room: a durable outbox, an inbox, acknowledgements, and the facility's own webhook."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from peer import audit
from peer.access import Access
from peer.actors import Actor, known_as, someone_at
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import NodeError, NotFound
from peer.index import Database, Tx, new_priors, notices, patients, studies
from peer.index.notices import Received, Sent
from peer.keys import NodeKeys
from peer.link import Links
from peer.notify.delivery import Delivery, is_set
from peer.notify.notice import Notice, received_notice, sent_notice
from peer.notify.webhook import NotTaken, Webhook
from peer.partners import Partner, Partners
from protocol.errors import Refusal
from protocol.identifiers import PeerId
from protocol.limits import NOTICE_STUDIES
from protocol.messages import Notice as NoticeMessage
from protocol.messages import NoticeAcknowledged
from protocol.notice import (
    AcknowledgementBody,
    NoticeBody,
    NoticeContent,
    NoticeStudy,
    open_acknowledgement,
    open_content,
    open_notice,
)

NOTICE_ID_BYTES: Final = 16

DATE_CHARACTERS: Final = 8
NAME_CHARACTERS: Final = 256
SENTENCE_CHARACTERS: Final = 1024
"""What a notice has room for; a header may hold longer texts."""

_log = structlog.get_logger()


class Notify:
    """Sends notices to partners and keeps what they send."""

    def __init__(
        self,
        *,
        db: Database,
        keys: NodeKeys,
        access: Access,
        partners: Partners,
        links: Links,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._db = db
        self._keys = keys
        self._access = access
        self._partners = partners
        self._clock = clock
        self._listed = settings.lists.notices
        self._retry_s = settings.notify.retry_s
        self._webhook = Webhook.configured(settings)
        self._delivery = Delivery(
            db=db,
            keys=keys,
            access=access,
            partners=partners,
            links=links,
            clock=clock,
            settings=settings.notify,
        )
        self._post_due = asyncio.Event()
        links.handle(NoticeMessage, self.receive)
        links.handle(NoticeAcknowledged, self.receive_acknowledgement)
        links.on_connected(self._delivery.soon)

    # -- what people do ---------------------------------------------------------------------
    async def send(
        self, peer_id: PeerId, study_instance_uids: Sequence[str], actor: Actor, message: str = ""
    ) -> Notice:
        """Put a notice about one patient's studies into the outbox; it is delivered from there.

        Raises Refusal if the patient's consent does not let the partner know of a study, or if the
        studies are of several patients; NotFound.
        """
        partner = self._partners.trusted(peer_id)
        uids = tuple(dict.fromkeys(study_instance_uids))
        if not 0 < len(uids) <= NOTICE_STUDIES:
            raise Refusal(
                "too-many-studies",
                f"A notice is about 1 to {NOTICE_STUDIES} studies.",
                "Send several notices.",
            )
        now = self._clock.now()

        def work(tx: Tx) -> Sent:
            content, patient = self._content(tx, uids, partner, actor, message)
            notice_id = secrets.token_bytes(NOTICE_ID_BYTES)
            person = known_as(actor, self._keys.pseudonym_key)
            row = Sent(notice_id, peer_id, content, now, actor.name, person, actor.purpose)
            notices.add_sent(tx, row)
            for uid in uids:
                _record(tx, "notify", actor, partner.peer_id, row.notice_id, now, uid, patient)
            return row

        row = await self._db.write(work)
        self._delivery.soon(peer_id)
        return sent_notice(row, partner.name)

    async def acknowledge(self, notice_id: bytes, actor: Actor) -> Notice:
        """Note that `actor` has seen a notice, and let its sender know; raise NotFound."""
        now = self._clock.now()

        def work(tx: Tx) -> Received:
            row = notices.received(tx, notice_id)
            if row is None:
                raise NotFound("There is no such notice; the inbox shows all of them.")
            if row.acknowledged_at is None:
                person = known_as(actor, self._keys.pseudonym_key)
                notices.acknowledge(tx, row, now, actor.name, person, actor.purpose)
                _record(tx, "acknowledge", actor, row.partner, notice_id, now)
            return notices.received(tx, notice_id) or row

        row = await self._db.write(work)
        self._delivery.soon(row.partner)
        return received_notice(row, self._partners.name(row.partner))

    async def inbox(self) -> list[Notice]:
        """Return what partners have notified us of, newest first."""
        rows = await self._db.read(lambda tx: notices.inbox(tx, self._listed))
        return [received_notice(row, self._partners.name(row.partner)) for row in rows]

    async def outbox(self) -> list[Notice]:
        """Return what we have notified partners of, newest first."""
        rows = await self._db.read(lambda tx: notices.outbox(tx, self._listed))
        return [sent_notice(row, self._partners.name(row.partner)) for row in rows]

    def post_soon(self) -> None:
        """Tell the webhook of what has come, now."""
        self._post_due.set()

    # -- what partners send -----------------------------------------------------------------
    async def receive(self, message: NoticeMessage, partner: Partner) -> None:
        """Put a partner's notice into the inbox; return when it is durable."""
        now = self._clock.now()
        body = open_notice(
            message.statement,
            key=partner.record.node_public,
            author=partner.peer_id,
            me=self._keys.peer_id,
            now=now,
        )
        content = self._keys.unsealed(partial(open_content, notice=body))
        row = Received(body.notice_id, partner.peer_id, content, body.issued_at, now)

        def work(tx: Tx) -> bool:
            is_news = notices.add_received(tx, row)
            if is_news:
                _record(tx, "notify", _someone(body, partner), partner.peer_id, body.notice_id, now)
            return is_news

        if await self._db.write(work):
            self._post_due.set()

    async def receive_acknowledgement(self, message: NoticeAcknowledged, partner: Partner) -> None:
        """Note that someone at the partner has seen our notice."""
        now = self._clock.now()
        body = open_acknowledgement(
            message.statement,
            key=partner.record.node_public,
            author=partner.peer_id,
            me=self._keys.peer_id,
            now=now,
        )

        def work(tx: Tx) -> None:
            row = notices.sent(tx, body.notice_id)
            if row is None or row.partner != partner.peer_id:
                raise Refusal("no-such-notice", "No such notice was sent to your facility.")
            at = body.acknowledged_at
            if notices.seen(tx, row.notice_id, partner.peer_id, message.statement, at, body.person):
                someone = _someone(body, partner)
                for study in row.content.studies:
                    uid = study.study_instance_uid
                    _record(tx, "acknowledge", someone, partner.peer_id, row.notice_id, now, uid)

        await self._db.write(work)

    # -- keeping it going -------------------------------------------------------------------
    async def run(self) -> None:
        """Deliver what waits, now, on every connection and from time to time; until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._delivery.run())
            if self._webhook is not None:
                group.create_task(self._keep_posting(self._webhook))

    async def _keep_posting(self, webhook: Webhook) -> None:
        while True:
            try:
                await self._post(webhook)
            except NotTaken as error:
                _log.warning("webhook-failed", status=error.status)
            except NodeError as error:
                _log.warning("notices-interrupted", error=type(error).__name__)
            await is_set(self._post_due, self._retry_s)

    async def _post(self, webhook: Webhook) -> None:
        for row in await self._db.read(notices.untold):
            data: dict[str, str | int] = {
                "notice_id": row.notice_id.hex(),
                "peer_id": row.partner.hex(),
                "studies": len(row.content.studies),
            }
            await webhook.post("notice.received", row.notice_id.hex(), self._clock.now(), data)
            note = partial(
                notices.told,
                notice_id=row.notice_id,
                partner=row.partner,
                now=self._clock.now(),
            )
            await self._db.write(note)
        for prior, origin in await self._db.read(new_priors.unposted):
            data = {"prior": prior, "peer_id": origin.hex(), "studies": 1}
            await webhook.post("prior.found", f"prior-{prior}", self._clock.now(), data)
            note = partial(new_priors.posted, prior=prior, now=self._clock.now())
            await self._db.write(note)

    # -- what is said -----------------------------------------------------------------------
    def _content(
        self, tx: Tx, uids: Sequence[str], partner: Partner, actor: Actor, text: str
    ) -> tuple[NoticeContent, int]:
        """Return what a notice says, and the patient; raise Refusal or NotFound."""
        rows = []
        for uid in uids:
            row = studies.get(tx, uid)
            if row is None:
                raise NotFound("One of these studies is not held here.")
            refusal = self._access.objection(tx, uid, partner, purpose=actor.purpose)
            if refusal is not None:
                raise refusal
            rows.append(row)
        patient = patients.get(tx, rows[0].patient)
        if patient is None or any(row.patient != patient.patient for row in rows):
            raise Refusal(
                "several-patients",
                "These studies are of several patients.",
                "Send one notice for each patient.",
            )
        content = NoticeContent(
            patient_name=patient.names[0][:SENTENCE_CHARACTERS] if patient.names else "",
            birth_date=patient.birth_date[:DATE_CHARACTERS],
            sex=patient.sex[:1],
            studies=tuple(
                NoticeStudy(
                    row.study_instance_uid,
                    row.study_date[:DATE_CHARACTERS],
                    "\\".join(row.modalities)[:NAME_CHARACTERS],
                    row.description[:NAME_CHARACTERS],
                )
                for row in rows
            ),
            text=text[:SENTENCE_CHARACTERS],
        )
        return content, patient.patient


def _someone(body: NoticeBody | AcknowledgementBody, partner: Partner) -> Actor:
    """Return the person at a partner of whose act a statement tells."""
    return someone_at(partner.peer_id, body.person, body.role, body.purpose)


def _record(
    tx: Tx,
    action: str,
    actor: Actor,
    partner: PeerId,
    notice_id: bytes,
    now: int,
    study_instance_uid: str = "",
    patient: int | None = None,
) -> None:
    event = AuditEvent(
        action=action,
        outcome="success",
        actor=actor,
        patient="" if patient is None else str(patient),
        study_instance_uid=study_instance_uid,
        partner=partner,
        detail={"notice": notice_id.hex()},
    )
    audit.append(tx, event, now)
