"""A study that was retrieved from a partner: its packs stay as they came, under our keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from peer.dicom import Header, read_header
from peer.errors import Conflict, NodeError, NotFound
from peer.index import instances, packs, studies
from peer.index.database import Tx
from peer.index.instances import Placement
from peer.store import (
    Store,
    StoredInstance,
    new_key,
    unwrap_study_key,
    wrap_pack_key,
    wrap_study_key,
)
from protocol.errors import Refusal
from protocol.identifiers import PeerId
from protocol.manifest import InstanceItem, Manifest, SignedManifest, root

WHOLE_BYTES: Final = 8 * 1024 * 1024
"""An instance up to this size is decrypted whole to be checked; a larger one piece by piece."""


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


@dataclass(frozen=True, slots=True)
class Verified:
    """An instance of the manifest whose plain bytes were checked."""

    header: Header
    placement: Placement


class Inspection:
    """Decrypts and checks the instances of one manifest, each once.  Its methods block on the disk.

    Some may be looked at while others are still arriving.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        pack_keys: Mapping[bytes, bytes],
        inflated_bytes: int,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._pack_keys = pack_keys
        self._inflated_bytes = inflated_bytes
        self._seen: dict[str, Verified] = {}

    def look(self, items: Iterable[InstanceItem]) -> None:
        """Check instances that have arrived in packs that have not; what is wrong, `verified` says.

        So a study with a wrong instance ends as one in which that is found last.
        """
        for item in items:
            with suppress(Refusal, NodeError):
                self._seen[item.sop_instance_uid] = self._verify(item, arriving=True)

    def verified(self) -> list[Verified]:
        """Return every instance of the manifest, all of whose packs are whole by now.

        Raises Refusal "wrong-content" if any is not what the manifest says, Damaged if a pack does
        not decrypt under its key.
        """
        return [
            self._seen.get(item.sop_instance_uid) or self._verify(item)
            for item in self._manifest.instances
        ]

    def _verify(self, item: InstanceItem, *, arriving: bool = False) -> Verified:
        pack_id = self._manifest.packs[item.pack]
        key = self._pack_keys[pack_id]
        with self._store.open(pack_id, key, item.chunks, arriving=arriving) as content:
            return _checked(self._manifest, pack_id, item, content, self._inflated_bytes)


def _checked(
    manifest: Manifest,
    pack_id: bytes,
    item: InstanceItem,
    content: StoredInstance,
    inflated_bytes: int,
) -> Verified:
    # In one reading as a rule: what is small is whole in memory.
    data = content.read() if len(content) <= WHOLE_BYTES else content
    try:
        header = read_header(data, inflated_bytes)
    except Refusal as error:
        raise _wrong_content() from error
    pieces = content.pieces() if data is content else iter((data[:],))
    content_hash, data_set_hash = _hashes(pieces, header.data_set_offset)
    if content_hash != item.content_hash:
        raise _wrong_content()
    named = (
        header.study.study_instance_uid,
        header.series.series_instance_uid,
        header.instance.sop_instance_uid,
        header.instance.sop_class_uid,
        header.instance.transfer_syntax_uid,
    )
    if named != (
        manifest.study_instance_uid,
        item.series_instance_uid,
        item.sop_instance_uid,
        item.sop_class_uid,
        item.transfer_syntax_uid,
    ):
        raise _wrong_content()
    placement = Placement(
        pack_id=pack_id,
        length=item.length,
        content_hash=item.content_hash,
        data_set_hash=data_set_hash,
        first_chunk=item.first_chunk,
        offset=item.offset,
        chunk_hashes=item.chunk_hashes,
    )
    return Verified(header, placement)


def _hashes(pieces: Iterator[bytes], data_set_offset: int) -> tuple[bytes, bytes]:
    """Return the hashes of an instance and of its data set."""
    whole, data_set = blake3(), blake3()
    for piece in pieces:
        whole.update(piece)
        data_set.update(memoryview(piece)[data_set_offset:])
        data_set_offset = max(0, data_set_offset - len(piece))
    return whole.digest(), data_set.digest()


def _wrong_content() -> Refusal:
    return Refusal(
        "wrong-content",
        "An instance is not what the origin's manifest says it is.",
        "Nothing of the study was kept. Tell the facility that sent it.",
    )


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
