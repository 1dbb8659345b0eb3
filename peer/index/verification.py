"""How far the check of what is stored is, and what was found damaged: the SQL of `peer.scrub`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peer.index.instances import hashes_in
from peer.index.migrate import Tx
from protocol.manifest import Chunk, lay_out

LOST: Final = "The pack that it is in was missing at the last start, or shorter than it had been."


@dataclass(frozen=True, slots=True)
class Verification:
    """A check of all that is stored; instants are Unix seconds, bytes those of the instances."""

    began_at: int
    ended_at: int | None
    after_pack: bytes
    packs: int
    instances: int
    bytes: int


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """What an instance must be read back as."""

    sop_instance_uid: str
    length: int
    content_hash: bytes
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class StoredPack:
    """A pack with everything that lies in it, keys wrapped."""

    pack_id: bytes
    study_instance_uid: str
    wrapped_study_key: bytes
    wrapped_pack_key: bytes
    instances: tuple[StoredInstance, ...]


@dataclass(frozen=True, slots=True)
class DamagedInstance:
    """An instance that cannot be read back, and why; `origin` as in the study."""

    study_instance_uid: str
    sop_instance_uid: str
    origin: bytes | None
    found_at: int
    reason: str


def current(tx: Tx) -> Verification | None:
    """Return the check that is under way, or the last one."""
    row = tx.execute("SELECT * FROM verification").fetchone()
    if row is None:
        return None
    return Verification(**{name: row[name] for name in Verification.__dataclass_fields__})


def begin(tx: Tx, now: int) -> bool:
    """Begin a check if none is under way; return whether it was begun."""
    under_way = current(tx)
    if under_way is not None and under_way.ended_at is None:
        return False
    tx.execute("INSERT OR REPLACE INTO verification VALUES (1, ?, NULL, x'', 0, 0, 0)", (now,))
    return True


def end(tx: Tx, now: int) -> None:
    """Note that everything was checked."""
    tx.execute("UPDATE verification SET ended_at = ? WHERE ended_at IS NULL", (now,))


def next_pack(tx: Tx, after: bytes) -> StoredPack | None:
    """Return the pack behind `after` by id, None behind the last one."""
    pack = tx.execute(
        "SELECT p.pack_id, p.wrapped_key, p.study_instance_uid, s.wrapped_key AS study_key"
        " FROM packs p JOIN studies s USING (study_instance_uid)"
        " WHERE p.pack_id > ? ORDER BY p.pack_id LIMIT 1",
        (after,),
    ).fetchone()
    if pack is None:
        return None
    rows = tx.execute(
        "SELECT sop_instance_uid, length, content_hash, first_chunk, offset, chunk_hashes"
        " FROM instances WHERE pack_id = ? ORDER BY first_chunk",
        (pack["pack_id"],),
    ).fetchall()
    return StoredPack(
        pack["pack_id"],
        pack["study_instance_uid"],
        pack["study_key"],
        pack["wrapped_key"],
        tuple(
            StoredInstance(
                row["sop_instance_uid"],
                row["length"],
                row["content_hash"],
                lay_out(
                    row["first_chunk"], row["offset"], row["length"], hashes_in(row["chunk_hashes"])
                ),
            )
            for row in rows
        ),
    )


def note(tx: Tx, pack: StoredPack, reasons: Mapping[str, str], now: int) -> None:
    """Put on record what came of checking a pack: `reasons` by SOP Instance UID of what is damaged.

    What is gone meanwhile is not damaged, and what was damaged before and is sound now is so.
    """
    for each in pack.instances:
        uid = each.sop_instance_uid
        tx.execute("DELETE FROM damaged_instances WHERE sop_instance_uid = ?", (uid,))
        if uid in reasons:
            tx.execute(
                "INSERT INTO damaged_instances SELECT sop_instance_uid, ?, ? FROM instances"
                " WHERE sop_instance_uid = ? AND pack_id = ?",
                (now, reasons[uid], uid, pack.pack_id),
            )
    tx.execute(
        "UPDATE verification SET after_pack = ?, packs = packs + 1, instances = instances + ?,"
        " bytes = bytes + ? WHERE ended_at IS NULL",
        (pack.pack_id, len(pack.instances), sum(each.length for each in pack.instances)),
    )


def note_lost(tx: Tx, packs: Iterable[bytes], now: int) -> None:
    """Put on record which packs a start found missing or too short, and that no others are."""
    tx.execute("DELETE FROM damaged_instances WHERE reason = ?", (LOST,))
    tx.executemany(
        "INSERT OR IGNORE INTO damaged_instances SELECT sop_instance_uid, ?, ? FROM instances"
        " WHERE pack_id = ?",
        [(now, LOST, pack_id) for pack_id in packs],
    )


def damaged(tx: Tx, most: int) -> Sequence[DamagedInstance]:
    """Return instances that were found damaged and are still held, by study."""
    rows = tx.execute(
        "SELECT e.study_instance_uid, d.sop_instance_uid, s.origin, d.found_at, d.reason"
        " FROM damaged_instances d JOIN instances i USING (sop_instance_uid)"
        " JOIN series e ON e.series = i.series"
        " JOIN studies s ON s.study_instance_uid = e.study_instance_uid"
        " ORDER BY e.study_instance_uid, d.sop_instance_uid LIMIT ?",
        (most,),
    ).fetchall()
    return [
        DamagedInstance(**{name: row[name] for name in DamagedInstance.__dataclass_fields__})
        for row in rows
    ]


def damaged_of(tx: Tx, study_instance_uid: str, origin: bytes) -> Sequence[str]:
    """Return the SOP Instance UIDs that were found damaged of a study that came from `origin`."""
    rows = tx.execute(
        "SELECT d.sop_instance_uid FROM damaged_instances d JOIN instances i USING"
        " (sop_instance_uid) JOIN series e ON e.series = i.series"
        " JOIN studies s ON s.study_instance_uid = e.study_instance_uid"
        " WHERE s.study_instance_uid = ? AND s.origin = ? ORDER BY i.pack_id, i.first_chunk",
        (study_instance_uid, origin),
    ).fetchall()
    return [row["sop_instance_uid"] for row in rows]


def mended(tx: Tx, sop_instance_uid: str) -> None:
    """Note that an instance is sound again."""
    tx.execute("DELETE FROM damaged_instances WHERE sop_instance_uid = ?", (sop_instance_uid,))


def totals(tx: Tx) -> tuple[int, int, int]:
    """Return the packs and the bytes of all instances on record, and how many are damaged."""
    row = tx.execute(
        "SELECT (SELECT count(*) FROM packs) AS packs,"
        " (SELECT coalesce(sum(stored_bytes), 0) FROM series) AS bytes,"
        " (SELECT count(*) FROM damaged_instances) AS damaged"
    ).fetchone()
    return row["packs"], row["bytes"], row["damaged"]
