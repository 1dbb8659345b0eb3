"""The manifest of one study: which bytes make it up, and the root hash that stands for them all.

A study is kept and served as *packs*: runs of encrypted chunks, numbered from 0 within the pack.
An instance fills consecutive chunks of one pack; all but its last hold CHUNK_PLAIN_BYTES of plain
bytes, so position and length of every chunk follow from where the first one lies and from the
length of the instance: a manifest can describe no overlapping, reordered or missing chunk.

The root is a Merkle tree in two storeys (`protocol.hashing`), so that a single chunk can be proved
against it without naming another instance:

    chunk leaf     = H(CHUNK ‖ pack id ‖ number (8 B BE) ‖ chunk hash)
    instance leaf  = H(INSTANCE ‖ chunks' root ‖ number of chunks (4 B BE) ‖ content hash ‖ record)
    root           = H(MANIFEST ‖ version (8 B BE) ‖ number of instances (4 B BE) ‖ instances' root
                       ‖ study instance UID)

A chunk hash is BLAKE3 of the ciphertext with its tag: once several facilities hold a pack key, only
the hash still proves whose bytes they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

from protocol.errors import Malformed, WrongContent
from protocol.hashing import CHUNK, INSTANCE, MANIFEST, merkle_root, tagged
from protocol.identifiers import UID_CHARACTERS, is_uid
from protocol.limits import (
    CHUNK_PLAIN_BYTES,
    CHUNK_TAG_BYTES,
    CONTAINER_ITEMS,
    INSTANCE_BYTES,
    MANIFEST_BYTES,
    MANIFEST_PACKS,
    PACK_CHUNKS,
)
from protocol.records import (
    Hash,
    Id16,
    Natural,
    Range,
    Signature,
    Size,
    from_bytes,
    to_bytes,
)
from protocol.signing import verify

DOMAIN: Final = "manifest"
CHUNK_BYTES: Final = CHUNK_PLAIN_BYTES + CHUNK_TAG_BYTES

Uid: TypeAlias = Annotated[str, Size(1, UID_CHARACTERS)]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One encrypted chunk of a pack: `offset` and `length` are bytes of ciphertext with tag."""

    number: int
    offset: int
    length: int
    hash: bytes
    last: bool
    """Whether it is the last chunk of its instance."""


@dataclass(frozen=True, slots=True)
class InstanceItem:
    """One instance: its names, and where in which pack its bytes are.

    `length` and `content_hash` are of the plain bytes; `pack` is an index into Manifest.packs;
    `first_chunk` and `offset` are number and position of the first chunk in that pack.
    """

    sop_class_uid: Uid
    sop_instance_uid: Uid
    series_instance_uid: Uid
    transfer_syntax_uid: Uid
    length: Annotated[int, Range(1, INSTANCE_BYTES)]
    content_hash: Hash
    pack: Annotated[int, Range(0, MANIFEST_PACKS - 1)]
    first_chunk: Natural
    offset: Natural
    chunk_hashes: Annotated[tuple[Hash, ...], Size(1, CONTAINER_ITEMS)]

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks of the instance, in order."""
        return lay_out(self.first_chunk, self.offset, self.length, self.chunk_hashes)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The chunk list of one study in one version; a study that grows gets a higher version."""

    version: Annotated[int, Range(1, 2**32 - 1)]
    study_instance_uid: Uid
    packs: Annotated[tuple[Id16, ...], Size(0, MANIFEST_PACKS)]
    instances: Annotated[tuple[InstanceItem, ...], Size(0, CONTAINER_ITEMS)]


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """The bytes of a Manifest and its origin's signature over them."""

    manifest: Annotated[bytes, Size(0, MANIFEST_BYTES)]
    signature: Signature


