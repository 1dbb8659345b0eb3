"""Keys under keys: XChaCha20-Poly1305 with a random nonce, bound to what the key is for."""

from __future__ import annotations

import secrets
from typing import Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from peer.errors import Damaged

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
"""Long enough to be drawn at random without counting (draft-irtf-cfrg-xchacha section 3.1)."""

_STUDY: Final = b"study key "
_PACK: Final = b"pack key "


def new_key() -> bytes:
    """Return 32 fresh random bytes."""
    return secrets.token_bytes(KEY_BYTES)


def wrap(key: bytes, secret: bytes, context: bytes) -> bytes:
    """Return `secret` encrypted under `key` (32 B); it opens only with the same `context`."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(secret, context, nonce, key)


def unwrap(key: bytes, box: bytes, context: bytes) -> bytes:
    """Return the secret in `box`; raise Damaged if key, box or context are not the right ones."""
    nonce, ciphertext = box[:NONCE_BYTES], box[NONCE_BYTES:]
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, context, nonce, key)
    except (CryptoError, ValueError) as error:
        msg = (
            "A wrapped key does not open. Check that keys and index belong to the same data "
            "directory; if they do, restore both from one backup."
        )
        raise Damaged(msg) from error


def wrap_study_key(store_key: bytes, study_key: bytes, study_instance_uid: str) -> bytes:
    """Return a study's key under the node's store key."""
    return wrap(store_key, study_key, _STUDY + study_instance_uid.encode())


def unwrap_study_key(store_key: bytes, wrapped: bytes, study_instance_uid: str) -> bytes:
    """Return the study's key; raise Damaged if it does not open."""
    return unwrap(store_key, wrapped, _STUDY + study_instance_uid.encode())


def wrap_pack_key(study_key: bytes, pack_key: bytes, pack_id: bytes) -> bytes:
    """Return a pack's key under its study's key."""
    return wrap(study_key, pack_key, _PACK + pack_id)


def unwrap_pack_key(study_key: bytes, wrapped: bytes, pack_id: bytes) -> bytes:
    """Return the pack's key; raise Damaged if it does not open."""
    return unwrap(study_key, wrapped, _PACK + pack_id)
