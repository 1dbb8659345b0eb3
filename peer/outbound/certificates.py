"""What certificate a server shows, and what it says of itself; nothing here trusts it."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Final

import aiohttp
from cryptography import x509
from cryptography.x509.oid import NameOID

from peer.keys.tls import unpinned_context
from peer.outbound.proxy import Proxy

FETCH_S: Final = 10
"""A TLS handshake over a bad line; without the certificate the failure is named less well."""

NAME_CHARACTERS: Final = 64
"""Longest common name (RFC 5280 appendix A.1, ub-common-name); what is longer is cut."""

_TOLD_BY: Final = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)


async def fetch_certificate(url: str, proxy: Proxy) -> bytes | None:
    """Return the certificate (DER) that the server at `url` shows, or None.

    The connection ends with the handshake: nothing is said over it, and nothing read.
    """
    shown: list[bytes] = []

    class Onlooker(ssl.SSLObject):
        # typing.override came with Python 3.12.
        def do_handshake(self) -> None:  # type: ignore[explicit-override]
            super().do_handshake()
            shown.append(self.getpeercert(binary_form=True) or b"")
            raise ssl.SSLError("the certificate was seen, and no more is wanted")

    context = unpinned_context()
    # What inspects connections may speak an older TLS than any node does.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = Onlooker
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context),
                timeout=aiohttp.ClientTimeout(total=FETCH_S),
            ) as session,
            session.get(url, allow_redirects=False, **proxy.arguments),
        ):
            pass
    return shown[0] if shown and shown[0] else None


def names(certificate: bytes) -> tuple[str, str]:
    """Return what a certificate (DER) says of its subject and of its issuer, fit to be shown."""
    try:
        read = x509.load_der_x509_certificate(certificate)
        return _shown(read.subject), _shown(read.issuer)
    except ValueError:
        return "?", "?"


def self_issued(certificate: bytes) -> bool:
    """Return whether subject and issuer are the same (RFC 5280 section 3.2)."""
    try:
        read = x509.load_der_x509_certificate(certificate)
        subject, issuer = read.subject, read.issuer
    except ValueError:
        return True
    return subject == issuer


def _shown(name: x509.Name) -> str:
    """Return a name that a stranger has written as text that cannot do anything to a screen."""
    for oid in _TOLD_BY:
        for attribute in name.get_attributes_for_oid(oid):
            text = "".join(each for each in str(attribute.value) if each.isprintable())
            if text.strip():
                return text.replace("'", "").strip()[:NAME_CHARACTERS]
    return "somebody without a name"
