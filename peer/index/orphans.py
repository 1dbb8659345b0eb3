"""Signed headers that came early, kept until the batches before them have come.

An origin that shows two histories may have let one of them slip: when the chain reaches the place
of an orphan, both headers are there.
"""

from __future__ import annotations

from typing import Final

from peer.index.held import Held
from protocol.entries import Header, SignedHeader, header_hash
from protocol.errors import Gap, RemoteProtocolError
from protocol.forks import ForkFound, ForkProof
from protocol.limits import HEADER_BYTES
from protocol.messages import OriginHead
from protocol.records import from_bytes

ORPHANS: Final = 64
"""Kept of one journal at most, the earliest to come: an honest one has as many as batches overtook
each other, and its origin alone can sign more."""


def keep(held: Held, signed: SignedHeader, fault: RemoteProtocolError) -> RemoteProtocolError:
    """Keep a header whose batch came early, that is if `fault` is a Gap; its signature is good.

    Return the fault, or the fork if another header had its place.
    """
    if not isinstance(fault, Gap):
        return fault
    try:
        hold(held, signed)
    except ForkFound as fork:
        return fork
    return fault


def hold(held: Held, signed: SignedHeader) -> None:
    """Keep a verified header that lies beyond the head; ForkFound if another one has its place."""
    header = from_bytes(Header, signed.header, HEADER_BYTES)
    known = _find(held, header.epoch, header.batch)
    if known is None and len(places(held)) < ORPHANS:
        held.tx.execute(
            "INSERT INTO orphan_headers VALUES (?, ?, ?, ?, ?)",
            (held.begin(), header.epoch, header.batch, signed.header, signed.signature),
        )
    if known is not None and known.header != signed.header:
        raise ForkFound(ForkProof(known, signed))


def newest(held: Held) -> OriginHead | None:
    """Return how a HAVE names the highest of them, acknowledging nothing; None if there is none."""
    row = held.tx.execute(
        "SELECT epoch, batch, header FROM orphan_headers WHERE journal = ?"
        " ORDER BY epoch DESC, batch DESC LIMIT 1",
        (held.journal,),
    ).fetchone()
    if row is None:
        return None
    return OriginHead(held.origin, row["epoch"], row["batch"], header_hash(row["header"]), 0)


def let_go(held: Held, epoch: int, first_batch: int) -> None:
    """Put aside those that a record of `epoch` makes void: they are evidence of what was signed."""
    void = "FROM orphan_headers WHERE journal = ? AND epoch < ? AND batch >= ?"
    held.tx.execute(
        "INSERT OR IGNORE INTO journal_superseded"
        f" SELECT ?, epoch, batch, header, signature {void}",
        (held.origin, held.journal, epoch, first_batch),
    )
    held.tx.execute(f"DELETE {void}", (held.journal, epoch, first_batch))


def places(held: Held) -> set[tuple[int, int]]:
    """Return the (epoch, batch) of every orphan of a journal."""
    rows = held.tx.execute(
        "SELECT epoch, batch FROM orphan_headers WHERE journal = ?", (held.journal,)
    )
    return {(row["epoch"], row["batch"]) for row in rows}


def compare(held: Held, early: set[tuple[int, int]], signed: SignedHeader) -> ForkFound | None:
    """Let go of the orphan in the place of a header that has arrived; return the fork, if any.

    `early`: what `places` has said.
    """
    header = from_bytes(Header, signed.header, HEADER_BYTES)
    if (header.epoch, header.batch) not in early:
        return None
    orphan = _find(held, header.epoch, header.batch)
    held.tx.execute(
        "DELETE FROM orphan_headers WHERE journal = ? AND epoch = ? AND batch = ?",
        (held.journal, header.epoch, header.batch),
    )
    if orphan is None or orphan.header == signed.header:
        return None
    return ForkFound(ForkProof(signed, orphan))


def _find(held: Held, epoch: int, batch: int) -> SignedHeader | None:
    row = held.tx.execute(
        "SELECT header, signature FROM orphan_headers"
        " WHERE journal = ? AND epoch = ? AND batch = ?",
        (held.journal, epoch, batch),
    ).fetchone()
    return None if row is None else SignedHeader(row["header"], row["signature"])
