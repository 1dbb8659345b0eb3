"""A study that was retrieved from a partner: its packs stay as they came, under our keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peer.errors import Conflict, NotFound
from peer.index import instances, packs, studies
from peer.index.database import Tx
from peer.ingest.inspection import Verified
from peer.store import new_key, unwrap_study_key, wrap_pack_key, wrap_study_key
from protocol.identifiers import PeerId
from protocol.manifest import Manifest, SignedManifest, root


@dataclass(frozen=True, slots=True)
class ReceivedStudy:
    """A whole study from a partner: manifest verified, every chunk verified, packs in the store."""

    origin: PeerId
    manifest: Manifest
    signed: SignedManifest
    pack_keys: Mapping[bytes, bytes]
    """Plain key of every pack that the manifest names."""
    pack_sizes: Mapping[bytes, int]


@dataclass(frozen=True, slots=True)
class Adopted:
    """What an adoption brought."""

    instances: int
    """Instances of the manifest, all of them held now."""
    added: int
    """Those that were not held before."""
    surplus: tuple[bytes, ...]
    """Packs that hold nothing that was not held before: they are not on record."""


def record(
    tx: Tx, received: ReceivedStudy, verified: list[Verified], store_key: bytes, now: int
) -> tuple[Adopted, int]:
    """Put a verified study on record, settled; return what came of it, and its patient.

    Raises Conflict, and changes nothing, if another source's study of this UID is held or an
    instance is held with other content: studies of two facilities are never mixed.
    """
    uid = received.manifest.study_instance_uid
    fresh = _not_held(tx, verified)
    _check_origin(tx, uid, received.origin, needed=bool(fresh))
    wrapped = packs.wrapped_study_key(tx, uid)
    if wrapped is None:
        study_key = new_key()
        wrapped = wrap_study_key(store_key, study_key, uid)
    else:
        study_key = unwrap_study_key(store_key, wrapped, uid)
    recorded: set[bytes] = set()
    for each in fresh:
        instances.add_study(
            tx,
            each.header,
            issuer=_issuer(received.origin),
            wrapped_key=wrapped,
            origin=received.origin,
            now=now,
        )
        pack_id = each.placement.pack_id
        if pack_id not in recorded:
            key = wrap_pack_key(study_key, received.pack_keys[pack_id], pack_id)
            packs.put(tx, packs.PackRow(pack_id, uid, key, received.pack_sizes[pack_id]))
            recorded.add(pack_id)
        instances.add_instance(tx, each.header, each.placement)
    study = studies.get(tx, uid)
    if study is None:
        raise NotFound("The manifest names no instance, so there is no study to keep.")
    if study.origin == received.origin:
        _put_manifest(tx, received, now)
    studies.settle(tx, uid, now)
    surplus = tuple(pack for pack in received.manifest.packs if not packs.is_known(tx, pack))
    return Adopted(len(verified), len(fresh), surplus), study.patient


def _not_held(tx: Tx, verified: list[Verified]) -> list[Verified]:
    held = instances.known(tx, [each.header.instance.sop_instance_uid for each in verified])
    fresh = []
    for each in verified:
        known = held.get(each.header.instance.sop_instance_uid)
        if known is None:
            fresh.append(each)
        elif known.data_set_hash != each.placement.data_set_hash:
            raise Conflict(
                "An instance of this study is held here already with other content; nothing was "
                "kept. Compare the two facilities' copies before retrieving it again."
            )
    return fresh


def _check_origin(tx: Tx, uid: str, origin: PeerId, *, needed: bool) -> None:
    study = studies.get(tx, uid)
    if needed and study is not None and study.origin != origin:
        raise Conflict(
            "A study of this UID is held here already from another source; nothing was merged. "
            "Remove the copy held here if the other one is to take its place."
        )


def _issuer(origin: PeerId) -> str:
    """Name the issuer of Patient IDs that a facility left unnamed, so that no two are mixed."""
    return f"peer:{origin.hex()}"


def _put_manifest(tx: Tx, received: ReceivedStudy, now: int) -> None:
    uid, version = received.manifest.study_instance_uid, received.manifest.version
    row = packs.ManifestRow(version, root(received.manifest), received.signed, now)
    packs.put_manifest(tx, uid, row)
