"""A file that is encrypted and read in one go, and whose end cannot be cut off.

header (24 B) ‖ chunks.  Each chunk is CHUNK_BYTES of content, the last one fewer, in libsodium's
secretstream (XChaCha20-Poly1305) under a key of this file alone: chunks that are altered, left out
or in another order do not open, and only the last one carries the final tag.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from blake3 import blake3
from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_ABYTES,
    crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_pull,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
)

from peer.backup.manifest import Member
from peer.errors import Damaged
from protocol.hashing import derive

HEADER_BYTES: Final = int(crypto_secretstream_xchacha20poly1305_HEADERBYTES)
CHUNK_BYTES: Final = 1024 * 1024
"""Content of a chunk: large enough that its 17 bytes of overhead are nothing, small in memory."""
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + int(crypto_secretstream_xchacha20poly1305_ABYTES)

_CONTEXT: Final = "openpriors 1 file of a backup"
_FINAL: Final = int(crypto_secretstream_xchacha20poly1305_TAG_FINAL)
_MORE: Final = int(crypto_secretstream_xchacha20poly1305_TAG_MESSAGE)


def key_of(set_key: bytes, name: str) -> bytes:
    """Return the key of the file `name` of a set: no two files, and no two sets, share one."""
    return derive(_CONTEXT, set_key + name.encode("ascii"))


def seal(source: BinaryIO, target: BinaryIO, key: bytes) -> Member:
    """Encrypt all of `source` into `target`; return the sizes and the hash of what was written."""
    state = crypto_secretstream_xchacha20poly1305_state()
    hasher = blake3()
    sealed = crypto_secretstream_xchacha20poly1305_init_push(state, key)
    hasher.update(sealed)
    stored, size = target.write(sealed), 0
    piece = source.read(CHUNK_BYTES)
    while True:
        following = source.read(CHUNK_BYTES)
        tag = _MORE if following else _FINAL
        sealed = crypto_secretstream_xchacha20poly1305_push(state, piece, None, tag)
        hasher.update(sealed)
        stored += target.write(sealed)
        size += len(piece)
        if not following:
            return Member(size=size, stored=stored, hash=hasher.hexdigest())
        piece = following


def pieces(source: BinaryIO, key: bytes) -> Iterator[bytes]:
    """Yield the content of a sealed file; raise Damaged if any of it is not as it was written."""
    state = crypto_secretstream_xchacha20poly1305_state()
    tag = _MORE
    try:
        crypto_secretstream_xchacha20poly1305_init_pull(state, source.read(HEADER_BYTES), key)
        while tag != _FINAL:
            sealed = source.read(SEALED_CHUNK_BYTES)
            content, tag = crypto_secretstream_xchacha20poly1305_pull(state, sealed, None)
            yield content
    except (RuntimeError, ValueError, TypeError) as error:
        raise _altered() from error
    if source.read(1):
        raise _altered()


def _altered() -> Damaged:
    return Damaged("A file of the backup was altered or cut short. Use another set, or a copy.")
