"""Proofs that a partner told two histories of its journal, and what both have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peer.index.held import Held
from peer.index.migrate import Tx
from protocol.entries import Header, SignedHeader
from protocol.forks import ForkProof, place_of
from protocol.identifiers import PeerId
from protocol.limits import HEADER_BYTES
from protocol.records import from_bytes


@dataclass(frozen=True, slots=True)
class ForkRow:
    """A proof on record.  `told_by`: who had it or the other history, None: the origin itself."""

    origin: PeerId
    epoch: int
    batch: int
    proof: ForkProof
    found_at: int
    told_by: PeerId | None


def record(tx: Tx, origin: PeerId, proof: ForkProof, now: int, told_by: PeerId | None) -> bool:
    """Keep a verified proof; return whether it is the first of its epoch, or of an earlier batch.

    From then on nothing is listed of the batch in question and those after it.  A fork that a later
    epoch has ended is kept and is no news.
    """
    epoch, batch = place_of(proof)
    changed = tx.execute(
        "INSERT INTO forks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " batch = excluded.batch, first_header = excluded.first_header,"
        " first_signature = excluded.first_signature, second_header = excluded.second_header,"
        " second_signature = excluded.second_signature WHERE excluded.batch < batch",
        (
            origin,
            epoch,
            batch,
            proof.first.header,
            proof.first.signature,
            proof.second.header,
            proof.second.signature,
            now,
            told_by,
        ),
    ).rowcount
    is_news = changed == 1 and not _is_ended(tx, origin, epoch)
    if is_news:
        _stop_listing(tx, origin, batch)
    return is_news


def _is_ended(tx: Tx, origin: PeerId, epoch: int) -> bool:
    query = "SELECT 1 FROM journal_epochs WHERE origin = ? AND epoch > ?"
    return tx.execute(query, (origin, epoch)).fetchone() is not None


def _stop_listing(tx: Tx, origin: PeerId, batch: int) -> None:
    before = Held(tx, origin).header(batch - 1)
    seq = 0 if before is None else from_bytes(Header, before.header, HEADER_BYTES).last_seq
    tx.execute(
        "UPDATE journals SET common_seq = min(coalesce(common_seq, ?1), ?1) WHERE origin = ?2",
        (seq, origin),
    )


def list_again(held: Held, epoch: int) -> None:
    """List what is held of a journal that has come to `epoch`, or back into it, by its root's word.

    A fork of the same epoch or a later one stands.
    """
    held.tx.execute(
        "UPDATE journals SET common_seq = CASE WHEN EXISTS (SELECT 1 FROM forks f"
        " WHERE f.origin = ?1 AND f.epoch >= ?2 AND NOT EXISTS"
        "  (SELECT 1 FROM journal_epochs e WHERE e.origin = ?1 AND e.epoch > f.epoch))"
        " THEN 0 END WHERE origin = ?1",
        (held.origin, epoch),
    )


def all_of(tx: Tx) -> dict[PeerId, ForkRow]:
    """Return the earliest proof against each origin, of forks that no later epoch has ended."""
    rows = tx.execute(
        "SELECT * FROM forks f WHERE NOT EXISTS (SELECT 1 FROM journal_epochs e"
        " WHERE e.origin = f.origin AND e.epoch > f.epoch) ORDER BY epoch DESC"
    )
    return {PeerId(row["origin"]): _row(row) for row in rows}


def _row(row: Any) -> ForkRow:  # noqa: ANN401 - a row of `forks`
    return ForkRow(
        origin=PeerId(row["origin"]),
        epoch=row["epoch"],
        batch=row["batch"],
        proof=ForkProof(
            SignedHeader(row["first_header"], row["first_signature"]),
            SignedHeader(row["second_header"], row["second_signature"]),
        ),
        found_at=row["found_at"],
        told_by=None if row["told_by"] is None else PeerId(row["told_by"]),
    )
