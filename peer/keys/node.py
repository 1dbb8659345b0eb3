"""The keys of this node: `create` makes them, `load` opens them, `renew` signs a new key record."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from peer.config import Settings
from peer.errors import Conflict, Damaged
from peer.keys.certificate import make_certificate
from peer.keys.files import (
    KEY_BYTES,
    read_master_key,
    read_private,
    read_root_key,
    replace_private,
    seal_file,
    unseal_file,
    write_private,
    write_root_key,
)
from protocol.errors import Malformed
from protocol.identifiers import PeerId
from protocol.keyrecord import KeyRecord, SignedKeyRecord, sign_record, verify_record
from protocol.limits import PROTOCOL_VERSION
from protocol.nodekeys import NodeKey, only_key, succeed
from protocol.nodekeys import NodeKeys as SigningKeys
from protocol.records import Key, Natural, Size, from_bytes, to_bytes
from protocol.sealing import exchange_public_key
from protocol.signing import public_key

SECRETS_VERSION: Final = 1
_SEALED_FILE_BYTES: Final = 16 * 1024
"""A dozen keys and one key record."""


@dataclass(frozen=True, slots=True)
class _Secrets:
    """What stands in node.sealed."""

    version: Natural
    node_seed: Key
    tls_seed: Key
    seal_secret: Key
    index_key: Key
    store_key: Key
    search_master: Key
    pseudonym_key: Key
    audit_key: Key
    record: Annotated[bytes, Size(1, _SEALED_FILE_BYTES)]


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """Every key the running node needs; each secret has 32 bytes and stays out of `repr`."""

    peer_id: PeerId
    """The facility: its root public key."""
    record: SignedKeyRecord = field(repr=False)
    """What partners know of these keys."""
    node_seed: bytes = field(repr=False)
    """Ed25519 seed; signs journal, statements and agreements."""
    node_public: bytes = field(repr=False)
    tls_certificate_der: bytes = field(repr=False)
    tls_key: bytes = field(repr=False)
    """PKCS #8 PEM of the TLS key, another key than the node key."""
    seal_secret: bytes = field(repr=False)
    """X25519; opens what partners seal to this node."""
    seal_public: bytes = field(repr=False)
    index_key: bytes = field(repr=False)
    """Key of the encrypted database."""
    store_key: bytes = field(repr=False)
    """Wraps study keys."""
    search_master: bytes = field(repr=False)
    """Master of the blinded evaluation's keys."""
    pseudonym_key: bytes = field(repr=False)
    """Makes the pseudonyms by which partners know our people."""
    audit_key: bytes = field(repr=False)
    """Keys the chain of audit records."""

    @property
    def node_keys(self) -> SigningKeys:
        """Every node key of this facility, with the part of the journal that it signs."""
        return self.key_record.node_keys

    @property
    def key_record(self) -> KeyRecord:
        """What `record` says."""
        return verify_record(self.record, self.peer_id)


def create(
    data: Path,
    root_key_path: Path,
    facility_name: str,
    *,
    now: int,
    federation_url: str = "",
    pairing_url: str = "",
    master_key_path: Path | None = None,
) -> NodeKeys:
    """Make the keys of a new facility below `data` and its root key at `root_key_path`.

    Without `master_key_path` the master key is made beside the sealed keys.  An empty URL: that
    listener cannot be reached from outside.  Raise ConfigError for a root key inside `data`,
    Conflict if any of the files exists, Malformed for a name or URL that partners would refuse.
    """
    folder = data / "keys"
    if (folder / "node.sealed").exists():
        raise Conflict(f"{data} holds the keys of a facility already. Choose another directory.")
    root_seed = secrets.token_bytes(KEY_BYTES)
    fresh = _fresh_secrets()
    draft = KeyRecord(
        version=PROTOCOL_VERSION,
        peer_id=public_key(root_seed),
        revision=1,
        facility_name=facility_name,
        node_keys=only_key(public_key(fresh.node_seed)),
        seal_public=b"",
        tls_certificate=b"",
        federation_url=federation_url,
        pairing_url=pairing_url,
        issued_at=now,
    )
    record = _sign(root_seed, draft, fresh)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_root_key(root_key_path, data, root_seed)
    if master_key_path is None:
        master = secrets.token_bytes(KEY_BYTES)
        write_private(folder / "master.key", master)
    else:
        master = read_master_key(master_key_path)
    stored = replace(fresh, record=to_bytes(record))
    write_private(folder / "node.sealed", seal_file(master, to_bytes(stored)))
    return _node_keys(stored)


