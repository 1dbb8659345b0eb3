"""Self-signed Ed25519 certificates: containers for pinned keys, no chain of trust."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.errors import Malformed

START: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Long ago: neither side's clock, however wrong, may keep a pinned certificate from being valid."""

NO_END: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""RFC 5280 section 4.1.2.5: no end.  What ends a key is a newer key record; a date would lock out
a node that nobody looks after."""


SUBJECT_PREFIX: Final = "openpriors "
"""How the subject of every facility's certificate begins; a fingerprint follows."""


def make_certificate(key: Ed25519PrivateKey) -> bytes:
    """Return the DER of a certificate of `key` that a partner can pin.

    The subject holds the key's fingerprint, and the identifiers of subject and issuer key are
    there: among anchors with one name and no identifiers OpenSSL tries only the first.
    """
    public = key.public_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _subject(public))])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(NO_END)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, None)
    )
    return certificate.public_bytes(Encoding.DER)


def ends_at(der: bytes) -> int | None:
    """Return the instant at which a certificate ends, None if it has no end."""
    end = x509.load_der_x509_certificate(der).not_valid_after_utc
    return None if end >= NO_END else int(end.timestamp())


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate in hexadecimal digits, as OpenSSL shows it."""
    return hashlib.sha256(der).hexdigest()


def check_certificate(der: bytes) -> None:
    """Return if a partner's certificate is one that `make_certificate` could have made.

    Only the holder of its key can sign it, and its subject is the key's fingerprint: no partner
    can bring a certificate that takes the place of another's.  Raise Malformed if not.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        certificate.verify_directly_issued_by(certificate)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        InvalidSignature,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
    ) as error:
        msg = "this is no self-signed certificate"
        raise Malformed(msg) from error
    if not isinstance(key, Ed25519PublicKey) or constraints.value.ca:
        msg = "a facility's certificate has an Ed25519 key and certifies nobody else"
        raise Malformed(msg)
    if [name.value for name in names] != [_subject(key)]:
        msg = "the subject of a facility's certificate is its key's fingerprint"
        raise Malformed(msg)


def _subject(public: Ed25519PublicKey) -> str:
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"{SUBJECT_PREFIX}{hashlib.sha256(raw).hexdigest()[:32]}"