def chunk_count(length: int) -> int:
    """Return the number of chunks that an instance of `length` plain bytes fills."""
    return -(-length // CHUNK_PLAIN_BYTES)


def lay_out(
    first_chunk: int, offset: int, length: int, hashes: tuple[bytes, ...]
) -> tuple[Chunk, ...]:
    """Return the chunks of `length` plain bytes that begin at `offset` of a pack.

    Raise Malformed if there is not one hash for each chunk.
    """
    count = chunk_count(length)
    if count != len(hashes):
        msg = f"{len(hashes)} chunk hashes where {length} bytes fill {count} chunks"
        raise Malformed(msg)
    return tuple(
        Chunk(
            number=first_chunk + index,
            offset=offset + index * CHUNK_BYTES,
            length=min(CHUNK_PLAIN_BYTES, length - index * CHUNK_PLAIN_BYTES) + CHUNK_TAG_BYTES,
            hash=each,
            last=index == count - 1,
        )
        for index, each in enumerate(hashes)
    )


def root(manifest: Manifest) -> bytes:
    """Return the 32-byte hash that commits to everything in the manifest."""
    instances = [_instance_leaf(manifest.packs, item) for item in manifest.instances]
    return tagged(
        MANIFEST,
        manifest.version.to_bytes(8, "big"),
        len(instances).to_bytes(4, "big"),
        merkle_root(instances),
        manifest.study_instance_uid.encode("ascii"),
    )


def sign_manifest(manifest: Manifest, sign_bytes: Callable[[bytes], bytes]) -> SignedManifest:
    """Return the manifest as it travels; `sign_bytes` is the node's, in the domain "manifest"."""
    data = to_bytes(manifest)
    return SignedManifest(data, sign_bytes(data))


def open_manifest(signed: SignedManifest, node_key: bytes, expected_root: bytes) -> Manifest:
    """Return the manifest that `node_key` signed and whose root was promised before.

    Raise BadSignature, Malformed, or WrongContent if it is validly signed but not the promised one.
    """
    verify(node_key, DOMAIN, signed.manifest, signed.signature)
    manifest = read_manifest(signed.manifest)
    if root(manifest) != expected_root:
        msg = "the manifest is not the one whose root was promised for this study"
        raise WrongContent(msg)
    return manifest


def read_manifest(data: bytes) -> Manifest:
    """Return the manifest in `data`; raise Oversized or Malformed if it is not a possible one."""
    manifest = from_bytes(Manifest, data, MANIFEST_BYTES)
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Raise Malformed unless every UID is one, every chunk is placed, and no two overlap."""
    if len(set(manifest.packs)) != len(manifest.packs):
        msg = "a manifest names one pack twice"
        raise Malformed(msg)
    if not is_uid(manifest.study_instance_uid):
        msg = "the study of a manifest is not named by a UID"
        raise Malformed(msg)
    names = {item.sop_instance_uid for item in manifest.instances}
    if len(names) != len(manifest.instances):
        msg = "a manifest names one instance twice"
        raise Malformed(msg)
    for item in manifest.instances:
        _check_item(item, len(manifest.packs))
    _check_overlap(manifest)


def _check_item(item: InstanceItem, packs: int) -> None:
    uids = (
        item.sop_class_uid,
        item.sop_instance_uid,
        item.series_instance_uid,
        item.transfer_syntax_uid,
    )
    if not all(is_uid(uid) for uid in uids):
        msg = "an instance of a manifest is not named by UIDs"
        raise Malformed(msg)
    if item.pack >= packs:
        msg = f"an instance lies in pack {item.pack} of {packs}"
        raise Malformed(msg)
    if len(item.chunk_hashes) != chunk_count(item.length):
        msg = "an instance of a manifest has more or fewer chunks than its length fills"
        raise Malformed(msg)
    # Whoever receives a pack keeps a bit for each number below the highest, and room for the bytes.
    within = item.first_chunk + len(item.chunk_hashes) <= PACK_CHUNKS
    least, most = item.first_chunk * (CHUNK_TAG_BYTES + 1), item.first_chunk * CHUNK_BYTES
    if not within or not least <= item.offset <= most:
        msg = "an instance of a manifest lies where no chunk of a pack can be"
        raise Malformed(msg)


def _check_overlap(manifest: Manifest) -> None:
    order = sorted(manifest.instances, key=lambda item: (item.pack, item.first_chunk))
    for before, after in pairwise(order):
        if before.pack != after.pack:
            continue
        end = before.chunks[-1]
        if after.first_chunk <= end.number or after.offset < end.offset + end.length:
            msg = "two instances of a manifest share a chunk"
            raise Malformed(msg)


def _instance_leaf(packs: tuple[bytes, ...], item: InstanceItem) -> bytes:
    chunks = [
        tagged(CHUNK, packs[item.pack], (item.first_chunk + index).to_bytes(8, "big"), each)
        for index, each in enumerate(item.chunk_hashes)
    ]
    return tagged(
        INSTANCE,
        merkle_root(chunks),
        len(chunks).to_bytes(4, "big"),
        item.content_hash,
        to_bytes(replace(item, chunk_hashes=())),
    )
