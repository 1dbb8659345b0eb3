"""Retrievals that we run or ran: the SQL of `peer.retrieve`.

Instants are Unix seconds, sizes bytes of ciphertext, identities 32 bytes, ids 16 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from sqlite3 import Row
from typing import Final

from peer.errors import Conflict
from peer.index.grants import statement_of
from peer.index.migrate import Tx
from protocol.identifiers import PeerId
from protocol.statements import Statement


class State:
    """Where a retrieval stands."""

    ASKING: Final = "asking"
    """The origin has not answered yet."""
    FETCHING: Final = "fetching"
    WAITING: Final = "waiting"
    """The origin cannot be reached; it goes on by itself when it can."""
    COMPLETE: Final = "complete"
    REFUSED: Final = "refused"
    REVOKED: Final = "revoked"
    """Consent ended under way; what had arrived is destroyed."""
    FAILED: Final = "failed"
    """Over for another reason, such as missing instances; nothing of it is shown."""


UNFINISHED: Final = (State.ASKING, State.FETCHING, State.WAITING)
PARKED: Final = (State.REFUSED, State.REVOKED, State.FAILED)


@dataclass(frozen=True, slots=True)
class LeaveRow:
    """A grant that we were given; `bytes` is what is to be had under it."""

    grant_id: bytes
    retrieve_handle: bytes
    manifest_root: bytes
    manifest_version: int
    instances: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RetrievalRow:
    """One study on its way from a partner, or arrived; `actor` is JSON."""

    retrieval_id: bytes
    origin: PeerId
    study_instance_uid: str
    actor: str
    state: str
    grant_id: bytes | None
    retrieve_handle: bytes | None
    manifest_root: bytes | None
    manifest_version: int
    instances: int
    verified: int
    bytes: int
    bytes_verified: int
    code: str
    reason: str
    remedy: str
    started_at: int
    changed_at: int
    receipt: Statement | None
    receipt_delivered_at: int | None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state not in UNFINISHED


def add_retrieval(
    tx: Tx, retrieval_id: bytes, origin: PeerId, study_instance_uid: str, actor: str, now: int
) -> RetrievalRow:
    """Begin a retrieval."""
    row = tx.execute(
        "INSERT INTO retrievals (retrieval_id, origin, study_instance_uid, actor, state,"
        " started_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *",
        (retrieval_id, origin, study_instance_uid, actor, State.ASKING, now, now),
    ).fetchone()
    return _retrieval(row)


def set_actor(tx: Tx, retrieval_id: bytes, actor: str) -> None:
    """Let a retrieval go on for someone else, or for another purpose."""
    tx.execute("UPDATE retrievals SET actor = ? WHERE retrieval_id = ?", (actor, retrieval_id))


def retrieval(tx: Tx, retrieval_id: bytes) -> RetrievalRow | None:
    """Return the retrieval of this id, or None."""
    row = tx.execute("SELECT * FROM retrievals WHERE retrieval_id = ?", (retrieval_id,)).fetchone()
    return None if row is None else _retrieval(row)


def successor(tx: Tx, retrieval_id: bytes) -> RetrievalRow | None:
    """Return the retrieval that was begun in the place of one that was taken off, or None."""
    row = tx.execute(
        "SELECT later.* FROM retrievals earlier JOIN retrievals later"
        " ON later.study_instance_uid = earlier.study_instance_uid"
        " AND later.origin = earlier.origin AND later.retrieval_id <> earlier.retrieval_id"
        " AND later.started_at >= earlier.changed_at"
        " WHERE earlier.retrieval_id = ? AND earlier.removed_at IS NOT NULL"
        " ORDER BY later.started_at DESC, later.removed_at IS NOT NULL LIMIT 1",
        (retrieval_id,),
    ).fetchone()
    return None if row is None else _retrieval(row)


def retrievals(tx: Tx, limit: int) -> tuple[RetrievalRow, ...]:
    """Return the latest `limit` retrievals, newest first, without those taken off the list."""
    query = (
        "SELECT * FROM retrievals WHERE removed_at IS NULL"
        " ORDER BY started_at DESC, retrieval_id LIMIT ?"
    )
    return tuple(_retrieval(row) for row in tx.execute(query, (limit,)))


def parked(tx: Tx, limit: int) -> tuple[RetrievalRow, ...]:
    """Return the latest `limit` retrievals that did not come and are still listed, newest first."""
    query = (
        "SELECT * FROM retrievals WHERE state IN (?, ?, ?) AND removed_at IS NULL"
        " ORDER BY changed_at DESC, retrieval_id LIMIT ?"
    )
    return tuple(_retrieval(row) for row in tx.execute(query, (*PARKED, limit)))


def parked_one(tx: Tx, retrieval_id: bytes) -> RetrievalRow | None:
    """Return the retrieval of this id if it did not come and is still listed, or None."""
    query = "SELECT * FROM retrievals WHERE retrieval_id = ? AND removed_at IS NULL"
    row = tx.execute(query, (retrieval_id,)).fetchone()
    return None if row is None or row["state"] not in PARKED else _retrieval(row)


def unpark(tx: Tx, retrieval_id: bytes, now: int) -> None:
    """Take a retrieval off the lists."""
    tx.execute("UPDATE retrievals SET removed_at = ? WHERE retrieval_id = ?", (now, retrieval_id))


def retrievals_of(tx: Tx, study_instance_uid: str) -> tuple[RetrievalRow, ...]:
    """Return every retrieval of a study, oldest first."""
    query = "SELECT * FROM retrievals WHERE study_instance_uid = ? ORDER BY started_at"
    return tuple(_retrieval(row) for row in tx.execute(query, (study_instance_uid,)))


def unfinished(tx: Tx) -> tuple[RetrievalRow, ...]:
    """Return the retrievals to go on with, oldest first."""
    query = "SELECT * FROM retrievals WHERE state IN (?, ?, ?) ORDER BY started_at, retrieval_id"
    return tuple(_retrieval(row) for row in tx.execute(query, UNFINISHED))


def under_way(tx: Tx, origin: PeerId, study_instance_uid: str) -> RetrievalRow | None:
    """Return the unfinished retrieval of a study from an origin, or None."""
    row = tx.execute(
        "SELECT * FROM retrievals WHERE study_instance_uid = ? AND origin = ?"
        " AND state IN (?, ?, ?)",
        (study_instance_uid, origin, *UNFINISHED),
    ).fetchone()
    return None if row is None else _retrieval(row)


def owed_receipts(tx: Tx, origin: PeerId) -> tuple[RetrievalRow, ...]:
    """Return the retrievals from an origin whose receipt has not reached it."""
    query = (
        "SELECT * FROM retrievals WHERE origin = ? AND receipt_payload IS NOT NULL"
        " AND receipt_delivered_at IS NULL ORDER BY started_at"
    )
    return tuple(_retrieval(row) for row in tx.execute(query, (origin,)))


def set_state(
    tx: Tx,
    retrieval_id: bytes,
    state: str,
    now: int,
    code: str = "",
    reason: str = "",
    remedy: str = "",
) -> None:
    """Note where a retrieval stands, and why if it is not simply going on."""
    tx.execute(
        "UPDATE retrievals SET state = ?, changed_at = ?, code = ?, reason = ?, remedy = ?"
        " WHERE retrieval_id = ?",
        (state, now, code, reason, remedy, retrieval_id),
    )


def put_leave(tx: Tx, retrieval_id: bytes, leave: LeaveRow, now: int) -> None:
    """Note the grant that a retrieval runs under, and what it promises."""
    tx.execute(
        "UPDATE retrievals SET state = ?, grant_id = ?, retrieve_handle = ?, manifest_root = ?,"
        " manifest_version = ?, instances = ?, bytes = ?, changed_at = ?, code = '', reason = '',"
        " remedy = '' WHERE retrieval_id = ?",
        (
            State.FETCHING,
            leave.grant_id,
            leave.retrieve_handle,
            leave.manifest_root,
            leave.manifest_version,
            leave.instances,
            leave.bytes,
            now,
            retrieval_id,
        ),
    )


def owners(tx: Tx, pack_ids: Iterable[bytes]) -> dict[bytes, str]:
    """Return the Study Instance UID of each of these packs that is on record."""
    query = "SELECT study_instance_uid FROM packs WHERE pack_id = ?"
    found = ((pack_id, tx.execute(query, (pack_id,)).fetchone()) for pack_id in pack_ids)
    return {pack_id: row["study_instance_uid"] for pack_id, row in found if row is not None}


def expect_packs(tx: Tx, retrieval_id: bytes, pack_ids: Iterable[bytes]) -> None:
    """Note that these packs are arriving; Conflict if one arrives for another retrieval."""
    for pack_id in pack_ids:
        tx.execute(
            "INSERT INTO retrieval_packs VALUES (?, ?, x'') ON CONFLICT DO NOTHING",
            (pack_id, retrieval_id),
        )
        query = "SELECT retrieval_id FROM retrieval_packs WHERE pack_id = ?"
        if tx.execute(query, (pack_id,)).fetchone()["retrieval_id"] != retrieval_id:
            raise Conflict(
                "Another retrieval is receiving a pack of the same id. Wait until it has ended."
            )


def bitmaps(tx: Tx, retrieval_id: bytes) -> dict[bytes, bytes]:
    """Return, for each arriving pack of a retrieval, the bitmap of verified chunks."""
    query = "SELECT pack_id, bitmap FROM retrieval_packs WHERE retrieval_id = ?"
    rows = tx.execute(query, (retrieval_id,)).fetchall()
    return {bytes(row["pack_id"]): bytes(row["bitmap"]) for row in rows}


def put_progress(
    tx: Tx, retrieval_id: bytes, maps: Mapping[bytes, bytes], bytes_verified: int, now: int
) -> None:
    """Note which chunks are verified and durable."""
    tx.executemany(
        "UPDATE retrieval_packs SET bitmap = ? WHERE pack_id = ? AND retrieval_id = ?",
        [(bitmap, pack_id, retrieval_id) for pack_id, bitmap in maps.items()],
    )
    tx.execute(
        "UPDATE retrievals SET bytes_verified = ?, changed_at = ? WHERE retrieval_id = ?",
        (bytes_verified, now, retrieval_id),
    )


def put_own_receipt(tx: Tx, retrieval_id: bytes, receipt: Statement, verified: int) -> None:
    """Note the receipt that we signed, to be delivered."""
    tx.execute(
        "UPDATE retrievals SET receipt_payload = ?, receipt_signature = ?,"
        " receipt_delivered_at = NULL, verified = ? WHERE retrieval_id = ?",
        (receipt.payload, receipt.signature, verified, retrieval_id),
    )


def forget_packs(tx: Tx, retrieval_id: bytes) -> None:
    """Forget that packs are arriving for a retrieval."""
    tx.execute("DELETE FROM retrieval_packs WHERE retrieval_id = ?", (retrieval_id,))


def forget_pack(tx: Tx, pack_id: bytes) -> None:
    """Forget that a pack is arriving."""
    tx.execute("DELETE FROM retrieval_packs WHERE pack_id = ?", (pack_id,))


def receipt_delivered(tx: Tx, retrieval_id: bytes, now: int) -> None:
    """Note that the origin has our receipt."""
    query = "UPDATE retrievals SET receipt_delivered_at = ? WHERE retrieval_id = ?"
    tx.execute(query, (now, retrieval_id))


def _retrieval(row: Row) -> RetrievalRow:
    return RetrievalRow(
        retrieval_id=row["retrieval_id"],
        origin=PeerId(row["origin"]),
        study_instance_uid=row["study_instance_uid"],
        actor=row["actor"],
        state=row["state"],
        grant_id=row["grant_id"],
        retrieve_handle=row["retrieve_handle"],
        manifest_root=row["manifest_root"],
        manifest_version=row["manifest_version"],
        instances=row["instances"],
        verified=row["verified"],
        bytes=row["bytes"],
        bytes_verified=row["bytes_verified"],
        code=row["code"],
        reason=row["reason"],
        remedy=row["remedy"],
        started_at=row["started_at"],
        changed_at=row["changed_at"],
        receipt=statement_of(row["receipt_payload"], row["receipt_signature"]),
        receipt_delivered_at=row["receipt_delivered_at"],
    )
