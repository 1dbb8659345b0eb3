"""The next key record of this node: drafted here, signed where the root key is, installed here.

A draft exists in memory alone.  `install` replaces one file, so a crash at any moment leaves either
the old keys, whole, or the new ones; the old secrets are gone with the old file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from peer.config import Settings
from peer.errors import Conflict
from peer.keys.files import read_root_key
from peer.keys.node import KEYS_LAST_S, NodeKeys, node_keys_of
from peer.keys.sealed import (
    Secrets,
    fresh_secrets,
    open_secrets,
    replace_secrets,
    with_public_keys,
)
from protocol.keyrecord import KeyRecord, SignedKeyRecord, sign_record, verify_record
from protocol.limits import NODE_KEYS
from protocol.nodekeys import NodeKey, succeed
from protocol.records import to_bytes
from protocol.signing import public_key


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that waits for the root's signature, and the secrets that go with it.

    `new_keys_from`: the position of the journal from which on its node key signs; None: the keys
    stay, and only the name, the addresses or the date are other ones.
    """

    record: KeyRecord
    new_keys_from: tuple[int, int] | None
    own: Secrets = field(repr=False)


def draft(  # noqa: PLR0913 - all that may differ from the present record
    data: Path,
    settings: Settings,
    *,
    now: int,
    new_keys_from: tuple[int, int] | None = None,
    facility_name: str | None = None,
    federation_url: str | None = None,
    pairing_url: str | None = None,
    last_s: int = KEYS_LAST_S,
    newest: KeyRecord | None = None,
) -> Draft:
    """Return the record that is to follow the present one; what is None stays as it is.

    `newest`: the present one, if it is another one than that which is stored with the keys.

    With `new_keys_from` there are new node, TLS and sealing keys, meant to last for `last_s`; the
    secrets that protect what is stored here stay.  Raise Conflict if no further node key fits.
    """
    held = open_secrets(data, settings)
    before = newest or node_keys_of(held).key_record
    record = replace(
        before,
        revision=before.revision + 1,
        issued_at=now,
        facility_name=before.facility_name if facility_name is None else facility_name,
        federation_url=before.federation_url if federation_url is None else federation_url,
        pairing_url=before.pairing_url if pairing_url is None else pairing_url,
    )
    if new_keys_from is None:
        return Draft(record, None, held)
    fresh = fresh_secrets()
    own = replace(
        held,
        node_seed=fresh.node_seed,
        tls_seed=fresh.tls_seed,
        seal_secret=fresh.seal_secret,
    )
    node_keys = succeed(before.node_keys, NodeKey(*new_keys_from, public_key(own.node_seed)))
    if len(node_keys) > NODE_KEYS:
        raise Conflict(
            f"This journal has had {NODE_KEYS} node keys, and a key record names no more. Make a "
            "new facility, and pair it with the partners."
        )
    record = replace(record, node_keys=node_keys, renew_by=now + last_s)
    return Draft(with_public_keys(record, own), new_keys_from, own)


def install(data: Path, settings: Settings, wanted: Draft, signed: SignedKeyRecord) -> NodeKeys:
    """Put the keys of a draft to use, now that the root has signed exactly its record.

    Durable when it returns.  Raise BadSignature or Malformed if partners would refuse the record,
    Conflict if it is another one than the draft's.
    """
    if verify_record(signed) != wanted.record:
        raise Conflict("This is not the key record that was drafted. Begin the rotation anew.")
    stored = replace(wanted.own, record=to_bytes(signed))
    replace_secrets(data, settings, stored)
    return node_keys_of(stored)


def install_known(data: Path, settings: Settings, signed: SignedKeyRecord) -> NodeKeys:
    """Put a later record of the same keys in the place of the one that is stored with them."""
    stored = replace(open_secrets(data, settings), record=to_bytes(signed))
    replace_secrets(data, settings, stored)
    return node_keys_of(stored)


def renew(
    data: Path,
    settings: Settings,
    root_key_path: Path,
    *,
    now: int,
    new_keys_from: tuple[int, int] | None = None,
    facility_name: str | None = None,
    federation_url: str | None = None,
    pairing_url: str | None = None,
) -> NodeKeys:
    """Draft, sign and install the next record of a node that does not run."""
    wanted = draft(
        data,
        settings,
        now=now,
        new_keys_from=new_keys_from,
        facility_name=facility_name,
        federation_url=federation_url,
        pairing_url=pairing_url,
    )
    signed = sign_record(read_root_key(root_key_path), wanted.record)
    return install(data, settings, wanted, signed)
