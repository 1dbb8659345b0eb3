"""Rows of the index as the signed messages in which they travel."""

from __future__ import annotations

import secrets
from typing import Final

from peer.actors import Role
from peer.index.notices import Received, Sent
from peer.keys import NodeKeys
from peer.partners import Partner
from protocol.limits import PROTOCOL_VERSION
from protocol.messages import Notice, NoticeAcknowledged
from protocol.notice import (
    ACKNOWLEDGEMENT_DOMAIN,
    NOTICE_DOMAIN,
    AcknowledgementBody,
    NoticeBody,
    seal_content,
)
from protocol.statements import sign_statement

SECRET_BYTES: Final = 32


def sign_notice(keys: NodeKeys, row: Sent, partner: Partner) -> Notice:
    """Return a notice, sealed under the keys that the partner has now."""
    secret = secrets.token_bytes(SECRET_BYTES)
    box = seal_content(partner.record.seal_public, secret, row.content, row.notice_id)
    body = NoticeBody(
        version=PROTOCOL_VERSION,
        author=keys.peer_id,
        addressee=partner.peer_id,
        issued_at=row.sent_at,
        notice_id=row.notice_id,
        person=row.person,
        role=Role.CLINICIAN,
        purpose=row.purpose,
        box=box,
    )
    return Notice(sign_statement(keys.node_seed, NOTICE_DOMAIN, body))


def sign_acknowledgement(keys: NodeKeys, row: Received, now: int) -> NoticeAcknowledged:
    """Return the acknowledgement of a notice that someone here has seen."""
    body = AcknowledgementBody(
        version=PROTOCOL_VERSION,
        author=keys.peer_id,
        addressee=row.partner,
        issued_at=now,
        notice_id=row.notice_id,
        acknowledged_at=row.acknowledged_at or 0,
        person=row.acknowledged_as,
        role=Role.CLINICIAN,
        purpose=row.acknowledged_for,
    )
    return NoticeAcknowledged(sign_statement(keys.node_seed, ACKNOWLEDGEMENT_DOMAIN, body))
