"""Outbox and inbox: the SQL of `peer.notify`.

Instants are Unix seconds, identities 32 bytes, ids 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Row

from peer.index.migrate import Tx
from protocol.identifiers import PeerId
from protocol.limits import STATEMENT_BYTES
from protocol.notice import NoticeContent
from protocol.records import from_bytes, to_bytes
from protocol.statements import Statement


@dataclass(frozen=True, slots=True)
class Sent:
    """A notice to a partner.

    `delivered_at`: when its node had it on disk.  `acknowledged_at`, by that facility's clock: when
    a person there, `acknowledged_by` as their pseudonym, had seen it.  `person`: pseudonym of who
    wrote it, for `purpose`.  `refusal`: why it was not delivered and will not be, '' otherwise.
    """

    notice_id: bytes
    partner: PeerId
    content: NoticeContent
    sent_at: int
    sent_by: str
    person: str
    purpose: str
    delivered_at: int | None = None
    acknowledged_at: int | None = None
    acknowledged_by: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """A notice from a partner; `sent_at` by its clock.

    The sender is told that `acknowledged_as`, a pseudonym, has seen it for `acknowledged_for`.
    """

    notice_id: bytes
    partner: PeerId
    content: NoticeContent
    sent_at: int
    received_at: int
    acknowledged_at: int | None = None
    acknowledged_by: str = ""
    acknowledged_as: str = ""
    acknowledged_for: str = "TREAT"
    acknowledgement_delivered_at: int | None = None


# -- outbox -----------------------------------------------------------------------------------
def add_sent(tx: Tx, notice: Sent) -> None:
    """Put a notice into the outbox."""
    tx.execute(
        "INSERT INTO outbox (notice_id, partner, content, sent_at, sent_by, person, purpose)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            notice.notice_id,
            notice.partner,
            to_bytes(notice.content),
            notice.sent_at,
            notice.sent_by,
            notice.person,
            notice.purpose,
        ),
    )


def sent(tx: Tx, notice_id: bytes) -> Sent | None:
    """Return the notice of this id in the outbox, or None."""
    row = tx.execute("SELECT * FROM outbox WHERE notice_id = ?", (notice_id,)).fetchone()
    return None if row is None else _sent(row)


def outbox(tx: Tx, limit: int) -> tuple[Sent, ...]:
    """Return the latest `limit` notices of the outbox, newest first."""
    query = "SELECT * FROM outbox ORDER BY sent_at DESC, notice_id LIMIT ?"
    return tuple(_sent(row) for row in tx.execute(query, (limit,)))


def undelivered(tx: Tx, partner: PeerId) -> tuple[Sent, ...]:
    """Return what a partner's node has not confirmed and may still be told, oldest first."""
    query = (
        "SELECT * FROM outbox WHERE partner = ? AND delivered_at IS NULL AND refusal = ''"
        " ORDER BY sent_at"
    )
    return tuple(_sent(row) for row in tx.execute(query, (partner,)))


def delivered(tx: Tx, notice_id: bytes, now: int) -> None:
    """Note that the partner's node has a notice on its disk."""
    query = "UPDATE outbox SET delivered_at = ? WHERE notice_id = ? AND delivered_at IS NULL"
    tx.execute(query, (now, notice_id))


def refuse(tx: Tx, notice_id: bytes, reason: str) -> None:
    """Note that a notice may not be delivered any more."""
    tx.execute("UPDATE outbox SET refusal = ? WHERE notice_id = ?", (reason, notice_id))


def seen(
    tx: Tx, notice_id: bytes, partner: PeerId, acknowledgement: Statement, at: int, person: str
) -> bool:
    """Note that a person at the partner has seen a notice; return whether this is news."""
    cursor = tx.execute(
        "UPDATE outbox SET acknowledged_at = ?1, acknowledged_by = ?2, payload = ?3,"
        " signature = ?4, delivered_at = coalesce(delivered_at, ?1)"
        " WHERE notice_id = ?5 AND partner = ?6 AND acknowledged_at IS NULL",
        (at, person, acknowledgement.payload, acknowledgement.signature, notice_id, partner),
    )
    return cursor.rowcount == 1


