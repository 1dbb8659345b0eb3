"""Journal epochs: how a facility whose journal was set back goes on, by the word of its root key.

A new epoch names the batch that it begins with and the header before it.  Whatever an older epoch
signed from that batch number on is void: everyone rewinds to the header named, and follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from protocol.entries import Header
from protocol.errors import BadSignature, Gap, Malformed
from protocol.identifiers import PeerId
from protocol.limits import EPOCH_RECORD_BYTES
from protocol.records import (
    Hash,
    Instant,
    Key,
    Natural,
    Range,
    Signature,
    Size,
    from_bytes,
    to_bytes,
)
from protocol.signing import public_key, sign, verify

EPOCH_DOMAIN: Final = "journal-epoch"
VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What a root key says of one epoch of its journal.

    `first_batch` is the number of its first batch; `previous` the hash of the header before that,
    32 zero bytes if there is none.
    """

    version: Annotated[int, Range(VERSION, VERSION)]
    origin: Key
    epoch: Annotated[int, Range(1, 2**31)]
    first_batch: Natural
    previous: Hash
    issued_at: Instant


@dataclass(frozen=True, slots=True)
class SignedEpoch:
    """A record as the bytes that were signed, and the root key's signature over them."""

    record: Annotated[bytes, Size(1, EPOCH_RECORD_BYTES)]
    signature: Signature


def sign_epoch(root_seed: bytes, record: EpochRecord) -> SignedEpoch:
    """Return `record` signed by the root key of its origin; raise BadSignature for another's."""
    if public_key(root_seed) != record.origin:
        msg = "this root key belongs to another facility"
        raise BadSignature(msg)
    data = to_bytes(record)
    return SignedEpoch(data, sign(root_seed, EPOCH_DOMAIN, data))


def verify_epoch(signed: SignedEpoch, origin: PeerId) -> EpochRecord:
    """Return the record in `signed`; raise BadSignature or Malformed if `origin` did not sign it.

    A facility is its root key, so no other key need be known.
    """
    verify(origin, EPOCH_DOMAIN, signed.record, signed.signature)
    record = from_bytes(EpochRecord, signed.record, EPOCH_RECORD_BYTES)
    if record.origin != origin:
        msg = "an epoch of another journal than the one whose root key signed it"
        raise Malformed(msg)
    return record


def continues(record: EpochRecord, batch: int, header_hash: bytes) -> bool:
    """Return whether an epoch begins right behind this batch (-1 and NO_PREVIOUS: behind none)."""
    return (record.first_batch, record.previous) == (batch + 1, header_hash)


def check_first(
    record: EpochRecord | None, header: Header, held_batch: int, held_hash: bytes
) -> None:
    """Judge the position of a header whose epoch is later than that of the batch held last.

    Raise Gap if the epoch's record or batches before it are lacking, Malformed if it is not the
    first batch that the record speaks of.
    """
    if record is None:
        msg = "a batch of another epoch needs the root-signed record that begins the epoch"
        raise Gap(msg)
    if header.batch < record.first_batch or (
        header.batch == record.first_batch and header.previous != record.previous
    ):
        msg = "a batch of an epoch that does not continue what the record of the epoch says"
        raise Malformed(msg)
    if header.batch != record.first_batch or not continues(record, held_batch, held_hash):
        msg = "batches before the first one of an epoch are missing"
        raise Gap(msg)
