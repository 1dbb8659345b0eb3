"""Signed statements: a record, the exact bytes that were signed, and the signature.

What is verified are the bytes as received.  A statement that names its author and addressee is
judged by `open_addressed`, so that no reader can forget to ask "signed by whom, meant for whom".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

from protocol.errors import Expired, WrongAddressee
from protocol.limits import CLOCK_SKEW_S, STATEMENT_BYTES
from protocol.records import Signature, Size, from_bytes, to_bytes
from protocol.signing import sign, verify

Body = TypeVar("Body")


class Addressed(Protocol):
    """What every statement from one facility to another says, whatever else it says."""

    @property
    def author(self) -> bytes:
        """PeerId of the facility that signed."""

    @property
    def addressee(self) -> bytes:
        """PeerId of the one facility it is meant for."""

    @property
    def issued_at(self) -> int:
        """Unix seconds by the author's clock."""


AddressedBody = TypeVar("AddressedBody", bound=Addressed)


@dataclass(frozen=True, slots=True)
class Statement:
    """`signature` is the author's node key over `payload` in the domain of the payload's class."""

    payload: Annotated[bytes, Size(1, 2 * STATEMENT_BYTES)]
    signature: Signature


def sign_statement(seed: bytes, domain: str, record: object) -> Statement:
    """Return `record` as a statement signed with the 32-byte Ed25519 `seed` under `domain`."""
    payload = to_bytes(record)
    return Statement(payload, sign(seed, domain, payload))


def open_statement(
    key: bytes,
    domain: str,
    kind: type[Body],
    statement: Statement,
    limit: int = STATEMENT_BYTES,
) -> Body:
    """Return the record in a statement after `key`'s signature over its bytes was verified.

    Raise BadSignature, Oversized or Malformed.
    """
    verify(key, domain, statement.payload, statement.signature)
    return from_bytes(kind, statement.payload, limit)


def open_addressed(
    statement: Statement,
    domain: str,
    kind: type[AddressedBody],
    *,
    key: bytes,
    author: bytes,
    me: bytes,
    now: int,
    limit: int = STATEMENT_BYTES,
) -> AddressedBody:
    """Return the record in a statement that `author` signed for `me`.

    Raise WrongAddressee if it names another author or addressee, Expired if it is dated more than
    CLOCK_SKEW_S ahead of `now`, and what `open_statement` raises.
    """
    body = open_statement(key, domain, kind, statement, limit)
    if body.author != author:
        msg = "a statement names another author than the partner whose key signed it"
        raise WrongAddressee(msg)
    if body.addressee != me:
        msg = "a statement is meant for another facility"
        raise WrongAddressee(msg)
    if body.issued_at > now + CLOCK_SKEW_S:
        msg = "a statement is dated ahead of this clock; compare the clocks of both facilities"
        raise Expired(msg)
    return body
