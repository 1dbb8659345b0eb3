"""TLS 1.3 contexts, each for one purpose; the pin is the identity, names are not looked at.

The private key reaches OpenSSL through a file in memory: `load_cert_chain` takes only paths, and
the key must not touch the disk.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable

from peer.keys.node import NodeKeys


def partner_context(keys: NodeKeys, certificate: bytes) -> ssl.SSLContext:
    """Return the client context for one partner: trusts its certificate (DER) and no other."""
    context = pinned_context(certificate)
    show_own(context, keys)
    return context


def pinned_context(certificate: bytes) -> ssl.SSLContext:
    """Return a client context that trusts one certificate (DER) and shows none of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate)
    return context


def unpinned_context() -> ssl.SSLContext:
    """Return a client context that takes any certificate: to fetch a root-signed key record only.

    What comes over it is public and is judged by its signature.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def federation_context(keys: NodeKeys, trusted: Iterable[bytes]) -> ssl.SSLContext:
    """Return the server context that admits the holders of the `trusted` certificates (DER).

    Trust can be added to a live context but never taken away, so it is rebuilt at every change.
    Without session tickets: with one, a removed partner would resume its old session unasked.
    """
    context = _server_context(keys)
    context.verify_mode = ssl.CERT_REQUIRED
    for certificate in trusted:
        context.load_verify_locations(cadata=certificate)
    return context


def pairing_context(keys: NodeKeys) -> ssl.SSLContext:
    """Return the server context that asks for no certificate.

    It needs a port of its own: an optional certificate (CERT_OPTIONAL) that is unknown is refused.
    """
    return _server_context(keys)


def _server_context(keys: NodeKeys) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    show_own(context, keys)
    return context


def show_own(context: ssl.SSLContext, keys: NodeKeys) -> None:
    """Have `context` show this node's certificate of today, from the next handshake on."""
    handle = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        certificate = ssl.DER_cert_to_PEM_cert(keys.tls_certificate_der)
        os.write(handle, keys.tls_key + certificate.encode("ascii"))
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