def load(data: Path, settings: Settings) -> NodeKeys:
    """Return the keys of the facility in `data`.

    Raise NotFound if there are none, ConfigError if others can read the master key, and Damaged if
    the keys do not open under it.
    """
    return _node_keys(_open(data, settings))


def renew(
    data: Path,
    settings: Settings,
    root_key_path: Path,
    *,
    now: int,
    facility_name: str | None = None,
    federation_url: str | None = None,
    pairing_url: str | None = None,
    new_keys_from: tuple[int, int] | None = None,
) -> NodeKeys:
    """Sign the next key record with the root key and put it to use at the next start.

    What is None stays as it is.  `new_keys_from`: new node, TLS and sealing keys as well,
    of which the node key signs from this position of the journal on, (epoch, batch); the secrets
    that protect what is stored here stay.
    """
    held = _open(data, settings)
    before = _node_keys(held).key_record
    kept, node_keys = held, before.node_keys
    if new_keys_from is not None:
        fresh = _fresh_secrets()
        kept = replace(
            held,
            node_seed=fresh.node_seed,
            tls_seed=fresh.tls_seed,
            seal_secret=fresh.seal_secret,
        )
        node_keys = succeed(node_keys, NodeKey(*new_keys_from, public_key(fresh.node_seed)))
    draft = replace(
        before,
        revision=before.revision + 1,
        node_keys=node_keys,
        issued_at=now,
        facility_name=before.facility_name if facility_name is None else facility_name,
        federation_url=before.federation_url if federation_url is None else federation_url,
        pairing_url=before.pairing_url if pairing_url is None else pairing_url,
    )
    certificate = before.tls_certificate if new_keys_from is None else None
    record = _sign(read_root_key(root_key_path), draft, kept, certificate)
    stored = replace(kept, record=to_bytes(record))
    master = read_master_key(_master_key_path(data, settings))
    replace_private(data / "keys" / "node.sealed", seal_file(master, to_bytes(stored)))
    return _node_keys(stored)


def _fresh_secrets() -> _Secrets:
    return _Secrets(
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


def _sign(
    root_seed: bytes, draft: KeyRecord, own: _Secrets, certificate: bytes | None = None
) -> SignedKeyRecord:
    if certificate is None:
        certificate = make_certificate(_tls_key(own.tls_seed))
    record = replace(
        draft,
        seal_public=exchange_public_key(own.seal_secret),
        tls_certificate=certificate,
    )
    signed = sign_record(root_seed, record)
    verify_record(signed)  # Partners judge it by the same rule; better now than at the first one.
    return signed


def _open(data: Path, settings: Settings) -> _Secrets:
    path = data / "keys" / "node.sealed"
    sealed = read_private(path, "file of this node's keys")
    master = read_master_key(_master_key_path(data, settings))
    try:
        return from_bytes(_Secrets, unseal_file(master, sealed, path), _SEALED_FILE_BYTES)
    except Malformed as error:
        raise Damaged(f"{path} was written by another release; run that one.") from error


def _master_key_path(data: Path, settings: Settings) -> Path:
    named = settings.keys.master_key_file
    return Path(named) if named else data / "keys" / "master.key"


def _tls_key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


def _node_keys(own: _Secrets) -> NodeKeys:
    signed = from_bytes(SignedKeyRecord, own.record, _SEALED_FILE_BYTES)
    record = verify_record(signed)
    pem = _tls_key(own.tls_seed).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return NodeKeys(
        peer_id=PeerId(record.peer_id),
        record=signed,
        node_seed=own.node_seed,
        node_public=record.node_public,
        tls_certificate_der=record.tls_certificate,
        tls_key=pem,
        seal_secret=own.seal_secret,
        seal_public=record.seal_public,
        index_key=own.index_key,
        store_key=own.store_key,
        search_master=own.search_master,
        pseudonym_key=own.pseudonym_key,
        audit_key=own.audit_key,
    )
