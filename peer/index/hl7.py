"""HL7 messages on record: what was taken, and what was refused and waits for somebody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer.index.migrate import Tx


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it came.  `kind`: as ADT^A08; `hash`: of its bytes."""

    sender: str
    control_id: str
    kind: str
    hash: bytes
    content: bytes


@dataclass(frozen=True, slots=True)
class Room:
    """How many refused messages may wait: in all, of one sender, and how many bytes in all."""

    most: int
    most_each: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """A message that was refused.  `answer`: AE or AR; `error`: of HL7 table 0357."""

    parked: int
    sender: str
    control_id: str
    kind: str
    bytes: int
    answer: str
    error: str
    reason: str
    first_at: int
    last_at: int
    times: int


_PARKED = (
    "SELECT parked, sender, control_id, kind, length(content) AS bytes, answer, error, reason,"
    " first_at, last_at, times FROM hl7_parked"
)


def taken(tx: Tx, sender: str, control_id: str) -> bytes | None:
    """Return the hash of the message of this control ID that was taken, or None."""
    row = tx.execute(
        "SELECT hash FROM hl7_taken WHERE sender = ? AND control_id = ?", (sender, control_id)
    ).fetchone()
    return None if row is None else bytes(row["hash"])


def take(tx: Tx, sent: Sent, now: int) -> None:
    """Note that a message is taken; no earlier one of its control ID waits any longer."""
    tx.execute(
        "INSERT INTO hl7_taken VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (sender, control_id) DO UPDATE SET hash = ?3, taken_at = ?4",
        (sent.sender, sent.control_id, sent.hash, now),
    )
    tx.execute(
        "DELETE FROM hl7_parked WHERE sender = ? AND control_id = ?",
        (sent.sender, sent.control_id),
    )


def forget(tx: Tx, before: int) -> None:
    """Forget which messages were taken before an instant."""
    tx.execute("DELETE FROM hl7_taken WHERE taken_at < ?", (before,))


def park(
    tx: Tx, sent: Sent, *, answer: str, error: str, reason: str, now: int, room: Room
) -> int | None:
    """Keep a refused message, or count it to itself; return how often it has come.

    Returns None, and keeps nothing, if there is no room for it.
    """
    known = tx.execute(
        "UPDATE hl7_parked SET answer = ?, error = ?, reason = ?, last_at = ?, times = times + 1"
        " WHERE sender = ? AND control_id = ? AND hash = ? RETURNING times",
        (answer, error, reason, now, sent.sender, sent.control_id, sent.hash),
    ).fetchone()
    if known is not None:
        return int(known["times"])
    if not _has_room(tx, sent, room):
        return None
    tx.execute(
        "INSERT INTO hl7_parked (sender, control_id, kind, hash, content, answer, error, reason,"
        " first_at, last_at, times) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
        (
            sent.sender,
            sent.control_id,
            sent.kind,
            sent.hash,
            sent.content,
            answer,
            error,
            reason,
            now,
            now,
        ),
    )
    return 1


def _has_room(tx: Tx, sent: Sent, room: Room) -> bool:
    row = tx.execute(
        "SELECT count(*) AS number, coalesce(sum(sender = ?), 0) AS theirs,"
        " coalesce(sum(length(content)), 0) AS bytes FROM hl7_parked",
        (sent.sender,),
    ).fetchone()
    return bool(
        row["number"] < room.most
        and row["theirs"] < room.most_each
        and row["bytes"] + len(sent.content) <= room.most_bytes
    )


def count(tx: Tx) -> int:
    """Return how many messages wait."""
    row = tx.execute("SELECT count(*) AS number FROM hl7_parked").fetchone()
    return int(row["number"])


def parked(tx: Tx, limit: int) -> Sequence[ParkedRow]:
    """Return the messages that wait, the one that came first first: so they are tried again."""
    rows = tx.execute(f"{_PARKED} ORDER BY first_at, parked LIMIT ?", (limit,))
    return [ParkedRow(**dict(row)) for row in rows.fetchall()]


def one(tx: Tx, number: int) -> tuple[ParkedRow, Sent] | None:
    """Return a message that waits, and what was sent; None if there is none of this number."""
    row = tx.execute(f"{_PARKED} WHERE parked = ?", (number,)).fetchone()
    if row is None:
        return None
    found = ParkedRow(**dict(row))
    kept = tx.execute("SELECT hash, content FROM hl7_parked WHERE parked = ?", (number,)).fetchone()
    sent = Sent(found.sender, found.control_id, found.kind, kept["hash"], kept["content"])
    return found, sent


def discard(tx: Tx, number: int) -> None:
    """Keep a refused message no longer."""
    tx.execute("DELETE FROM hl7_parked WHERE parked = ?", (number,))
