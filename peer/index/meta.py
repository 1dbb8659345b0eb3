"""Single values by name, in either transaction of their owner."""

from __future__ import annotations

from peer.index.migrate import Tx


def get(tx: Tx, key: str) -> bytes | None:
    """Return the value stored under `key`, or None."""
    row = tx.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else bytes(row["value"])


def put(tx: Tx, key: str, value: bytes) -> None:
    """Store `value` under `key`, in place of what was there."""
    tx.execute(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def delete(tx: Tx, key: str) -> None:
    """Forget `key`, if it is there."""
    tx.execute("DELETE FROM meta WHERE key = ?", (key,))
