"""Signatures and seals: only the right key, domain, bytes and addressee will do."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadSignature, LocalProtocolError, Malformed
from protocol.limits import SEAL_OVERHEAD
from protocol.sealing import decrypt, encrypt, exchange_public_key, seal, unseal
from protocol.signing import public_key, sign, verify

ALICE, EVE = b"a" * 32, b"e" * 32


@given(st.binary(max_size=500))
def test_a_signature_holds_for_its_author_domain_and_payload_alone(payload):
    signature = sign(ALICE, "header", payload)
    verify(public_key(ALICE), "header", payload, signature)
    for key, domain, message in [
        (public_key(EVE), "header", payload),
        (public_key(ALICE), "have", payload),
        (public_key(ALICE), "header", payload + b"\0"),
    ]:
        with pytest.raises(BadSignature):
            verify(key, domain, message, signature)


def test_the_signed_string_is_the_documented_one():
    signature = sign(ALICE, "have", b"payload")
    key = Ed25519PublicKey.from_public_bytes(public_key(ALICE))
    key.verify(signature, b"openpriors/1 have\0payload")


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_what_is_no_signature_is_refused(signature):
    with pytest.raises(BadSignature):
        verify(public_key(ALICE), "have", b"payload", signature)


def test_a_seed_of_another_length_is_our_own_fault():
    with pytest.raises(LocalProtocolError):
        public_key(b"short")


@given(st.binary(max_size=500), st.binary(max_size=40))
def test_only_the_addressee_opens_a_sealed_box(plaintext, associated):
    box = seal(exchange_public_key(ALICE), b"r" * 32, plaintext, associated)
    assert len(box) == len(plaintext) + SEAL_OVERHEAD
    assert unseal(ALICE, box, associated) == plaintext
    with pytest.raises(BadSignature):
        unseal(EVE, box, associated)
    with pytest.raises(BadSignature):
        unseal(ALICE, box, associated + b"x")
    with pytest.raises(BadSignature):
        unseal(ALICE, box[:-1] + bytes([box[-1] ^ 1]), associated)


@pytest.mark.parametrize("box", [b"", bytes(47), bytes(80)])
def test_what_is_no_sealed_box_is_refused(box):
    with pytest.raises((Malformed, BadSignature)):
        unseal(ALICE, box, b"")


def test_boxes_are_those_of_rfc_8439():
    box = encrypt(b"k" * 32, b"n" * 12, b"text", b"ad")
    assert ChaCha20Poly1305(b"k" * 32).decrypt(b"n" * 12, box, b"ad") == b"text"
    assert decrypt(b"k" * 32, b"n" * 12, box, b"ad") == b"text"
