"""Packs and study keys on record, and the manifests made from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peer.index import patients
from peer.index.instances import hashes_in
from peer.index.migrate import Tx
from protocol.manifest import InstanceItem, Manifest, SignedManifest


@dataclass(frozen=True, slots=True)
class PackRow:
    """A pack of a study: its wrapped key and how much of its file is on record."""

    pack_id: bytes
    study_instance_uid: str
    wrapped_key: bytes
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One signed version of a study's manifest."""

    version: int
    root: bytes
    signed: SignedManifest
    made_at: int


def put(tx: Tx, pack: PackRow) -> None:
    """Record a pack, or that more of it is durable."""
    tx.execute(
        "INSERT INTO packs (pack_id, study_instance_uid, wrapped_key, bytes) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (pack_id) DO UPDATE SET bytes = excluded.bytes",
        (pack.pack_id, pack.study_instance_uid, pack.wrapped_key, pack.stored_bytes),
    )


def of_study(tx: Tx, study_instance_uid: str) -> list[PackRow]:
    """Return the packs of a study."""
    rows = tx.execute(
        "SELECT * FROM packs WHERE study_instance_uid = ? ORDER BY pack_id", (study_instance_uid,)
    ).fetchall()
    return [
        PackRow(row["pack_id"], row["study_instance_uid"], row["wrapped_key"], row["bytes"])
        for row in rows
    ]


def is_known(tx: Tx, pack_id: bytes) -> bool:
    """Return whether the pack is on record."""
    row = tx.execute("SELECT 1 FROM packs WHERE pack_id = ?", (pack_id,)).fetchone()
    return row is not None


def size(tx: Tx, pack_id: bytes) -> int | None:
    """Return how many bytes of a pack are on record, None if it is not."""
    row = tx.execute("SELECT bytes FROM packs WHERE pack_id = ?", (pack_id,)).fetchone()
    return None if row is None else int(row["bytes"])


def arriving(tx: Tx) -> frozenset[bytes]:
    """Return the ids of the packs that retrievals under way are receiving."""
    rows = tx.execute("SELECT pack_id FROM retrieval_packs")
    return frozenset(bytes(row["pack_id"]) for row in rows)


def sizes(tx: Tx) -> dict[bytes, int]:
    """Return how many bytes of each pack are on record."""
    rows = tx.execute("SELECT pack_id, bytes FROM packs").fetchall()
    return {row["pack_id"]: row["bytes"] for row in rows}


def wrapped_study_key(tx: Tx, study_instance_uid: str) -> bytes | None:
    """Return the study's key under the store key, or None if there is no such study."""
    row = tx.execute(
        "SELECT wrapped_key FROM studies WHERE study_instance_uid = ?", (study_instance_uid,)
    ).fetchone()
    return None if row is None else bytes(row["wrapped_key"])


def remove_study(tx: Tx, study_instance_uid: str) -> tuple[bytes, ...]:
    """Delete the study with its key, series, instances and manifests; return its packs' ids.

    The packs on the disk are unreadable once this is committed and the write-ahead log truncated.
    A patient of whom no study is left is deleted too.
    """
    ids = tuple(pack.pack_id for pack in of_study(tx, study_instance_uid))
    row = tx.execute(
        "SELECT patient FROM studies WHERE study_instance_uid = ?", (study_instance_uid,)
    ).fetchone()
    tx.execute("DELETE FROM studies WHERE study_instance_uid = ?", (study_instance_uid,))
    if row is not None:
        patients.delete_unused(tx, row["patient"])
    return ids


def build_manifest(tx: Tx, study_instance_uid: str) -> Manifest:
    """Return the manifest of what the study holds now, under the version after the last one."""
    rows = tx.execute(_ITEMS, (study_instance_uid,)).fetchall()
    order = {pack: index for index, pack in enumerate(dict.fromkeys(r["pack_id"] for r in rows))}
    version = tx.execute(
        "SELECT manifest_version FROM studies WHERE study_instance_uid = ?", (study_instance_uid,)
    ).fetchone()
    return Manifest(
        version=1 if version is None else version["manifest_version"] + 1,
        study_instance_uid=study_instance_uid,
        packs=tuple(order),
        instances=tuple(
            InstanceItem(
                sop_class_uid=row["sop_class_uid"],
                sop_instance_uid=row["sop_instance_uid"],
                series_instance_uid=row["series_instance_uid"],
                transfer_syntax_uid=row["transfer_syntax_uid"],
                length=row["length"],
                content_hash=row["content_hash"],
                pack=order[row["pack_id"]],
                first_chunk=row["first_chunk"],
                offset=row["offset"],
                chunk_hashes=hashes_in(row["chunk_hashes"]),
            )
            for row in rows
        ),
    )


_ITEMS: Final = """
SELECT i.*, e.series_instance_uid FROM instances i JOIN series e ON e.series = i.series
WHERE e.study_instance_uid = ?
ORDER BY e.series_number IS NULL, e.series_number, e.series_instance_uid,
    i.instance_number IS NULL, i.instance_number, i.sop_instance_uid
"""


def put_manifest(tx: Tx, study_instance_uid: str, manifest: ManifestRow) -> None:
    """Record a signed version, which becomes the study's current one."""
    tx.execute(
        "INSERT OR REPLACE INTO manifests"
        " (study_instance_uid, version, manifest, signature, root, made_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            study_instance_uid,
            manifest.version,
            manifest.signed.manifest,
            manifest.signed.signature,
            manifest.root,
            manifest.made_at,
        ),
    )
    tx.execute(
        "UPDATE studies SET manifest_version = ? WHERE study_instance_uid = ?",
        (manifest.version, study_instance_uid),
    )


def get_manifest(tx: Tx, study_instance_uid: str, version: int | None = None) -> ManifestRow | None:
    """Return a signed version of the study's manifest, the current one without `version`."""
    row = tx.execute(
        "SELECT m.* FROM manifests m JOIN studies s USING (study_instance_uid)"
        " WHERE m.study_instance_uid = ?1 AND m.version = coalesce(?2, s.manifest_version)",
        (study_instance_uid, version),
    ).fetchone()
    if row is None:
        return None
    signed = SignedManifest(row["manifest"], row["signature"])
    return ManifestRow(row["version"], row["root"], signed, row["made_at"])
