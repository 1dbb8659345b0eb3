"""Domain-separated Ed25519 (RFC 8032): nothing signed for one purpose verifies for another."""

from __future__ import annotations

from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from protocol.errors import BadSignature, LocalProtocolError

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_PREFIX: Final = b"openpriors/1 "
"""Starts every signed string; the number is that of the signing rule, not of the protocol."""


def _message(domain: str, payload: bytes) -> bytes:
    return _PREFIX + domain.encode("ascii") + b"\0" + payload


def public_key(seed: bytes) -> bytes:
    """Return the 32-byte public key of a 32-byte Ed25519 seed."""
    if len(seed) != SEED_BYTES:
        msg = f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}"
        raise LocalProtocolError(msg)
    return crypto_sign_seed_keypair(seed)[0]


def sign(seed: bytes, domain: str, payload: bytes) -> bytes:
    """Return the 64-byte signature of `payload` under `domain`, a constant such as "header"."""
    _, secret_key = crypto_sign_seed_keypair(seed)
    return crypto_sign(_message(domain, payload), secret_key)[:SIGNATURE_BYTES]


def verify(key: bytes, domain: str, payload: bytes, signature: bytes) -> None:
    """Return if `signature` is `key`'s over `payload` in `domain`; raise BadSignature if not."""
    if len(signature) != SIGNATURE_BYTES or len(key) != PUBLIC_KEY_BYTES:
        msg = f"a {domain} signature or key has the wrong length"
        raise BadSignature(msg)
    try:
        crypto_sign_open(signature + _message(domain, payload), key)
    except BadSignatureError as error:
        msg = f"the {domain} is not signed by the key that is pinned for its author"
        raise BadSignature(msg) from error
