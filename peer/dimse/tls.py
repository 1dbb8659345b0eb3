"""TLS on the DICOM network (PS3.15 annex B: BCP 195)."""

from __future__ import annotations

import ssl

from peer.config import DicomSettings
from peer.errors import ConfigError


def server_context(settings: DicomSettings) -> ssl.SSLContext:
    """Return the context that callers meet; raise ConfigError if its files cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings)
    if settings.tls_ca:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: DicomSettings) -> ssl.SSLContext:
    """Return the context in which we call; raise ConfigError if its files cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not settings.tls_ca:
        context.load_default_certs()
    _load(context, settings)
    return context


def _load(context: ssl.SSLContext, settings: DicomSettings) -> None:
    try:
        if settings.tls_certificate:
            context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        if settings.tls_ca:
            context.load_verify_locations(settings.tls_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "A PEM file for DICOM over TLS cannot be read. Look at dicom.tls_certificate, "
            "dicom.tls_key and dicom.tls_ca."
        ) from error
