"""Oblivious pseudorandom function: RFC 9497 OPRF mode with ristretto255-SHA512.

A searcher `blind`s a match key, the origin `evaluate`s it without seeing it, and the searcher
`finalize`s.  The origin gets the same output for its own records with `evaluate_directly`.

Scalars and group elements are 32 bytes, little-endian and canonical (RFC 9497 section 4.1);
outputs are 64 bytes.  A scalar or message that is wrong is ours (LocalProtocolError); an element
that is wrong came from the other side (Malformed).
"""

from __future__ import annotations

import hashlib
from typing import Final

import rbcl

from protocol.errors import LocalProtocolError, Malformed

SCALAR_BYTES: Final = 32
ELEMENT_BYTES: Final = 32
SEED_BYTES: Final = 32
RANDOM_BYTES: Final = 64
"""Uniform bytes for one scalar: twice the order's length, so that reducing leaves no bias."""

INPUT_BYTES: Final = 2**16 - 1
"""Longest message and key info; both are hashed behind a two-byte length (RFC 9497 section 1.2)."""

_CONTEXT: Final = b"OPRFV1-\x00-ristretto255-SHA512"
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_FIELD: Final = 2**255 - 19
_IDENTITY: Final = bytes(ELEMENT_BYTES)
_SHA512_BLOCK_BYTES: Final = 128
_DERIVE_ATTEMPTS: Final = 256


def derive_key(seed: bytes, info: bytes) -> bytes:
    """Return the secret scalar of DeriveKeyPair (RFC 9497 section 3.2.1).

    `seed` is 32 secret bytes; `info` names the key's use, at most 65,535 bytes.
    """
    if len(seed) != SEED_BYTES:
        msg = f"the seed of an evaluation key has {SEED_BYTES} bytes, not {len(seed)}"
        raise LocalProtocolError(msg)
    derive_input = seed + _prefixed(info)
    for counter in range(_DERIVE_ATTEMPTS):
        uniform = _expand(derive_input + bytes([counter]), b"DeriveKeyPair" + _CONTEXT)
        scalar: bytes = rbcl.crypto_core_ristretto255_scalar_reduce(uniform)
        if any(scalar):
            return scalar
    msg = "no evaluation key follows from this seed; draw another one"
    raise LocalProtocolError(msg)


def scalar_from_random(random64: bytes) -> bytes:
    """Return the scalar that 64 uniform bytes reduce to; it may serve as a blind."""
    if len(random64) != RANDOM_BYTES:
        msg = f"a random scalar is made from {RANDOM_BYTES} bytes, not {len(random64)}"
        raise LocalProtocolError(msg)
    return _checked_scalar(rbcl.crypto_core_ristretto255_scalar_reduce(bytes(random64)))


def is_scalar(scalar: bytes) -> bool:
    """Return whether 32 bytes may serve as a key or blind: reduced, and not zero."""
    return len(scalar) == SCALAR_BYTES and 0 < int.from_bytes(scalar, "little") < _ORDER


def hash_to_group(message: bytes) -> bytes:
    """Return the element of HashToGroup (RFC 9497 section 4.1, RFC 9380 section 5.3.1)."""
    _prefixed(message)
    uniform = _expand(message, b"HashToGroup-" + _CONTEXT)
    element: bytes = rbcl.crypto_core_ristretto255_from_hash(uniform)
    if element == _IDENTITY:
        msg = "this message has no element (it hashes to the identity); change the message"
        raise LocalProtocolError(msg)
    return element


def blind(message: bytes, blind_scalar: bytes) -> bytes:
    """Return the blinded element that is sent for `message` (Blind, RFC 9497 section 3.3.1)."""
    return _multiply(_checked_scalar(blind_scalar), hash_to_group(message))


def evaluate(key: bytes, element: bytes) -> bytes:
    """Return `key` times a received `element` (BlindEvaluate, RFC 9497 section 3.3.1).

    Raises Malformed unless `element` is a canonical encoding other than the identity.
    """
    return _multiply(_checked_scalar(key), _checked_element(element))


def inverse(blind_scalar: bytes) -> bytes:
    """Return what undoes a blind, for whoever finalizes several answers to one question."""
    inverted: bytes = rbcl.crypto_core_ristretto255_scalar_invert(_checked_scalar(blind_scalar))
    return inverted


def finalize(message: bytes, inverted: bytes, evaluated: bytes) -> bytes:
    """Return the 64-byte output for `message` from the element that came back (Finalize).

    `inverted`: the `inverse` of the blind.  Raises Malformed unless `evaluated` is a canonical
    encoding other than the identity.
    """
    return _output(message, _multiply(inverted, _checked_element(evaluated)))


def evaluate_directly(key: bytes, message: bytes) -> bytes:
    """Return the 64-byte output for `message` with the key at hand (Evaluate, section 3.3.1)."""
    return _output(message, _multiply(_checked_scalar(key), hash_to_group(message)))


def _output(message: bytes, element: bytes) -> bytes:
    hash_input = _prefixed(message) + _prefixed(element) + b"Finalize"
    return hashlib.sha512(hash_input).digest()


def _multiply(scalar: bytes, element: bytes) -> bytes:
    product: bytes = rbcl.crypto_scalarmult_ristretto255(scalar, element)
    return product


def _checked_scalar(scalar: bytes) -> bytes:
    if not is_scalar(scalar):
        msg = "a key or blind must be 32 bytes, reduced and not zero; use scalar_from_random"
        raise LocalProtocolError(msg)
    return bytes(scalar)


def _checked_element(element: bytes) -> bytes:
    if len(element) != ELEMENT_BYTES:
        msg = f"a group element has {ELEMENT_BYTES} bytes, not {len(element)}"
        raise Malformed(msg)
    element = bytes(element)
    if element == _IDENTITY:
        msg = "the identity is not allowed as a group element: its evaluation is the same for all"
        raise Malformed(msg)
    # libsodium ignores the highest bit, under which each element has a second encoding.
    is_canonical = int.from_bytes(element, "little") < _FIELD
    if not is_canonical or not rbcl.crypto_core_ristretto255_is_valid_point(element):
        msg = "these 32 bytes are not the canonical encoding of a ristretto255 element"
        raise Malformed(msg)
    return element


def _prefixed(data: bytes) -> bytes:
    if len(data) > INPUT_BYTES:
        msg = f"an input of the evaluation has at most {INPUT_BYTES} bytes, not {len(data)}"
        raise LocalProtocolError(msg)
    return len(data).to_bytes(2, "big") + data


def _expand(message: bytes, domain: bytes) -> bytes:
    """Return the 64 bytes of expand_message_xmd with SHA-512 (RFC 9380 section 5.3.1).

    One hash block suffices for 64 bytes, hence no chain of blocks here.
    """
    domain += bytes([len(domain)])
    length = RANDOM_BYTES.to_bytes(2, "big")
    first = hashlib.sha512(bytes(_SHA512_BLOCK_BYTES) + message + length + b"\0" + domain).digest()
    return hashlib.sha512(first + b"\x01" + domain).digest()
