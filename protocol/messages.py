"""Every message of a link: one frozen record each, under a registered name and its own bound.

A frame is the record `[kind, id, name, body]`; `body` is the bytes of the message's record, so that
its size is judged by the bound of its name before it is parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from protocol.entries import SignedBatch, SignedHeader
from protocol.epochs import SignedEpoch
from protocol.errors import LocalProtocolError, Malformed, Oversized, UnknownMessage
from protocol.keyrecord import SignedKeyRecord
from protocol.limits import (
    ANSWER_BATCHES,
    EPOCHS,
    EVALUATION_BYTES,
    GRANT_ANSWER_BYTES,
    HAVE_BYTES,
    HAVE_ORIGINS,
    KEY_EPOCHS,
    KEY_RECORD_BYTES,
    MESSAGE_BYTES,
    PIECE_BYTES,
    SEAL_OVERHEAD,
    STATEMENT_BYTES,
)
from protocol.records import (
    Hash,
    Id16,
    Instant,
    Key,
    Name,
    Natural,
    Range,
    Sentence,
    Size,
    from_bytes,
    from_prefix,
    to_bytes,
)
from protocol.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

Message = TypeVar("Message")


class Kind(IntEnum):
    """What a frame is to the conversation."""

    REQUEST = 0
    """Expects one ANSWER or REFUSAL with the same id."""
    ANSWER = 1
    REFUSAL = 2
    """The answer "no": the message is `Refused`."""
    TELL = 3
    """Expects nothing; its id is 0.  A `Refused` that is told answers something told before."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message on a link.  `id` is the asker's number for a request, 0 for a TELL."""

    kind: Annotated[int, Range(0, 3)]
    id: Natural
    name: Annotated[str, Size(1, 64)]
    body: bytes


_CLASSES: Final[dict[str, tuple[type, int]]] = {}
_NAMES: Final[dict[type, str]] = {}

FRAME_OVERHEAD: Final = 128
"""Bytes of a frame beside its body, generously: name, id and MessagePack's own."""

DEFAULT_MESSAGE_BYTES: Final = 4096
"""Bound of a message whose class names no other."""


def message(
    name: str, limit: int = DEFAULT_MESSAGE_BYTES
) -> Callable[[type[Message]], type[Message]]:
    """Register a record class as the message `name` whose body has at most `limit` bytes."""

    def register(kind: type[Message]) -> type[Message]:
        if name in _CLASSES or limit > MESSAGE_BYTES - FRAME_OVERHEAD:
            msg = f"the message {name} is registered twice, or its bound exceeds a frame's"
            raise LocalProtocolError(msg)
        _CLASSES[name] = (kind, limit)
        _NAMES[kind] = name
        return kind

    return register


def registered() -> dict[str, tuple[type, int]]:
    """Return every message by its name: its record class and the bound on its body in bytes."""
    return dict(_CLASSES)


def name_of(kind: type) -> str:
    """Return the name under which a message class travels."""
    try:
        return _NAMES[kind]
    except KeyError:
        msg = f"{kind.__name__} is not registered as a message"
        raise LocalProtocolError(msg) from None


def encode(content: object, kind: Kind, number: int = 0) -> bytes:
    """Return the frame of a message; `number` pairs a request with its answer."""
    name = name_of(type(content))
    if kind is Kind.REFUSAL and not isinstance(content, Refused):
        msg = f"{name} cannot travel as {kind.name}"
        raise LocalProtocolError(msg)
    body = to_bytes(content)
    if len(body) > _CLASSES[name][1]:
        msg = f"{name} has {len(body)} bytes, more than its bound of {_CLASSES[name][1]}"
        raise LocalProtocolError(msg)
    return to_bytes(Frame(int(kind), number, name, body))


def read_frame(data: bytes) -> Frame:
    """Return the frame in `data`, its message still unread; raise Oversized or Malformed."""
    return from_bytes(Frame, data, MESSAGE_BYTES)


def read_message(frame: Frame) -> object:
    """Return the message in a frame; raise UnknownMessage, Oversized or Malformed."""
    if frame.name not in _CLASSES:
        msg = "a message of a kind that this version does not speak"
        raise UnknownMessage(msg)
    kind, limit = _CLASSES[frame.name]
    if len(frame.body) > limit:
        msg = f"{frame.name} has {len(frame.body)} bytes where at most {limit} are allowed"
        raise Oversized(msg)
    if frame.kind == Kind.REFUSAL and kind is not Refused:
        msg = f"{frame.name} does not travel in a frame of this kind"
        raise Malformed(msg)
    # Two sides that have yet to find a common version read these two of each other.
    read = from_prefix if kind in {Hello, Refused} else from_bytes
    return read(kind, frame.body, limit)


def decode(data: bytes) -> tuple[Frame, object]:
    """Return the frame in `data` and its message; raise what `read_frame`, `read_message` raise."""
    frame = read_frame(data)
    return frame, read_message(frame)


# -- the link itself --------------------------------------------------------------------------


