"""TLS with the hospital's own programs, by PEM files that an operator names (PS3.15 B: BCP 195).

Between facilities it is another one: `peer.keys.tls`.
"""

from __future__ import annotations

import ssl
from typing import Protocol

from peer.errors import ConfigError


class Files(Protocol):
    """A section of the settings: paths, each empty for none."""

    @property
    def tls_certificate(self) -> str:
        """The certificate chain."""

    @property
    def tls_key(self) -> str:
        """Its private key."""

    @property
    def tls_ca(self) -> str:
        """The authorities whose certificates others must show."""


def server_context(files: Files, section: str) -> ssl.SSLContext:
    """Return the context that callers meet; raise ConfigError if its files cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, files, section)
    if files.tls_ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(files: Files, section: str) -> ssl.SSLContext:
    """Return the context in which we call; raise ConfigError if its files cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not files.tls_ca:
        context.load_default_certs()
    _load(context, files, section)
    return context


def _load(context: ssl.SSLContext, files: Files, section: str) -> None:
    try:
        if files.tls_certificate:
            context.load_cert_chain(files.tls_certificate, files.tls_key)
        if files.tls_ca:
            context.load_verify_locations(files.tls_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"A PEM file cannot be read. Look at {section}.tls_certificate, {section}.tls_key and "
            f"{section}.tls_ca."
        ) from error
