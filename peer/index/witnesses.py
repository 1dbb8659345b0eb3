"""What partners have signed about what they hold."""

from __future__ import annotations

from dataclasses import dataclass

from peer.index.migrate import Tx
from protocol.identifiers import PeerId
from protocol.statements import Statement


@dataclass(frozen=True, slots=True)
class Heard:
    """When a partner's last HAVE came, and when one last left nothing to ask for.  Unix seconds."""

    heard_at: int
    in_step_at: int | None


def record(
    tx: Tx,
    partner: PeerId,
    statement: Statement,
    *,
    last_seq: int | None,
    in_step: bool,
    now: int,
) -> None:
    """Keep a HAVE.  `last_seq`: how far it says our journal is applied; None: not at all."""
    tx.execute(
        "INSERT INTO witnesses VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " payload = excluded.payload, signature = excluded.signature, heard_at = excluded.heard_at,"
        " in_step_at = coalesce(excluded.in_step_at, in_step_at)",
        (partner, statement.payload, statement.signature, now, now if in_step else None),
    )
    _acknowledge(tx, partner, last_seq, now)


def _acknowledge(tx: Tx, partner: PeerId, last_seq: int | None, now: int) -> None:
    if last_seq is None:
        return
    known = tx.execute(
        "SELECT max(last_seq) FROM acknowledgements WHERE partner = ?", (partner,)
    ).fetchone()[0]
    if known is None or last_seq > known:
        tx.execute("INSERT INTO acknowledgements VALUES (?, ?, ?)", (partner, last_seq, now))


def renew(tx: Tx, partner: PeerId, *, last_seq: int | None, in_step: bool, now: int) -> None:
    """Note that a partner's last HAVE stands; the arguments are those of `record`."""
    tx.execute(
        "UPDATE witnesses SET heard_at = ?, in_step_at = coalesce(?, in_step_at) WHERE partner = ?",
        (now, now if in_step else None, partner),
    )
    _acknowledge(tx, partner, last_seq, now)


def completed(tx: Tx, partner: PeerId, now: int) -> None:
    """Note that all that a partner had announced of its journal is held."""
    tx.execute("UPDATE witnesses SET in_step_at = ? WHERE partner = ?", (now, partner))


def heard(tx: Tx) -> dict[PeerId, Heard]:
    """Return what is known of each partner that ever sent a HAVE."""
    rows = tx.execute("SELECT partner, heard_at, in_step_at FROM witnesses")
    return {PeerId(row["partner"]): Heard(int(row["heard_at"]), row["in_step_at"]) for row in rows}


def statements(tx: Tx) -> dict[PeerId, Statement]:
    """Return the last HAVE of each partner."""
    rows = tx.execute("SELECT partner, payload, signature FROM witnesses")
    return {
        PeerId(row["partner"]): Statement(bytes(row["payload"]), bytes(row["signature"]))
        for row in rows
    }


def acknowledged(tx: Tx, seq: int) -> dict[PeerId, int]:
    """Return since when each partner has applied our journal up to `seq`; the others are absent."""
    rows = tx.execute(
        "SELECT partner, min(at) AS at FROM acknowledgements WHERE last_seq >= ? GROUP BY partner",
        (seq,),
    )
    return {PeerId(row["partner"]): int(row["at"]) for row in rows}


def applied_at(tx: Tx, partner: PeerId, seq: int) -> int | None:
    """Return since when a partner has applied our journal up to `seq`, None if it has not."""
    row = tx.execute(
        "SELECT at FROM acknowledgements WHERE partner = ? AND last_seq >= ?"
        " ORDER BY last_seq LIMIT 1",
        (partner, seq),
    ).fetchone()
    return None if row is None else int(row["at"])