# -- inbox ------------------------------------------------------------------------------------
def add_received(tx: Tx, notice: Received) -> bool:
    """Put a notice into the inbox; return False if it is there already."""
    cursor = tx.execute(
        "INSERT INTO inbox (notice_id, partner, content, sent_at, received_at)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            notice.notice_id,
            notice.partner,
            to_bytes(notice.content),
            notice.sent_at,
            notice.received_at,
        ),
    )
    return cursor.rowcount == 1


def received(tx: Tx, notice_id: bytes) -> Received | None:
    """Return the notice of this id in the inbox, or None."""
    row = tx.execute("SELECT * FROM inbox WHERE notice_id = ?", (notice_id,)).fetchone()
    return None if row is None else _received(row)


def inbox(tx: Tx, limit: int) -> tuple[Received, ...]:
    """Return the latest `limit` notices of the inbox, newest first."""
    query = "SELECT * FROM inbox ORDER BY received_at DESC, notice_id LIMIT ?"
    return tuple(_received(row) for row in tx.execute(query, (limit,)))


def acknowledge(tx: Tx, notice: Received, at: int, by: str, pseudonym: str, purpose: str) -> None:
    """Note that someone here has seen a notice."""
    tx.execute(
        "UPDATE inbox SET acknowledged_at = ?, acknowledged_by = ?, acknowledged_as = ?,"
        " acknowledged_for = ? WHERE notice_id = ? AND partner = ?",
        (at, by, pseudonym, purpose, notice.notice_id, notice.partner),
    )


def owed(tx: Tx, partner: PeerId) -> tuple[Received, ...]:
    """Return the notices whose acknowledgement has not reached the partner, oldest first."""
    query = (
        "SELECT * FROM inbox WHERE partner = ? AND acknowledged_at IS NOT NULL"
        " AND acknowledgement_delivered_at IS NULL ORDER BY acknowledged_at"
    )
    return tuple(_received(row) for row in tx.execute(query, (partner,)))


def acknowledgement_delivered(tx: Tx, notice_id: bytes, partner: PeerId, now: int) -> None:
    """Note that the partner has our acknowledgement."""
    query = "UPDATE inbox SET acknowledgement_delivered_at = ? WHERE notice_id = ? AND partner = ?"
    tx.execute(query, (now, notice_id, partner))


def untold(tx: Tx) -> tuple[Received, ...]:
    """Return the notices of which the webhook does not know, oldest first."""
    query = "SELECT * FROM inbox WHERE told_at IS NULL ORDER BY received_at"
    return tuple(_received(row) for row in tx.execute(query))


def told(tx: Tx, notice_id: bytes, partner: PeerId, now: int) -> None:
    """Note that the webhook has taken a notice."""
    query = "UPDATE inbox SET told_at = ? WHERE notice_id = ? AND partner = ?"
    tx.execute(query, (now, notice_id, partner))


def _sent(row: Row) -> Sent:
    return Sent(
        notice_id=row["notice_id"],
        partner=PeerId(row["partner"]),
        content=_content(row),
        sent_at=row["sent_at"],
        sent_by=row["sent_by"],
        person=row["person"],
        purpose=row["purpose"],
        refusal=row["refusal"],
        delivered_at=row["delivered_at"],
        acknowledged_at=row["acknowledged_at"],
        acknowledged_by=row["acknowledged_by"],
    )


def _received(row: Row) -> Received:
    return Received(
        notice_id=row["notice_id"],
        partner=PeerId(row["partner"]),
        content=_content(row),
        sent_at=row["sent_at"],
        received_at=row["received_at"],
        acknowledged_at=row["acknowledged_at"],
        acknowledged_by=row["acknowledged_by"],
        acknowledged_as=row["acknowledged_as"],
        acknowledged_for=row["acknowledged_for"],
        acknowledgement_delivered_at=row["acknowledgement_delivered_at"],
    )


def _content(row: Row) -> NoticeContent:
    return from_bytes(NoticeContent, row["content"], STATEMENT_BYTES)
