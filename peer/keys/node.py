"""The keys of this node: `create` makes them, `load` opens them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from peer.config import Settings
from peer.errors import Conflict
from peer.keys.files import (
    KEY_BYTES,
    read_master_key,
    seal_file,
    write_private,
    write_root_key,
)
from peer.keys.sealed import (
    SEALED_FILE_BYTES,
    Secrets,
    fresh_secrets,
    open_secrets,
    sealed_file,
    tls_key,
    with_public_keys,
)
from protocol.errors import BadSignature
from protocol.identifiers import PeerId
from protocol.keyrecord import KeyRecord, SignedKeyRecord, sign_record, verify_record
from protocol.limits import PROTOCOL_VERSION
from protocol.nodekeys import NodeKeys as SigningKeys
from protocol.nodekeys import only_key
from protocol.records import from_bytes, to_bytes
from protocol.signing import public_key

Opened = TypeVar("Opened")

KEYS_LAST_S: Final = 730 * 24 * 3600
"""After two years an operator is asked for new keys, unless the settings say otherwise."""


@dataclass(slots=True)
class NodeKeys:
    """Every key the running node needs; each secret has 32 bytes and stays out of `repr`.

    There is one for the whole node; a rotation changes what is in it (`adopt`), for all at once.
    """

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
    former_seal_secret: bytes | None = field(default=None, repr=False, compare=False)
    """The one before the last rotation; only in memory, for boxes that were under way then.  Boxes
    are made when they are sent, so none is older than the link that brings it."""

    newer: SignedKeyRecord | None = field(default=None, repr=False, compare=False)
    """A later record of this facility, whose keys are others than these: a partner has shown it, so
    this node was made from an older backup, and what these keys sign no partner takes."""

    @property
    def are_retired(self) -> bool:
        """Whether later keys of this facility are known, which this node does not have."""
        return self.newer is not None

    @property
    def node_keys(self) -> SigningKeys:
        """Every node key of this facility, with the part of the journal that it signs."""
        return self.key_record.node_keys

    @property
    def key_record(self) -> KeyRecord:
        """What `record` says."""
        return verify_record(self.record, self.peer_id)

    def adopt(self, newer: NodeKeys) -> None:
        """Become what `newer` is, from now on and for everyone who holds this object."""
        former = self.seal_secret if newer.seal_secret != self.seal_secret else None
        for each in fields(self):
            setattr(self, each.name, getattr(newer, each.name))
        self.former_seal_secret = former

    def unsealed(self, unseal: Callable[[bytes], Opened]) -> Opened:
        """Return what `unseal` returns with our sealing secret, or else with the former one."""
        try:
            return unseal(self.seal_secret)
        except BadSignature:
            if self.former_seal_secret is None:
                raise
            return unseal(self.former_seal_secret)


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
    path = sealed_file(data)
    if path.exists():
        raise Conflict(f"{data} holds the keys of a facility already. Choose another directory.")
    root_seed = secrets.token_bytes(KEY_BYTES)
    fresh = fresh_secrets()
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
        renew_by=now + KEYS_LAST_S,
    )
    record = sign_record(root_seed, with_public_keys(draft, fresh))
    verify_record(record)  # Partners judge it by the same rule; better now than at the first one.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_root_key(root_key_path, data, root_seed)
    if master_key_path is None:
        master = secrets.token_bytes(KEY_BYTES)
        write_private(path.parent / "master.key", master)
    else:
        master = read_master_key(master_key_path)
    stored = replace(fresh, record=to_bytes(record))
    write_private(path, seal_file(master, to_bytes(stored)))
    return node_keys_of(stored)


def load(data: Path, settings: Settings) -> NodeKeys:
    """Return the keys of the facility in `data`.

    Raise NotFound if there are none, ConfigError if others can read the master key, and Damaged if
    the keys do not open under it.
    """
    return node_keys_of(open_secrets(data, settings))


def node_keys_of(own: Secrets) -> NodeKeys:
    """Return the keys of a node as its rooms use them."""
    signed = from_bytes(SignedKeyRecord, own.record, SEALED_FILE_BYTES)
    record = verify_record(signed)
    pem = tls_key(own.tls_seed).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
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
