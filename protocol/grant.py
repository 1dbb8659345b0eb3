"""Request, grant and receipt: how one study passes from its origin to one partner.

The recipient signs a request that names a study by its retrieve handle (from the digest it opened).
The origin decides again and signs a grant: which manifest version, until when, and the keys of
exactly the packs of that version, in a box that only the recipient's sealing key opens.  When the
transfer ends, the recipient signs a receipt for what it verified, what is missing, or that it
destroyed everything after a revocation.  Specification: docs/protocol/transfer.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from protocol.errors import Expired, Malformed, UnknownMessage, WrongContent
from protocol.hashing import plain_hash
from protocol.identifiers import is_uid
from protocol.limits import (
    CLOCK_SKEW_S,
    GRANT_BOX_BYTES,
    GRANT_MOST_S,
    MANIFEST_PACKS,
    PROTOCOL_VERSION,
    RECEIPT_MISSING,
)
from protocol.records import (
    Hash,
    Id16,
    Instant,
    Key,
    Name,
    Natural,
    Size,
    from_bytes,
    to_bytes,
)
from protocol.sealing import seal, unseal
from protocol.statements import Statement, open_addressed

REQUEST_DOMAIN: Final = "grant-request"
GRANT_DOMAIN: Final = "grant"
RECEIPT_DOMAIN: Final = "receipt"

_KEYS: Final = b"openpriors/1 pack keys"
"""Starts the associated data of the box with the pack keys."""

VERIFIED: Final = "verified"
INCOMPLETE: Final = "incomplete"
DESTROYED: Final = "destroyed"
OUTCOMES: Final = (VERIFIED, INCOMPLETE, DESTROYED)


@dataclass(frozen=True, slots=True)
class GrantRequestBody:
    """What a recipient signs to ask for one study.

    `nonce` is fresh for every request and comes back in the grant.  `person` is a pseudonym that
    only the author's facility can resolve.
    """

    version: Natural
    author: Key
    addressee: Key
    issued_at: Instant
    nonce: Id16
    retrieve_handle: Id16
    person: Name
    role: Name
    purpose: Name


@dataclass(frozen=True, slots=True)
class PackKey:
    """The AES-256 key of one pack."""

    pack_id: Id16
    key: Key


@dataclass(frozen=True, slots=True)
class PackKeys:
    """The content of the box in a grant."""

    keys: Annotated[tuple[PackKey, ...], Size(0, MANIFEST_PACKS)]


@dataclass(frozen=True, slots=True)
class GrantBody:
    """What an origin signs: leave for one partner to fetch one manifest version until an instant.

    `box_hash` is BLAKE3 of the box that travels beside it, `manifest_bytes` the length of the
    encoded manifest.
    """

    version: Natural
    author: Key
    addressee: Key
    issued_at: Instant
    expires_at: Instant
    grant_id: Id16
    nonce: Id16
    retrieve_handle: Id16
    manifest_version: Natural
    manifest_root: Hash
    manifest_bytes: Natural
    box_hash: Hash


@dataclass(frozen=True, slots=True)
class SignedGrant:
    """A grant as it travels: the statement, and PackKeys in a box sealed to the addressee.

    The box's associated data are the grant id and the root: cut out of one grant it does not open
    in another.
    """

    statement: Statement
    box: Annotated[bytes, Size(0, GRANT_BOX_BYTES)]


@dataclass(frozen=True, slots=True)
class ReceiptBody:
    """What a recipient signs when a transfer has ended, one way or another.

    `missing` names SOP Instance UIDs; of more than RECEIPT_MISSING the first ones, in the order of
    the manifest.
    """

    version: Natural
    author: Key
    addressee: Key
    issued_at: Instant
    grant_id: Id16
    manifest_root: Hash
    outcome: Name
    instances: Natural
    verified: Natural
    missing: Annotated[tuple[Name, ...], Size(0, RECEIPT_MISSING)]

    def sentence(self) -> str:
        """Return the receipt in words for a person; no patient attribute is in them."""
        count = f"{self.verified}/{self.instances} instances verified"
        if self.outcome == VERIFIED:
            return count
        if self.outcome == DESTROYED:
            return "Destroyed after revocation: the recipient keeps nothing of this study."
        return f"{count}, {self.instances - self.verified} missing"


def open_request(
    statement: Statement, *, key: bytes, author: bytes, me: bytes, now: int
) -> GrantRequestBody:
    """Return the request that `author`, whose node key is `key`, signed for `me` just now.

    Raise what `open_addressed` raises, and Expired if it is older than CLOCK_SKEW_S.
    """
    body = open_addressed(
        statement, REQUEST_DOMAIN, GrantRequestBody, key=key, author=author, me=me, now=now
    )
    _check_version(body.version)
    if now - body.issued_at > CLOCK_SKEW_S:
        msg = f"a request for a study is older than {CLOCK_SKEW_S} s; compare the clocks"
        raise Expired(msg)
    return body


def open_grant(
    signed: SignedGrant, *, key: bytes, request: GrantRequestBody, now: int
) -> GrantBody:
    """Return the grant with which the origin, whose node key is `key`, answers `request`.

    Raise what `open_addressed` raises, WrongContent if it answers another request, Malformed or
    Expired if its end is out of bounds.
    """
    body = open_addressed(
        signed.statement,
        GRANT_DOMAIN,
        GrantBody,
        key=key,
        author=request.addressee,
        me=request.author,
        now=now,
    )
    _check_version(body.version)
    if (body.nonce, body.retrieve_handle) != (request.nonce, request.retrieve_handle):
        msg = "a grant answers another request"
        raise WrongContent(msg)
    if plain_hash(signed.box) != body.box_hash:
        msg = "the keys beside a grant are not those that were signed with it"
        raise WrongContent(msg)
    if not body.issued_at < body.expires_at <= body.issued_at + GRANT_MOST_S:
        msg = f"a grant lives for 1 to {GRANT_MOST_S} s"
        raise Malformed(msg)
    if body.expires_at + CLOCK_SKEW_S <= now:
        msg = "a grant was over before it came; compare the clocks of both facilities"
        raise Expired(msg)
    return body


def open_receipt(
    statement: Statement, *, key: bytes, author: bytes, me: bytes, now: int
) -> ReceiptBody:
    """Return the receipt that `author` signed for `me`, its counts in agreement.

    A receipt has no age limit: its author may have been offline since it was signed.
    """
    body = open_addressed(
        statement, RECEIPT_DOMAIN, ReceiptBody, key=key, author=author, me=me, now=now
    )
    _check_version(body.version)
    check_receipt(body)
    return body


def check_receipt(body: ReceiptBody) -> None:
    """Return if the counts of a receipt agree with its outcome; raise Malformed if not."""
    absent = body.instances - body.verified
    agrees = {
        VERIFIED: absent == 0 and not body.missing,
        INCOMPLETE: absent > 0 and len(body.missing) == min(absent, RECEIPT_MISSING),
        DESTROYED: body.verified == 0 and not body.missing,
    }
    if not agrees.get(body.outcome, False):
        msg = "the counts of a receipt contradict its outcome"
        raise Malformed(msg)
    if not all(is_uid(uid) for uid in body.missing):
        msg = "a receipt names a missing instance by something that is no UID"
        raise Malformed(msg)


def match_receipt(body: ReceiptBody, *, manifest_root: bytes, instances: int) -> None:
    """Return if a receipt is for the content that its grant was for; raise WrongContent if not."""
    if (body.manifest_root, body.instances) != (manifest_root, instances):
        msg = "a receipt is for other content than was granted"
        raise WrongContent(msg)


def seal_keys(
    recipient: bytes,
    ephemeral_secret: bytes,
    keys: Mapping[bytes, bytes],
    *,
    grant_id: bytes,
    manifest_root: bytes,
) -> bytes:
    """Return the box with the key of every pack id in `keys`, for the holder of `recipient`.

    `ephemeral_secret`: 32 fresh random bytes, used for this box only.
    """
    content = PackKeys(tuple(PackKey(pack_id, key) for pack_id, key in sorted(keys.items())))
    return seal(recipient, ephemeral_secret, to_bytes(content), _KEYS + grant_id + manifest_root)


def open_keys(
    secret: bytes, signed: SignedGrant, grant: GrantBody, packs: Sequence[bytes]
) -> dict[bytes, bytes]:
    """Return pack id -> key from a grant's box; raise WrongContent if not exactly for `packs`."""
    content = unseal(secret, signed.box, _KEYS + grant.grant_id + grant.manifest_root)
    keys = {each.pack_id: each.key for each in from_bytes(PackKeys, content, GRANT_BOX_BYTES).keys}
    if keys.keys() != set(packs):
        msg = "a grant's keys are not those of the packs in its manifest"
        raise WrongContent(msg)
    return keys


def _check_version(version: int) -> None:
    if version != PROTOCOL_VERSION:
        msg = f"a statement of version {version}; this side speaks {PROTOCOL_VERSION}"
        raise UnknownMessage(msg)
