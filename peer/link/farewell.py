"""The last message of a partnership: a signed removal, and the receipt for it."""

from __future__ import annotations

import structlog

from peer.clock import Clock
from peer.keys import NodeKeys
from peer.link.connection import CLOSE_S, Connection
from peer.link.state import NotConnected
from peer.partners import Partner
from protocol.errors import Refusal, RemoteProtocolError, WrongAddressee
from protocol.messages import (
    REMOVAL_DOMAIN,
    REMOVAL_RECEIPT_DOMAIN,
    Removal,
    RemovalBody,
    RemovalReceipt,
)
from protocol.statements import open_addressed, sign_statement

_log = structlog.get_logger()


async def farewell(connection: Connection, keys: NodeKeys, partner: Partner, clock: Clock) -> bool:
    """Tell a partner that it was removed; return whether it has signed for that in time.

    The removal is in force already; nothing depends on the answer, and nobody can force a purge.
    """
    body = RemovalBody(keys.peer_id, partner.peer_id, clock.now(), partner.agreement.pairing_id)
    try:
        answer = await connection.request(
            Removal(sign_statement(keys.node_seed, REMOVAL_DOMAIN, body)), CLOSE_S
        )
        if not isinstance(answer, RemovalReceipt):
            return False
        receipt = open_addressed(
            answer.statement,
            REMOVAL_RECEIPT_DOMAIN,
            RemovalBody,
            key=partner.record.node_public,
            author=partner.peer_id,
            me=keys.peer_id,
            now=clock.now(),
        )
    except (NotConnected, TimeoutError, Refusal, RemoteProtocolError) as error:
        _log.info("removal-not-told", partner=partner.peer_id.hex(), reason=type(error).__name__)
        return False
    return receipt.pairing_id == body.pairing_id


def sign_for_removal(
    message: Removal, partner: Partner, keys: NodeKeys, clock: Clock
) -> RemovalReceipt:
    """Return the receipt for a removal that the partner has signed; or RemoteProtocolError."""
    body = open_addressed(
        message.statement,
        REMOVAL_DOMAIN,
        RemovalBody,
        key=partner.record.node_public,
        author=partner.peer_id,
        me=keys.peer_id,
        now=clock.now(),
    )
    if body.pairing_id != partner.agreement.pairing_id:
        msg = "a removal names another pairing than the one in force"
        raise WrongAddressee(msg)
    receipt = RemovalBody(keys.peer_id, partner.peer_id, clock.now(), body.pairing_id)
    return RemovalReceipt(sign_statement(keys.node_seed, REMOVAL_RECEIPT_DOMAIN, receipt))
