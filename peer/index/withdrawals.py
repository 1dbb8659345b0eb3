"""What our journal has withdrawn, and what each of it was for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer.index.migrate import Tx
from protocol.entries import Header
from protocol.identifiers import PeerId
from protocol.limits import HEADER_BYTES
from protocol.records import from_bytes


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The withdrawals of one batch, which were made at once.

    `seq`: the last of them: who has applied the journal up to there has applied all.  `at`: when
    they were signed, Unix seconds.  `directives`: the revoked ones that caused them, if any did;
    else a study was held back or purged, a consent ended, or records of a patient were put right.
    """

    seq: int
    at: int
    entries: int
    directives: tuple[str, ...]


def latest(tx: Tx, me: PeerId, limit: int) -> list[Withdrawal]:
    """Return the latest withdrawals, as far as the journal still has them, the newest first."""
    found: list[Withdrawal] = []
    below = 2**62
    while len(found) < limit and (seq := _last_below(tx, me, below)) is not None:
        header = _batch_of(tx, me, seq)
        found.append(_withdrawal(tx, me, seq, header))
        below = header.first_seq
    return found


def _last_below(tx: Tx, me: PeerId, below: int) -> int | None:
    row = tx.execute(
        "SELECT max(e.seq) FROM journal_entries e JOIN journals USING (journal)"
        " WHERE origin = ? AND e.commitment IS NULL AND e.seq < ?",
        (me, below),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def _batch_of(tx: Tx, me: PeerId, seq: int) -> Header:
    row = tx.execute(
        "SELECT header FROM journal_batches JOIN journals USING (journal)"
        " WHERE origin = ? AND last_seq >= ? ORDER BY last_seq LIMIT 1",
        (me, seq),
    ).fetchone()
    return from_bytes(Header, row["header"], HEADER_BYTES)


def _withdrawal(tx: Tx, me: PeerId, seq: int, header: Header) -> Withdrawal:
    entries = tx.execute(
        "SELECT count(*) FROM journal_entries e JOIN journals USING (journal)"
        " WHERE origin = ? AND e.commitment IS NULL AND e.seq BETWEEN ? AND ?",
        (me, header.first_seq, seq),
    ).fetchone()[0]
    caused: Sequence[tuple[str]] = tx.execute(
        "SELECT directive_id FROM directives WHERE withdrawn_seq BETWEEN ? AND ?"
        " ORDER BY directive_id",
        (header.first_seq, header.last_seq),
    ).fetchall()
    return Withdrawal(seq, header.issued_at, int(entries), tuple(row[0] for row in caused))