@message("hello")
@dataclass(frozen=True, slots=True)
class Hello:
    """First message of each side, and what it speaks (`protocol.versions`).

    `record_held`: the revision of the addressee's key record that the sender holds, so that the
    addressee knows whether to tell it a newer one.  `now`: the sender's clock.
    """

    oldest_version: Natural
    newest_version: Natural
    peer_id: Key
    addressee: Key
    record_held: Natural
    now: Instant


@message("refused", limit=8192)
@dataclass(frozen=True, slots=True)
class Refused:
    """The answer "no": a code for programs, a reason and a remedy for people."""

    code: Annotated[str, Size(1, 64)]
    reason: Sentence
    remedy: Sentence


@message("done")
@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a request that asked for nothing but to be carried out."""


@message("gone")
@dataclass(frozen=True, slots=True)
class Gone:
    """The sender closes the link on purpose."""

    reason: Sentence


@message("key-record", limit=KEY_RECORD_BYTES + 128)
@dataclass(frozen=True, slots=True)
class NewKeyRecord:
    """The sender's key record, newer than the one that the addressee holds."""

    record: SignedKeyRecord


# -- exchange -----------------------------------------------------------------------------------

HAVE_DOMAIN: Final = "have"


@dataclass(frozen=True, slots=True)
class OriginHead:
    """How far the author holds one origin's journal."""

    origin: Key
    epoch: Natural
    batch: Natural
    header_hash: Hash
    last_seq: Natural


@dataclass(frozen=True, slots=True)
class HaveBody:
    """What `author` holds, durably, of the journals that it and `addressee` both list."""

    author: Key
    addressee: Key
    issued_at: Instant
    heads: Annotated[tuple[OriginHead, ...], Size(0, HAVE_ORIGINS)]


@message("have", limit=HAVE_BYTES + 128)
@dataclass(frozen=True, slots=True)
class Have:
    """A signed `HaveBody` (domain "have"): witness, and acknowledgement of withdrawals."""

    statement: Statement


@message("holding")
@dataclass(frozen=True, slots=True)
class Holding:
    """A hash over what the sender holds (`protocol.renewal`), which renews its last signed HAVE.

    `asks`: the addressee's last hash renewed nothing here, so that it has to sign a HAVE that names
    all that it holds.
    """

    digest: Hash
    asks: bool


@message("exchange-now", limit=HAVE_BYTES + 128)
@dataclass(frozen=True, slots=True)
class ExchangeNow:
    """A HAVE that is answered as soon as all that it announces is held; else it is refused."""

    statement: Statement


@message("want")
@dataclass(frozen=True, slots=True)
class Want:
    """Asks for the batches of one journal from `from_batch` on."""

    origin: Key
    epoch: Natural
    from_batch: Natural


@message("batches", limit=MESSAGE_BYTES - FRAME_OVERHEAD)
@dataclass(frozen=True, slots=True)
class Batches:
    """Consecutive batches of one journal; `more`: the sender holds further ones.

    `newest`: the newest header that the sender holds, if batches that end below its floor are among
    these: they come without their entries, and its signature shows that they may.
    """

    origin: Key
    batches: Annotated[tuple[SignedBatch, ...], Size(1, ANSWER_BATCHES)]
    more: bool
    newest: SignedHeader | None = None


@message("origins", limit=HAVE_ORIGINS * 18 + 16)
@dataclass(frozen=True, slots=True)
class Origins:
    """Whose journals the sender lists, each under a name that only its acquaintances recognise."""

    names: Annotated[tuple[Id16, ...], Size(0, HAVE_ORIGINS)]


@message("want-header")
@dataclass(frozen=True, slots=True)
class WantHeader:
    """Asks for one signed header, to be compared with one's own."""

    origin: Key
    epoch: Natural
    batch: Natural


@message("header")
@dataclass(frozen=True, slots=True)
class HeldHeader:
    """One signed header, as the sender holds it."""

    origin: Key
    header: SignedHeader


@message("fork")
@dataclass(frozen=True, slots=True)
class Fork:
    """A proof that `origin` told two histories (`protocol.forks`)."""

    origin: Key
    first: SignedHeader
    second: SignedHeader


@message("epochs", limit=32768)
@dataclass(frozen=True, slots=True)
class Epochs:
    """The root-signed records of the epochs of one journal that the asker does not know yet."""

    origin: Key
    epochs: Annotated[tuple[SignedEpoch, ...], Size(1, EPOCHS)]


# -- relay --------------------------------------------------------------------------------------

MEMBERSHIP_DOMAIN: Final = "membership"


@dataclass(frozen=True, slots=True)
class MembershipBody:
    """`author` is an origin; `addressee` may be given its journal and pass it on, until `until`."""

    author: Key
    addressee: Key
    issued_at: Instant
    until: Instant


@message("membership")
@dataclass(frozen=True, slots=True)
class Membership:
    """A signed `MembershipBody` (domain "membership") of the sender's for the addressee."""

    statement: Statement


@message("want-relayed")
@dataclass(frozen=True, slots=True)
class WantRelayed:
    """Asks for batches of a third facility's journal; `membership` is the asker's own."""

    origin: Key
    epoch: Natural
    from_batch: Natural
    membership: Statement


