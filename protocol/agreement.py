"""The peering agreement: what two facilities sign to become partners, and the terms in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from protocol.limits import PAIRING_BYTES, TERMS_ITEMS
from protocol.records import Hash, Instant, Key, Natural, Size, from_bytes

AGREEMENT_DOMAIN: Final = "peering-agreement"
AGREEMENT_BYTES: Final = 2 * PAIRING_BYTES
"""Both sides' terms, and some keys and hashes."""

_Code = Annotated[str, Size(1, 32)]
_Day = Annotated[str, Size(0, 8)]


@dataclass(frozen=True, slots=True)
class Terms:
    """What one side offers the other: what it shares, for what, and how much of it a day.

    Empty `modalities` or `purposes` and empty dates (YYYYMMDD, by Study Date) mean no bound; None
    means no daily quota.
    """

    modalities: Annotated[tuple[_Code, ...], Size(0, TERMS_ITEMS)] = ()
    studies_from: _Day = ""
    studies_until: _Day = ""
    purposes: Annotated[tuple[_Code, ...], Size(0, TERMS_ITEMS)] = ()
    daily_searches: Natural | None = None
    daily_studies: Natural | None = None
    daily_bytes: Natural | None = None


TermsBytes = Annotated[bytes, Size(1, PAIRING_BYTES // 2)]
"""Terms as they travel: signed and hashed as they came."""


@dataclass(frozen=True, slots=True)
class PeeringAgreement:
    """What both node keys sign: who, under which keys, and what each offers the other.

    Both sides write these bytes for themselves, with MessagePack's shortest forms.
    """

    version: Natural
    pairing_id: Hash
    made_at: Instant
    inviter: Key
    joiner: Key
    inviter_record: Hash
    joiner_record: Hash
    inviter_node: Key
    joiner_node: Key
    inviter_terms: TermsBytes
    joiner_terms: TermsBytes


def read_terms(data: bytes) -> Terms:
    """Return the Terms in the bytes that travelled; raise Oversized or Malformed."""
    return from_bytes(Terms, data, PAIRING_BYTES // 2)
