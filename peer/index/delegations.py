"""To whom our search keys are handed, and which ones partners have handed to us."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from peer.index.migrate import Tx
from protocol.delegation import DelegationBody
from protocol.identifiers import PeerId
from protocol.limits import STATEMENT_BYTES
from protocol.records import from_bytes, to_bytes


@dataclass(frozen=True, slots=True)
class Delegation:
    """Whether a partner is given our search keys, and which ones it holds.

    told_everyone, told_own: the key epochs of what it has confirmed; None: it holds none.
    """

    peer_id: PeerId
    delegated: bool
    since: int
    told_everyone: int | None = None
    told_own: int | None = None

    @property
    def told(self) -> tuple[int, int] | None:
        """The key epochs that the partner has confirmed: everyone's, and its own."""
        if self.told_everyone is None or self.told_own is None:
            return None
        return self.told_everyone, self.told_own


_COLUMNS: Final = ", ".join(each.name for each in fields(Delegation))


def every(tx: Tx) -> list[Delegation]:
    """Return what is on record of every partner that was ever given keys."""
    rows = tx.execute(f"SELECT {_COLUMNS} FROM delegations").fetchall()  # noqa: S608 - our names
    return [
        Delegation(
            PeerId(row["peer_id"]),
            bool(row["delegated"]),
            row["since"],
            row["told_everyone"],
            row["told_own"],
        )
        for row in rows
    ]


def put(tx: Tx, row: Delegation) -> None:
    """Store what holds of a partner now."""
    tx.execute(
        f"INSERT OR REPLACE INTO delegations ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608
        (
            row.peer_id,
            int(row.delegated),
            row.since,
            row.told_everyone,
            row.told_own,
        ),
    )


def note_told(tx: Tx, peer_id: PeerId, told: tuple[int, int] | None) -> None:
    """Note which keys a partner holds now, unless it was removed meanwhile."""
    everyone, own = told or (None, None)
    tx.execute(
        "UPDATE delegations SET told_everyone = ?, told_own = ? WHERE peer_id = ?",
        (everyone, own, peer_id),
    )


def hold(tx: Tx, body: DelegationBody) -> None:
    """Keep the keys that a partner has handed to us in place of older ones, or keep none."""
    tx.execute("DELETE FROM delegated_keys WHERE origin = ?", (body.author,))
    if body.keys:
        tx.execute("INSERT INTO delegated_keys VALUES (?, ?)", (body.author, to_bytes(body)))


def forget(tx: Tx, peer_id: PeerId) -> None:
    """Forget the keys of a partner that is removed; paired anew, it begins without ours."""
    tx.execute("DELETE FROM delegations WHERE peer_id = ?", (peer_id,))
    tx.execute("DELETE FROM delegated_keys WHERE origin = ?", (peer_id,))


def held(tx: Tx) -> list[DelegationBody]:
    """Return the keys that partners have handed to us."""
    rows = tx.execute("SELECT body FROM delegated_keys").fetchall()
    return [from_bytes(DelegationBody, row["body"], STATEMENT_BYTES) for row in rows]
