"""Asking one facility whether a record that a weak match key hints at is of the person in question.

A weak key opens nothing, so the asker names the person to the one facility that holds the record,
in a signed question sealed to it.  That facility compares in the open, by its matcher or by a
person, and answers with the patient key, "not the same person", or "someone will look".  Answers
are all of one length.  Specification: docs/protocol/matching.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Final

from protocol import limits
from protocol.digest import PATIENT_KEY_BYTES
from protocol.errors import Expired, LocalProtocolError, Malformed, UnknownMessage
from protocol.hashing import plain_hash
from protocol.identifiers import PatientIdentifier
from protocol.limits import CLOCK_SKEW_S, PROTOCOL_VERSION, STATEMENT_BYTES
from protocol.matching.keys import Demographics
from protocol.records import Id16, Instant, Key, Name, Natural, Size, from_bytes, to_bytes
from protocol.sealing import seal, unseal
from protocol.statements import Statement, open_addressed

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.matching.score import Score

IDENTIFY_DOMAIN: Final = "identify"

LOOK_PROBABILITY: Final = 0.05
"""From here on someone has to look before "somebody else" is said: a changed surname, a wrong year
of birth.  Below it nearly every record is a stranger's."""

_QUESTION: Final = b"openpriors/1 identify"
_ANSWER: Final = b"openpriors/1 identified"
"""Start the associated data of the two boxes."""

Text = Annotated[str, Size(0, limits.SHORT_TEXT_BYTES)]


class Outcome(IntEnum):
    """First byte of an answer."""

    OTHER = 0
    """Not the person asked for."""
    SAME = 1
    """The person asked for; the patient key follows."""
    PENDING = 2
    """Someone there must look; the same question, asked later, gets their answer."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whom the question is about; each field as in `Demographics`."""

    names: Annotated[
        tuple[Annotated[str, Size(0, limits.NAME_TEXT_BYTES)], ...], Size(0, limits.CARD_NAMES)
    ]
    birth_date: Text
    sex: Text
    identifiers: Annotated[tuple[PatientIdentifier, ...], Size(0, limits.CARD_IDENTIFIERS)]


@dataclass(frozen=True, slots=True)
class IdentifyBody:
    """What the asker signs.  `entry_id`: the record; `clinician`: a pseudonym of the author's."""

    version: Natural
    author: Key
    addressee: Key
    issued_at: Instant
    search_id: Id16
    entry_id: Id16
    clinician: Name
    role: Name
    purpose: Name
    person: Person


@dataclass(frozen=True, slots=True)
class Identity:
    """An answer.  `patient_key` (16 B) is zero unless the outcome is SAME."""

    outcome: Outcome
    patient_key: bytes = bytes(PATIENT_KEY_BYTES)


def person_of(demographics: Demographics) -> Person:
    """Return a description as it travels."""
    return Person(
        demographics.names[: limits.CARD_NAMES],
        demographics.birth_date,
        demographics.sex,
        demographics.identifiers[: limits.CARD_IDENTIFIERS],
    )


def demographics_of(person: Person) -> Demographics:
    """Return a description as it is matched."""
    return Demographics(person.names, person.birth_date, person.sex, person.identifiers)


def person_hash(demographics: Demographics) -> bytes:
    """Return the hash (32 B) by which both sides remember a question about a person."""
    return plain_hash(to_bytes(person_of(demographics)))


def outcome_of(fit: Score) -> Outcome:
    """Return what follows from how well the record of the facility asked fits the question."""
    if fit.tier in {"match", "probable"}:
        return Outcome.SAME
    return Outcome.PENDING if fit.probability >= LOOK_PROBABILITY else Outcome.OTHER


def seal_question(
    recipient: bytes, ephemeral_secret: bytes, body: IdentifyBody, sign: Callable[[bytes], bytes]
) -> bytes:
    """Return the signed question in a box for the holder of the X25519 key `recipient`.

    `sign` signs in the domain "identify".  `ephemeral_secret`: 32 fresh random bytes.
    """
    payload = to_bytes(body)
    statement = Statement(payload, sign(payload))
    return seal(recipient, ephemeral_secret, to_bytes(statement), _QUESTION)


def open_question(
    secret: bytes, box: bytes, *, key: bytes, author: bytes, me: bytes, now: int
) -> IdentifyBody:
    """Return the question in a box sealed to us; raise RemoteProtocolError.

    Besides what `open_addressed` raises, Expired for one older than CLOCK_SKEW_S: a question names
    a patient, and is not to be asked again by whoever finds it in a log.
    """
    statement = from_bytes(Statement, unseal(secret, box, _QUESTION), STATEMENT_BYTES)
    body = open_addressed(
        statement, IDENTIFY_DOMAIN, IdentifyBody, key=key, author=author, me=me, now=now
    )
    if body.version != PROTOCOL_VERSION:
        msg = f"a question of version {body.version}; this side speaks {PROTOCOL_VERSION}"
        raise UnknownMessage(msg)
    if body.issued_at < now - CLOCK_SKEW_S:
        msg = "a question is older than ten minutes; ask again, and compare the clocks"
        raise Expired(msg)
    return body


def seal_answer(
    recipient: bytes, ephemeral_secret: bytes, body: IdentifyBody, identity: Identity
) -> bytes:
    """Return the answer to `body` in a box that only the asker opens."""
    if len(identity.patient_key) != PATIENT_KEY_BYTES:
        msg = f"a patient key has {PATIENT_KEY_BYTES} bytes"
        raise LocalProtocolError(msg)
    plain = bytes([identity.outcome]) + identity.patient_key
    return seal(recipient, ephemeral_secret, plain, _answer_to(body))


def open_answer(secret: bytes, box: bytes, body: IdentifyBody) -> Identity:
    """Return the answer to our question `body`; raise BadSignature or Malformed."""
    plain = unseal(secret, box, _answer_to(body))
    if len(plain) != 1 + PATIENT_KEY_BYTES or plain[0] not in set(Outcome):
        msg = "an answer about a person has another form than it must"
        raise Malformed(msg)
    return Identity(Outcome(plain[0]), plain[1:])


def _answer_to(body: IdentifyBody) -> bytes:
    return _ANSWER + body.search_id + body.entry_id
