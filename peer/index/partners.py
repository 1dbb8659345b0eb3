"""Invitations, partners and the deny set."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Final

from peer.index.migrate import Tx
from protocol.identifiers import PeerId
from protocol.keyrecord import SignedKeyRecord
from protocol.limits import PAIRING_BYTES
from protocol.pairing import Offer, Pairing, Reveal
from protocol.records import from_bytes, to_bytes

PENDING: Final = "pending"
ACTIVE: Final = "active"
REMOVED: Final = "removed"

_STATE_BYTES: Final = 8 * PAIRING_BYTES
"""An Offer holds two messages, a Pairing one agreement and one key record."""


@dataclass(frozen=True, slots=True)
class PartnerRow:
    """A facility with which a pairing was begun.

    `reveal`: not answered by the inviter yet.  `record_held`: the revision of our own key record
    that it is known to hold.
    """

    peer_id: PeerId
    state: str
    record: SignedKeyRecord
    pairing: Pairing
    reveal: Reveal | None
    delivered: bool
    pairing_url: str
    since: int
    reason: str = ""
    record_held: int = 0


def put_offer(tx: Tx, offer: Offer) -> None:
    """Store an invitation in its present state."""
    tx.execute(
        "INSERT INTO invitations VALUES (?, ?, ?)"
        " ON CONFLICT (invitation_id) DO UPDATE SET offer = excluded.offer",
        (offer.invitation_id, to_bytes(offer), offer.expires_at),
    )


def offer(tx: Tx, invitation_id: bytes) -> Offer | None:
    """Return an invitation, or None if this node has not made it or has forgotten it."""
    row = tx.execute(
        "SELECT offer FROM invitations WHERE invitation_id = ?", (invitation_id,)
    ).fetchone()
    return None if row is None else from_bytes(Offer, bytes(row["offer"]), _STATE_BYTES)


def forget_offers(tx: Tx, expired_before: int) -> None:
    """Delete the invitations that were over before an instant."""
    tx.execute("DELETE FROM invitations WHERE expires_at < ?", (expired_before,))


def put(tx: Tx, row: PartnerRow) -> None:
    """Store a partner in its present state, in place of what was known of it."""
    tx.execute(
        "INSERT OR REPLACE INTO partners VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.peer_id,
            row.state,
            to_bytes(row.record),
            row.pairing.pairing_id,
            to_bytes(row.pairing),
            None if row.reveal is None else to_bytes(row.reveal),
            int(row.delivered),
            row.pairing_url,
            row.since,
            row.reason,
            row.record_held,
        ),
    )


def get(tx: Tx, peer_id: PeerId) -> PartnerRow | None:
    """Return a partner, or None."""
    row = tx.execute("SELECT * FROM partners WHERE peer_id = ?", (peer_id,)).fetchone()
    return None if row is None else _row(row)


def by_pairing(tx: Tx, pairing_id: bytes) -> PartnerRow | None:
    """Return the partner whose present pairing this is, or None."""
    row = tx.execute("SELECT * FROM partners WHERE pairing_id = ?", (pairing_id,)).fetchone()
    return None if row is None else _row(row)


def every(tx: Tx) -> list[PartnerRow]:
    """Return all partners, the removed ones too."""
    return [_row(row) for row in tx.execute("SELECT * FROM partners ORDER BY since, peer_id")]


def deny(tx: Tx, row: PartnerRow, now: int, reason: str, *, by_them: bool) -> None:
    """Put a pairing into the deny set; once there it stays as it is."""
    tx.execute(
        "INSERT OR IGNORE INTO removals VALUES (?, ?, ?, ?, ?)",
        (row.pairing.pairing_id, row.peer_id, now, int(by_them), reason),
    )


def is_denied(tx: Tx, pairing_id: bytes) -> bool:
    """Return whether a pairing was ended."""
    found = tx.execute("SELECT 1 FROM removals WHERE pairing_id = ?", (pairing_id,)).fetchone()
    return found is not None


def _row(row: sqlite3.Row) -> PartnerRow:
    reveal = row["reveal"]
    return PartnerRow(
        peer_id=PeerId(bytes(row["peer_id"])),
        state=row["state"],
        record=from_bytes(SignedKeyRecord, bytes(row["record"]), _STATE_BYTES),
        pairing=from_bytes(Pairing, bytes(row["pairing"]), _STATE_BYTES),
        reveal=None if reveal is None else from_bytes(Reveal, bytes(reveal), _STATE_BYTES),
        delivered=bool(row["delivered"]),
        pairing_url=row["pairing_url"],
        since=row["since"],
        reason=row["reason"],
        record_held=row["record_held"],
    )
