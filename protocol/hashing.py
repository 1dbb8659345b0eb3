"""BLAKE3 with one-byte domain tags, and the Merkle tree of RFC 6962 over it.

Every hash in the protocol is `tagged(TAG, ...)` over length-fixed parts, so that no value of one
kind can be read as a value of another (second pre-images across kinds).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Sequence

HASH_BYTES: Final = 32

_SHORT_BYTES: Final = 4096
"""Up to here it is cheaper to join the parts than to hash them one by one."""

LEAF: Final = b"\x00"
NODE: Final = b"\x01"
COMMITMENT: Final = b"\x02"
WITHDRAWAL: Final = b"\x03"
HEADER: Final = b"\x04"
CHUNK: Final = b"\x05"
INSTANCE: Final = b"\x06"
MANIFEST: Final = b"\x07"
LISTED: Final = b"\x08"
HOLDING: Final = b"\x09"

EMPTY_ROOT: Final = blake3(b"").digest()
"""Root of a tree without leaves (RFC 6962 section 2.1)."""


def plain_hash(data: bytes | bytearray | memoryview) -> bytes:
    """Return BLAKE3 of the bytes themselves: the content hash of an instance, 32 B."""
    return blake3(data).digest()


def tagged(tag: bytes, *parts: bytes) -> bytes:
    """Return BLAKE3(tag ‖ parts...), 32 B.  All parts but the last must have a fixed length."""
    if len(parts[-1]) <= _SHORT_BYTES:
        return blake3(tag + b"".join(parts)).digest()
    hasher = blake3(tag)
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def keyed(key: bytes, data: bytes) -> bytes:
    """Return the keyed BLAKE3 (a MAC and PRF) of `data` under a 32-byte key, 32 B."""
    return blake3(data, key=key).digest()


def derive(context: str, key_material: bytes, length: int = HASH_BYTES) -> bytes:
    """Return `length` bytes from BLAKE3's key derivation mode.

    `context` is a constant of the program and `key_material` may be secret (BLAKE3 paper, 6.2).
    """
    return blake3(key_material, derive_key_context=context).digest(length=length)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes, each already domain-tagged (RFC 6962 section 2.1)."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        paired = [tagged(NODE, level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]
