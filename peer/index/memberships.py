"""What partners have signed for us: that we are their partner (`protocol.relay`)."""

from __future__ import annotations

from peer.index.migrate import Tx
from protocol.identifiers import PeerId
from protocol.statements import Statement


def keep(tx: Tx, origin: PeerId, statement: Statement) -> None:
    """Keep a verified membership in the place of the one before."""
    tx.execute(
        "INSERT OR REPLACE INTO memberships VALUES (?, ?, ?)",
        (origin, statement.payload, statement.signature),
    )


def all_of(tx: Tx) -> dict[PeerId, Statement]:
    """Return the last membership of each origin; whether it still holds is to be judged."""
    rows = tx.execute("SELECT origin, payload, signature FROM memberships")
    return {
        PeerId(row["origin"]): Statement(bytes(row["payload"]), bytes(row["signature"]))
        for row in rows
    }


def forget(tx: Tx, origin: PeerId) -> None:
    """Forget what a removed partner has signed for us."""
    tx.execute("DELETE FROM memberships WHERE origin = ?", (origin,))
