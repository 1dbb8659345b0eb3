"""Symmetric boxes (ChaCha20-Poly1305, RFC 8439) and sealed boxes to an X25519 key (RFC 7748)."""

from __future__ import annotations

from typing import Final

from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from protocol.errors import BadSignature, Malformed
from protocol.hashing import derive

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
SECRET_BYTES: Final = 32

_ANY_SECRET: Final = bytes(range(SECRET_BYTES))
"""Keeps no secret: a point of small order gives zero with each."""

_SEALED_BOX: Final = "openpriors 1 sealed box"


def encrypt(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes = b"") -> bytes:
    """Return ciphertext ‖ tag.  A (key, nonce) pair must never meet a second plaintext."""
    return crypto_aead_chacha20poly1305_ietf_encrypt(plaintext, associated, nonce, key)


def decrypt(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes = b"") -> bytes:
    """Return the plaintext; raise BadSignature if key, nonce, data or `associated` do not fit."""
    try:
        return crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, associated, nonce, key)
    except CryptoError as error:
        msg = "a sealed box does not open under this key"
        raise BadSignature(msg) from error


def exchange_public_key(secret: bytes) -> bytes:
    """Return the X25519 public key of a 32-byte secret."""
    return crypto_scalarmult_base(secret)


def is_exchange_key(public: bytes) -> bool:
    """Return whether `public` is an X25519 key that one can seal to.

    Not so the few points of small order (RFC 7748 section 6.1): with them every shared secret is
    zero, so anyone could open the box.
    """
    try:
        crypto_scalarmult(_ANY_SECRET, public)
    except (CryptoError, RuntimeError):
        return False
    return True


def seal(recipient: bytes, ephemeral_secret: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Return ephemeral public key (32 B) ‖ ciphertext ‖ tag for the holder of `recipient`.

    `ephemeral_secret`: 32 fresh random bytes, used for this box only and then forgotten.
    """
    ephemeral_public = crypto_scalarmult_base(ephemeral_secret)
    shared = crypto_scalarmult(ephemeral_secret, recipient)
    key, nonce = _box_key(shared, ephemeral_public, recipient)
    return ephemeral_public + encrypt(key, nonce, plaintext, associated)


def unseal(secret: bytes, box: bytes, associated: bytes) -> bytes:
    """Return the plaintext of a box sealed to `secret`'s public key; raise BadSignature if not."""
    if len(box) < KEY_BYTES + TAG_BYTES:
        msg = "a sealed box is shorter than its key and tag"
        raise Malformed(msg)
    ephemeral_public, ciphertext = box[:KEY_BYTES], box[KEY_BYTES:]
    try:
        shared = crypto_scalarmult(secret, ephemeral_public)
    except (CryptoError, RuntimeError) as error:
        msg = "a sealed box carries an invalid ephemeral key"
        raise Malformed(msg) from error
    key, nonce = _box_key(shared, ephemeral_public, crypto_scalarmult_base(secret))
    return decrypt(key, nonce, ciphertext, associated)


def _box_key(shared: bytes, ephemeral_public: bytes, recipient: bytes) -> tuple[bytes, bytes]:
    material = derive(_SEALED_BOX, shared + ephemeral_public + recipient, KEY_BYTES + NONCE_BYTES)
    return material[:KEY_BYTES], material[KEY_BYTES:]
