"""DATA/keys/node.sealed: every secret that is online, in one file, replaced whole or not at all."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from peer.config import Settings
from peer.errors import Damaged
from peer.keys.certificate import make_certificate
from peer.keys.files import (
    KEY_BYTES,
    read_master_key,
    read_private,
    replace_private,
    seal_file,
    unseal_file,
)
from protocol.errors import Malformed
from protocol.keyrecord import KeyRecord
from protocol.records import Key, Natural, Size, from_bytes, to_bytes
from protocol.sealing import exchange_public_key

SECRETS_VERSION: Final = 1
SEALED_FILE_BYTES: Final = 16 * 1024
"""A dozen keys and one key record."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What stands in node.sealed; `record` is the SignedKeyRecord of the keys."""

    version: Natural
    node_seed: Key
    tls_seed: Key
    seal_secret: Key
    index_key: Key
    store_key: Key
    search_master: Key
    pseudonym_key: Key
    audit_key: Key
    record: Annotated[bytes, Size(1, SEALED_FILE_BYTES)]


def fresh_secrets() -> Secrets:
    """Return new keys of every kind, still without a record."""
    return Secrets(
        version=SECRETS_VERSION,
        node_seed=secrets.token_bytes(KEY_BYTES),
        tls_seed=secrets.token_bytes(KEY_BYTES),
        seal_secret=secrets.token_bytes(KEY_BYTES),
        index_key=secrets.token_bytes(KEY_BYTES),
        store_key=secrets.token_bytes(KEY_BYTES),
        search_master=secrets.token_bytes(KEY_BYTES),
        pseudonym_key=secrets.token_bytes(KEY_BYTES),
        audit_key=secrets.token_bytes(KEY_BYTES),
        record=b"",
    )


def with_public_keys(draft: KeyRecord, own: Secrets) -> KeyRecord:
    """Return `draft` with the sealing key and a new certificate of `own`."""
    return replace(
        draft,
        seal_public=exchange_public_key(own.seal_secret),
        tls_certificate=make_certificate(tls_key(own.tls_seed)),
    )


def open_secrets(data: Path, settings: Settings) -> Secrets:
    """Return what stands in node.sealed; raise NotFound, ConfigError or Damaged."""
    path = sealed_file(data)
    sealed = read_private(path, "file of this node's keys")
    master = read_master_key(_master_key_path(data, settings))
    try:
        return from_bytes(Secrets, unseal_file(master, sealed, path), SEALED_FILE_BYTES)
    except Malformed as error:
        raise Damaged(f"{path} was written by another release; run that one.") from error


def replace_secrets(data: Path, settings: Settings, own: Secrets) -> None:
    """Put `own` in the place of what stands in node.sealed: durable, whole or not at all."""
    master = read_master_key(_master_key_path(data, settings))
    replace_private(sealed_file(data), seal_file(master, to_bytes(own)))


def sealed_file(data: Path) -> Path:
    """Return where the sealed keys of a data directory are."""
    return data / "keys" / "node.sealed"


def tls_key(seed: bytes) -> Ed25519PrivateKey:
    """Return the TLS key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def _master_key_path(data: Path, settings: Settings) -> Path:
    named = settings.keys.master_key_file
    return Path(named) if named else data / "keys" / "master.key"
