"""Which entry of our journal announces the key under which everyone is published to."""

from __future__ import annotations

from peer.index import publications
from peer.index.migrate import Tx


def is_live(tx: Tx, key_epoch: int) -> bool:
    """Return whether the key of an epoch is announced in our journal now."""
    found = tx.execute(
        "SELECT 1 FROM announced_keys a JOIN slot_filler_entries f ON f.entry_id = a.entry_id"
        " WHERE a.key_epoch = ?",
        (key_epoch,),
    ).fetchone()
    return found is not None


def put(tx: Tx, key_epoch: int, audience: bytes, entry_id: bytes) -> None:
    """Record the entry that announces the key of an epoch; it ends with that epoch."""
    tx.execute(
        "INSERT INTO announced_keys VALUES (?, ?)"
        " ON CONFLICT (key_epoch) DO UPDATE SET entry_id = excluded.entry_id",
        (key_epoch, entry_id),
    )
    publications.add_filler_entry(tx, entry_id, audience, key_epoch)