@message("relayed", limit=MESSAGE_BYTES - FRAME_OVERHEAD)
@dataclass(frozen=True, slots=True)
class Relayed:
    """What `Batches` says of a third facility's journal; `membership` is the sender's own."""

    origin: Key
    batches: Annotated[tuple[SignedBatch, ...], Size(1, ANSWER_BATCHES)]
    more: bool
    newest: SignedHeader | None
    membership: Statement


# -- search -------------------------------------------------------------------------------------

_Points = Annotated[bytes, Size(EVALUATION_BYTES, EVALUATION_BYTES)]


@message("evaluate")
@dataclass(frozen=True, slots=True)
class Evaluate:
    """One search: eight blinded elements of each tier, 32 B each; the answer is `Evaluated`.

    `clinician` is a pseudonym that the asker's facility alone can resolve.
    """

    search_id: Id16
    clinician: Name
    role: Name
    purpose: Name
    strong: _Points
    weak: _Points


@dataclass(frozen=True, slots=True)
class AudienceAnswer:
    """The elements of `Evaluate`, each multiplied by one audience's key of its tier."""

    key_epoch: Natural
    strong: _Points
    weak: _Points


@message("evaluated")
@dataclass(frozen=True, slots=True)
class Evaluated:
    """Pairs of answers: the audience of all partners, and the one of this partner alone.

    The first pair is of the present key epochs; those of past ones follow while patients move.
    """

    answers: Annotated[tuple[AudienceAnswer, ...], Size(2, 2 * KEY_EPOCHS)]


@message("identify", limit=STATEMENT_BYTES)
@dataclass(frozen=True, slots=True)
class Identify:
    """Asks whether a record is of a person; the box is of `identify.seal_question`."""

    box: Annotated[bytes, Size(SEAL_OVERHEAD, STATEMENT_BYTES - 64)]


@message("identified")
@dataclass(frozen=True, slots=True)
class Identified:
    """The answer to `Identify`; the box is of `identify.seal_answer`."""

    box: Annotated[bytes, Size(SEAL_OVERHEAD, 128)]


@message("search-keys")
@dataclass(frozen=True, slots=True)
class SearchKeys:
    """The author's search keys for the addressee, or none; the box is of `delegation.seal_keys`."""

    box: Annotated[bytes, Size(SEAL_OVERHEAD, DEFAULT_MESSAGE_BYTES - 64)]


# -- retrieval ----------------------------------------------------------------------------------


@message("grant-request", limit=STATEMENT_BYTES)
@dataclass(frozen=True, slots=True)
class GrantRequest:
    """Asks for leave to retrieve one study; the body is `grant.GrantRequestBody`."""

    statement: Statement


@message("grant-answer", limit=GRANT_ANSWER_BYTES)
@dataclass(frozen=True, slots=True)
class GrantAnswer:
    """A grant, sealed to the asker, and the signed manifest of the study (`manifest`)."""

    grant: Annotated[bytes, Size(1, GRANT_ANSWER_BYTES)]
    manifest: Annotated[bytes, Size(1, GRANT_ANSWER_BYTES)]


@message("receipt", limit=STATEMENT_BYTES)
@dataclass(frozen=True, slots=True)
class ReceiptMessage:
    """The recipient's signed receipt; the body is `grant.ReceiptBody`."""

    statement: Statement


@message("read-range")
@dataclass(frozen=True, slots=True)
class ReadRange:
    """Asks for bytes of a granted pack of an origin whose listener has no address."""

    grant_id: Id16
    pack_id: Id16
    start: Natural
    length: Annotated[int, Range(1, PIECE_BYTES)]


@message("range-bytes", limit=PIECE_BYTES + 64)
@dataclass(frozen=True, slots=True)
class RangeBytes:
    """Exactly the bytes that were asked for."""

    data: Annotated[bytes, Size(1, PIECE_BYTES)]


# -- notices ------------------------------------------------------------------------------------


@message("notice", limit=STATEMENT_BYTES)
@dataclass(frozen=True, slots=True)
class Notice:
    """A signed notice: images of your patient are available."""

    statement: Statement


@message("notice-acknowledged", limit=STATEMENT_BYTES)
@dataclass(frozen=True, slots=True)
class NoticeAcknowledged:
    """A person at the addressee has seen the notice."""

    statement: Statement


# -- the end ------------------------------------------------------------------------------------

REMOVAL_DOMAIN: Final = "removal"
REMOVAL_RECEIPT_DOMAIN: Final = "removal-receipt"


@dataclass(frozen=True, slots=True)
class RemovalBody:
    """`author` ends the partnership of `pairing_id` and asks that its digests be purged."""

    author: Key
    addressee: Key
    issued_at: Instant
    pairing_id: Hash


@message("removal")
@dataclass(frozen=True, slots=True)
class Removal:
    """A signed `RemovalBody` (domain "removal")."""

    statement: Statement


@message("removal-receipt")
@dataclass(frozen=True, slots=True)
class RemovalReceipt:
    """A signed `RemovalBody` with the addressee as author (domain "removal-receipt")."""

    statement: Statement
