"""Finding partners' entries by the labels that a search computes."""

from __future__ import annotations

from dataclasses import dataclass

from peer.index.migrate import Tx
from protocol.identifiers import EntryId, PeerId


@dataclass(frozen=True, slots=True)
class LabelledEntry:
    """A live entry of a partner's journal that carries a label asked for."""

    origin: PeerId
    seq: int
    entry_id: EntryId
    salt: bytes
    body: bytes


def find(tx: Tx, label: bytes, origin: PeerId | None = None) -> list[LabelledEntry]:
    """Return the live entries that carry `label`, of every partner or of `origin` alone."""
    rows = tx.execute(
        "SELECT j.origin, e.seq, e.entry_id, b.salt, b.body FROM journal_labels l"
        " JOIN journals j ON j.journal = l.journal"
        " JOIN journal_entries e ON e.journal = l.journal AND e.seq = l.seq"
        " JOIN journal_bodies b ON b.id = e.body"
        " WHERE l.label = ? AND (? IS NULL OR j.origin = ?)",
        (label, origin, origin),
    )
    return [
        LabelledEntry(
            PeerId(row["origin"]), row["seq"], EntryId(row["entry_id"]), row["salt"], row["body"]
        )
        for row in rows
    ]
