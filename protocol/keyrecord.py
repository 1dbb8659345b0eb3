"""The key record: which online keys speak for a facility, signed by its root key.

A facility is its root key.  The root stays offline; what is online (node key, sealing key, TLS
certificate, addresses) stands in a record that the root signs.  A newer record has a higher version
and replaces the older one at once, so a partner that missed any number of them can still follow.
The record names every node key that ever signed the journal, and from which batch on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from protocol.errors import BadSignature, Forked, Malformed, Replayed, UnknownMessage
from protocol.hashing import tagged
from protocol.identifiers import PeerId
from protocol.limits import (
    CERTIFICATE_BYTES,
    FACILITY_NAME_CHARACTERS,
    KEY_RECORD_BYTES,
    NODE_KEYS,
    PROTOCOL_VERSION,
    URL_CHARACTERS,
)
from protocol.nodekeys import NodeKey, check_keys, check_succession
from protocol.records import (
    Instant,
    Key,
    Natural,
    Range,
    Signature,
    Size,
    from_bytes,
    to_bytes,
)
from protocol.sealing import is_exchange_key
from protocol.signing import public_key, sign, verify

KEY_RECORD_DOMAIN: Final = "key-record"

_RECORD_HASH: Final = b"\x20"
_URL: Final = re.compile(r"https://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What a root key says about its facility.

    `revision` counts the records of this root from 1.  An empty URL: that listener cannot be
    reached from outside; with both empty the facility is outbound-only.  `renew_by`: when its
    operator means to have new keys.  Past it both sides are warned, and nothing ends.
    """

    version: Natural
    peer_id: Key
    revision: Annotated[int, Range(1, 2**31)]
    facility_name: Annotated[str, Size(1, FACILITY_NAME_CHARACTERS)]
    node_keys: Annotated[tuple[NodeKey, ...], Size(1, NODE_KEYS)]
    seal_public: Key
    tls_certificate: Annotated[bytes, Size(1, CERTIFICATE_BYTES)]
    federation_url: Annotated[str, Size(0, URL_CHARACTERS)]
    pairing_url: Annotated[str, Size(0, URL_CHARACTERS)]
    issued_at: Instant
    renew_by: Instant

    @property
    def node_public(self) -> bytes:
        """The node key of today: of the newest batches, and of every statement."""
        return self.node_keys[-1].public


@dataclass(frozen=True, slots=True)
class SignedKeyRecord:
    """A record as the bytes that were signed, and the root key's signature over them."""

    record: Annotated[bytes, Size(1, KEY_RECORD_BYTES)]
    signature: Signature


def is_url(text: str) -> bool:
    """Return whether `text` is the address of a listener: https, host, perhaps a port, no path."""
    return len(text) <= URL_CHARACTERS and _URL.fullmatch(text) is not None


def sign_record(root_seed: bytes, record: KeyRecord) -> SignedKeyRecord:
    """Return `record` signed by the root key of its facility; raise BadSignature for another's."""
    if public_key(root_seed) != record.peer_id:
        msg = "this root key belongs to another facility"
        raise BadSignature(msg)
    data = to_bytes(record)
    return SignedKeyRecord(data, sign(root_seed, KEY_RECORD_DOMAIN, data))


def verify_record(signed: SignedKeyRecord, expected: PeerId | None = None) -> KeyRecord:
    """Return the record in `signed` if its facility's root signed it.

    With `expected`, it must be that facility's.  Raise BadSignature, Oversized, Malformed or
    UnknownMessage (a version this side does not speak).
    """
    record = from_bytes(KeyRecord, signed.record, KEY_RECORD_BYTES)
    if expected is not None and record.peer_id != expected:
        msg = "this key record belongs to another facility than the one that was expected"
        raise BadSignature(msg)
    verify(record.peer_id, KEY_RECORD_DOMAIN, signed.record, signed.signature)
    if record.version != PROTOCOL_VERSION:
        msg = f"a key record of version {record.version}; this side speaks {PROTOCOL_VERSION}"
        raise UnknownMessage(msg)
    if not all(url == "" or is_url(url) for url in (record.federation_url, record.pairing_url)):
        msg = "an address in a key record is not https://host:port"
        raise Malformed(msg)
    check_keys(record.node_keys)
    if not is_exchange_key(record.seal_public):
        msg = "nothing can be sealed to the sealing key of a key record"
        raise Malformed(msg)
    if not record.facility_name.isprintable() or not record.facility_name.strip():
        msg = "a facility's name is blank or holds characters that cannot be shown"
        raise Malformed(msg)
    return record


def follow_record(held: SignedKeyRecord, newer: SignedKeyRecord) -> KeyRecord:
    """Return the record of `newer`, which may replace `held`, the one that is pinned.

    Raise Replayed for an older revision, Forked for another record of the same revision or one that
    tells another past of the node keys, and what `verify_record` raises.
    """
    before = from_bytes(KeyRecord, held.record, KEY_RECORD_BYTES)
    after = verify_record(newer, PeerId(before.peer_id))
    if after.revision < before.revision:
        msg = f"key record {after.revision} is older than {before.revision}, which is held"
        raise Replayed(msg)
    if after.revision == before.revision and newer.record != held.record:
        msg = f"two different key records both have the revision {after.revision}"
        raise Forked(msg)
    check_succession(before.node_keys, after.node_keys)
    return after


def record_hash(signed: SignedKeyRecord) -> bytes:
    """Return the 32-byte hash by which an agreement names a key record."""
    return tagged(_RECORD_HASH, signed.record)
