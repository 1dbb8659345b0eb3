"""Notices: "images of your patient are available", signed, sealed, and acknowledged by a person.

Who the patient is and which studies are meant is sealed to the addressee inside the signed
statement, so the box can lie in an outbox or pass through a log of frames without telling anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from protocol.errors import Malformed, UnknownMessage
from protocol.identifiers import is_uid
from protocol.limits import NOTICE_STUDIES, PROTOCOL_VERSION, SEAL_OVERHEAD, STATEMENT_BYTES
from protocol.records import Id16, Instant, Key, Name, Natural, Sentence, Size, from_bytes, to_bytes
from protocol.sealing import seal, unseal
from protocol.statements import Statement, open_addressed

NOTICE_DOMAIN: Final = "notice"
ACKNOWLEDGEMENT_DOMAIN: Final = "notice-acknowledged"

_CONTENT: Final = b"openpriors/1 notice"
"""Starts the associated data of the box in a notice."""


@dataclass(frozen=True, slots=True)
class NoticeStudy:
    """What a notice says of one study; `study_date` is YYYYMMDD or ''."""

    study_instance_uid: Name
    study_date: Annotated[str, Size(0, 8)]
    modalities: Name
    description: Name


@dataclass(frozen=True, slots=True)
class NoticeContent:
    """What only the addressee reads; `patient_name` in DICOM's form, `birth_date` YYYYMMDD or ''.

    `text` is a sentence of the sender's own, or ''.
    """

    patient_name: Sentence
    birth_date: Annotated[str, Size(0, 8)]
    sex: Annotated[str, Size(0, 1)]
    studies: Annotated[tuple[NoticeStudy, ...], Size(1, NOTICE_STUDIES)]
    text: Sentence


@dataclass(frozen=True, slots=True)
class NoticeBody:
    """The signed statement around a box; `notice_id` is 16 random bytes.

    `person` is a pseudonym of the author's: who wrote it, in which role and for which purpose.
    """

    version: Natural
    author: Key
    addressee: Key
    issued_at: Instant
    notice_id: Id16
    person: Name
    role: Name
    purpose: Name
    box: Annotated[bytes, Size(SEAL_OVERHEAD, STATEMENT_BYTES)]


@dataclass(frozen=True, slots=True)
class AcknowledgementBody:
    """A person at `author` has seen the notice; `person` is a pseudonym of that facility's."""

    version: Natural
    author: Key
    addressee: Key
    issued_at: Instant
    notice_id: Id16
    acknowledged_at: Instant
    person: Name
    role: Name
    purpose: Name


def seal_content(
    recipient: bytes, ephemeral_secret: bytes, content: NoticeContent, notice_id: bytes
) -> bytes:
    """Return the box for the holder of the sealing key `recipient`.

    `ephemeral_secret`: 32 fresh random bytes, used for this box only.
    """
    return seal(recipient, ephemeral_secret, to_bytes(content), _CONTENT + notice_id)


def open_content(secret: bytes, notice: NoticeBody) -> NoticeContent:
    """Return what a notice says; raise BadSignature if it was sealed to another facility."""
    content = from_bytes(
        NoticeContent, unseal(secret, notice.box, _CONTENT + notice.notice_id), STATEMENT_BYTES
    )
    if not all(is_uid(study.study_instance_uid) for study in content.studies):
        msg = "a notice names a study by something that is no UID"
        raise Malformed(msg)
    return content


def open_notice(
    statement: Statement, *, key: bytes, author: bytes, me: bytes, now: int
) -> NoticeBody:
    """Return the notice that `author` signed for `me`, its box still closed.

    A notice has no age limit: it waits in an outbox for as long as the addressee is away.
    """
    body = open_addressed(
        statement, NOTICE_DOMAIN, NoticeBody, key=key, author=author, me=me, now=now
    )
    _check_version(body.version)
    return body


def open_acknowledgement(
    statement: Statement, *, key: bytes, author: bytes, me: bytes, now: int
) -> AcknowledgementBody:
    """Return the acknowledgement that `author` signed for `me`; it has no age limit either."""
    body = open_addressed(
        statement,
        ACKNOWLEDGEMENT_DOMAIN,
        AcknowledgementBody,
        key=key,
        author=author,
        me=me,
        now=now,
    )
    _check_version(body.version)
    return body


def _check_version(version: int) -> None:
    if version != PROTOCOL_VERSION:
        msg = f"a statement of version {version}; this side speaks {PROTOCOL_VERSION}"
        raise UnknownMessage(msg)
