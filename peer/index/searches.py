"""When each person or program here searched other facilities."""

from __future__ import annotations

from collections.abc import Sequence

from peer.index.migrate import Tx


def since(tx: Tx, who: str, then: int) -> Sequence[int]:
    """Return when `who` searched after an instant, the earliest first."""
    rows = tx.execute(
        "SELECT at FROM searches_made WHERE who = ? AND at > ? ORDER BY at", (who, then)
    )
    return [int(row["at"]) for row in rows]


def note(tx: Tx, who: str, at: int, forget_until: int) -> None:
    """Note a search, and forget those of `who` up to an earlier instant."""
    tx.execute("DELETE FROM searches_made WHERE who = ? AND at <= ?", (who, forget_until))
    tx.execute("INSERT INTO searches_made VALUES (?, ?)", (who, at))
