"""The signed links between records that people here have called one person's, or two people's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from peer.index.migrate import Tx
from protocol.identifiers import PeerId
from protocol.person_links import record_ref
from protocol.statements import Statement

_STANDING = (
    "SELECT l.* FROM person_links l WHERE NOT EXISTS (SELECT 1 FROM person_links n"
    " WHERE n.one = l.one AND n.other = l.other AND n.link > l.link)"
)


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A link as it is stored: its number, who made it, and the signed statement."""

    link: int
    one: bytes
    other: bytes
    made_by: str
    statement: Statement


def add(tx: Tx, one: bytes, other: bytes, made_by: str, statement: Statement) -> int:
    """Store a statement; it stands for its pair from now on.  Return its number."""
    cursor = tx.execute(
        "INSERT INTO person_links (one, other, made_by, payload, signature) VALUES (?, ?, ?, ?, ?)",
        (one, other, made_by, statement.payload, statement.signature),
    )
    return int(cursor.lastrowid or 0)


def get(tx: Tx, link: int) -> LinkRow | None:
    """Return the link of this number, if it stands."""
    row = tx.execute(f"{_STANDING} AND l.link = ?", (link,)).fetchone()
    return None if row is None else _row(row)


def about(tx: Tx, ref: bytes) -> list[LinkRow]:
    """Return what stands about a ref, the newest first."""
    rows = tx.execute(
        f"{_STANDING} AND (l.one = ?1 OR l.other = ?1) ORDER BY l.link DESC", (ref,)
    ).fetchall()
    return [_row(row) for row in rows]


def latest(tx: Tx, limit: int) -> list[LinkRow]:
    """Return what stands, the newest first."""
    rows = tx.execute(f"{_STANDING} ORDER BY l.link DESC LIMIT ?", (limit,)).fetchall()
    return [_row(row) for row in rows]


def forget(tx: Tx, origin: PeerId, entry_ids: Iterable[bytes]) -> None:
    """Forget all that was said of records of a partner that it has withdrawn."""
    for entry_id in entry_ids:
        ref = record_ref(origin, entry_id)
        tx.execute("DELETE FROM person_links WHERE one = ?1 OR other = ?1", (ref,))


def forget_origin(tx: Tx, origin: PeerId) -> None:
    """Forget all that was said of records of one partner."""
    tx.execute(
        "DELETE FROM person_links"
        " WHERE (length(one) > 32 AND substr(one, 1, 32) = ?1)"
        " OR (length(other) > 32 AND substr(other, 1, 32) = ?1)",
        (origin,),
    )


def _row(row: sqlite3.Row) -> LinkRow:
    return LinkRow(
        link=row["link"],
        one=row["one"],
        other=row["other"],
        made_by=row["made_by"],
        statement=Statement(row["payload"], row["signature"]),
    )
