"""What people here have said of two records: one person, or two.  Signed, and undone by a new word.

A link holds between two refs.  A ref names a record (its facility and number there) or the
description that was asked for (its hash, `identify.person_hash`).  The newest statement about a
pair stands, so that undoing is saying nothing again.  Links stay at the facility where they were
made: they are what its people think, and change nothing at the origin.  Specification:
docs/protocol/matching.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Final

from protocol.errors import BadSignature, Malformed
from protocol.hashing import HASH_BYTES
from protocol.identifiers import PEER_ID_BYTES, PeerId
from protocol.limits import PROTOCOL_VERSION
from protocol.records import Instant, Key, Name, Natural, Size
from protocol.statements import Statement, open_statement, sign_statement

if TYPE_CHECKING:
    from collections.abc import Iterable

LINK_DOMAIN: Final = "person-link"

RECORD_BYTES: Final = 16
"""An entry id of a partner's, or the number of a patient of ours."""

DESCRIPTION_REF_BYTES: Final = HASH_BYTES
RECORD_REF_BYTES: Final = PEER_ID_BYTES + RECORD_BYTES

Ref = Annotated[bytes, Size(DESCRIPTION_REF_BYTES, RECORD_REF_BYTES)]


class Verdict(IntEnum):
    """What is said of a pair."""

    NOTHING = 0
    """Whatever was said before is undone."""
    SAME = 1
    """One person."""
    OTHER = 2
    """Two people."""


@dataclass(frozen=True, slots=True)
class LinkBody:
    """What the node signs.  `one` is less than `other`; `person`: a pseudonym of who says it."""

    version: Natural
    author: Key
    made_at: Instant
    one: Ref
    other: Ref
    verdict: Natural
    person: Name


def record_ref(facility: bytes, record: bytes) -> bytes:
    """Return the ref of a record (16 B) at a facility."""
    return facility + record


def own_ref(me: bytes, patient: int) -> bytes:
    """Return the ref of a patient of our own."""
    return me + patient.to_bytes(RECORD_BYTES, "big")


def own_patient(me: bytes, ref: bytes) -> int | None:
    """Return the number of our own patient whom a ref names, None if it names somebody else."""
    return int.from_bytes(ref[len(me) :], "big") if facility_of(ref) == me else None


def facility_of(ref: bytes) -> PeerId | None:
    """Return where a record is, None for the ref of a description."""
    return PeerId(ref[:PEER_ID_BYTES]) if len(ref) == RECORD_REF_BYTES else None


def ordered(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    """Return a pair as it is signed and stored; raise Malformed for what is no pair of refs."""
    for ref in (one, other):
        if len(ref) not in (DESCRIPTION_REF_BYTES, RECORD_REF_BYTES):
            msg = "a ref has the length of a description's hash or of a record's name"
            raise Malformed(msg)
    if one == other:
        msg = "a link holds between two different refs"
        raise Malformed(msg)
    low, high = sorted((one, other))
    return low, high


def sign_link(seed: bytes, body: LinkBody) -> Statement:
    """Return a link as a statement of the node key whose 32-byte seed is `seed`."""
    return sign_statement(seed, LINK_DOMAIN, body)


def read_link(statement: Statement, author: bytes, keys: Iterable[bytes]) -> LinkBody:
    """Return what a statement says that one of the node keys of `author` has signed.

    Raise BadSignature, or Malformed for what `author` cannot have said.
    """
    for key in keys:
        try:
            body = open_statement(key, LINK_DOMAIN, LinkBody, statement)
        except BadSignature:
            continue
        known = body.version == PROTOCOL_VERSION and body.verdict in set(Verdict)
        if not known or body.author != author or ordered(body.one, body.other)[0] != body.one:
            msg = "a link says something that none says"
            raise Malformed(msg)
        return body
    msg = "none of this facility's keys has signed a link"
    raise BadSignature(msg)
