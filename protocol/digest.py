"""The searchable digest: what travels of a patient and a study, sealed for who knows the patient.

Two kinds of body stand in a journal, both under the entry's 16-byte salt:

patient   version ‖ 1 ‖ number of slots ‖ slots (49 B each, ordered by label) ‖ card box
study     version ‖ 2 ‖ label (16 B) ‖ box

A *slot* is a label and a box of type ‖ key, both derived from the output of one match key and a
position in its chain.  A strong slot holds the patient key, which opens the card and leads to the
studies; a weak slot holds a stub key, which opens nothing.  Boxes are ChaCha20-Poly1305 (RFC 8439)
under keys that depend on the salt: with body and salt erased nothing can be opened again.  The
bodies, boxes and labels of fillers look like any other to who lacks the key of their chain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from protocol import evaluation, limits, sealing
from protocol.errors import LocalProtocolError, Malformed
from protocol.hashing import derive
from protocol.identifiers import PatientIdentifier
from protocol.records import Hash, Id16, Instant, Natural, Size, from_bytes, to_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

Record = TypeVar("Record")

VERSION: Final = 1
PATIENT_KEY_BYTES: Final = 16
LABEL_BYTES: Final = 16
SLOT_BYTES: Final = LABEL_BYTES + 1 + PATIENT_KEY_BYTES + sealing.TAG_BYTES
FILLER_CARD_BODY: Final = 1008
"""Body size of an entry that only holds filler slots: the one of most patients."""
FILLER_STUDY_BODY: Final = 240
"""Body size of a filler in a chain of studies: the one of a study with few and short texts."""

_SLOT_LABEL: Final = "openpriors 1 slot label"
_SLOT_BOX: Final = "openpriors 1 slot box"
_STUB_KEY: Final = "openpriors 1 stub key"
_CARD_BOX: Final = "openpriors 1 card box"
_STUDY_LABEL: Final = "openpriors 1 study label"
_STUDY_BOX: Final = "openpriors 1 study box"
_CUT: Final = "…"
_LENGTH_BYTES: Final = 2
_PATIENT_HEAD: Final = 3
_STUDY_HEAD: Final = 2 + LABEL_BYTES

Text = Annotated[str, Size(0, limits.SHORT_TEXT_BYTES)]


class BodyKind(IntEnum):
    """Second byte of a body."""

    PATIENT = 1
    STUDY = 2
    KEYS = 3


class SlotType(IntEnum):
    """First byte in a slot's box; the last two are the tiers of `evaluation`."""

    FILLER = 0
    STRONG = evaluation.Tier.STRONG
    WEAK = evaluation.Tier.WEAK


@dataclass(frozen=True, slots=True)
class PatientCard:
    """Who the patient is, as the origin knows them.

    names: PN values, Patient's Name first.  birth_date: YYYYMMDD or ''.  sex: M, F, O or ''.
    consent: reference of the directive under which this is published.  highest_position: of a
    study in the chain when the card was sealed; later studies stand above it.
    """

    names: Annotated[tuple[Annotated[str, Size(0, limits.NAME_TEXT_BYTES)], ...], Size(0, 8)]
    birth_date: Text
    sex: Text
    identifiers: Annotated[tuple[PatientIdentifier, ...], Size(0, limits.CARD_IDENTIFIERS)]
    consent: Id16
    highest_position: Natural


@dataclass(frozen=True, slots=True)
class StudyDigest:
    """What is told of one study.

    study_date: YYYYMMDD or '', study_time: as recorded.  series, instances: counts.  size: bytes.
    availability: Instance Availability (PS3.3 section C.4.23.1.1).  retrieve_handle: names the
    study to its origin.  expires_at: receivers hide the study from this instant on; None: never.
    """

    study_instance_uid: Annotated[str, Size(1, 64)]
    study_date: Text
    study_time: Text
    modalities: Annotated[tuple[Text, ...], Size(0, limits.DIGEST_LIST)]
    body_parts: Annotated[tuple[Text, ...], Size(0, limits.DIGEST_LIST)]
    description: Annotated[str, Size(0, limits.LONG_TEXT_BYTES)]
    accession_number: Text
    accession_issuer: Text
    series: Natural
    instances: Natural
    size: Natural
    availability: Text
    retrieve_handle: Id16
    manifest_root: Hash
    manifest_version: Natural
    expires_at: Instant | None


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in the chain of one match key.  `output`: 64 B of `evaluation`."""

    output: bytes
    position: int
    type: SlotType


@dataclass(frozen=True, slots=True)
class OpenedSlot:
    """What a slot said: the patient key (strong), the stub key (weak), or nothing (filler)."""

    type: SlotType
    key: bytes


# -- labels -----------------------------------------------------------------------------------


def slot_label(output: bytes, position: int) -> bytes:
    """Return the label (16 B) at a position in the chain of a match key's output (64 B)."""
    return derive(_SLOT_LABEL, _at(output, position), LABEL_BYTES)


def study_label(patient_key: bytes, position: int) -> bytes:
    """Return the label (16 B) at a position in a patient's chain of studies."""
    return derive(_STUDY_LABEL, _at(patient_key, position), LABEL_BYTES)


def stub_key(patient_key: bytes) -> bytes:
    """Return what weak slots hold (16 B): it names the patient key and does not reveal it."""
    return derive(_STUB_KEY, patient_key, PATIENT_KEY_BYTES)


def labels(body: bytes) -> tuple[bytes, ...]:
    """Return every label under which a body is looked up; raise Malformed."""
    if _kind(body) is not BodyKind.PATIENT:
        return (body[2:_STUDY_HEAD],)
    return tuple(slot[:LABEL_BYTES] for slot in _slots(body))


# -- patients ---------------------------------------------------------------------------------


def slot_count(used: int) -> int:
    """Return how many slots an entry has of which `used` say something."""
    blocks = max(1, -(-used // limits.SLOT_BLOCK))
    if blocks * limits.SLOT_BLOCK > limits.SLOTS_MOST:
        msg = f"a patient has at most {limits.SLOTS_MOST} slots"
        raise LocalProtocolError(msg)
    return blocks * limits.SLOT_BLOCK


def patient_random_bytes(used: int) -> int:
    """Return how many uniform bytes sealing an entry with `used` slots consumes."""
    return (slot_count(used) - used) * SLOT_BYTES


def seal_patient(
    card: PatientCard, patient_key: bytes, slots: Sequence[Slot], salt: bytes, random: bytes
) -> bytes:
    """Return the body of a patient's entry: all of its slots and its card, too long texts cut.

    `random`: `patient_random_bytes(len(slots))` fresh uniform bytes for the slots left over.
    """
    head, sealed = _seal_slots(patient_key, slots, salt, random)
    before = len(head) + len(sealed)
    content = _card_within(_fitting_card(card), limits.DIGEST_MOST - before - sealing.TAG_BYTES)
    key, nonce = _box_key(_CARD_BOX, patient_key + salt)
    room = _room(before, len(content))
    return head + sealed + sealing.encrypt(key, nonce, _padded(content, room), head)


def filler_random_bytes(used: int) -> int:
    """Return how many uniform bytes `seal_slot_fillers` consumes for `used` slots."""
    least = _PATIENT_HEAD + slot_count(used) * SLOT_BYTES + sealing.TAG_BYTES
    return max(FILLER_CARD_BODY, _size_for(least)) - _PATIENT_HEAD - used * SLOT_BYTES


def seal_slot_fillers(slots: Sequence[Slot], salt: bytes, random: bytes) -> bytes:
    """Return the body of an entry that looks like a patient's and only fills places in chains.

    `random`: `filler_random_bytes(len(slots))` fresh uniform bytes for all that nobody can open.
    """
    spare = patient_random_bytes(len(slots))
    head, sealed = _seal_slots(bytes(PATIENT_KEY_BYTES), slots, salt, random[:spare])
    return head + sealed + random[spare:]


def open_slot(body: bytes, output: bytes, position: int, salt: bytes) -> OpenedSlot:
    """Return what the slot of a match key at `position` says.

    Raises Malformed if the body has no such slot, BadSignature if its box does not open.
    """
    label = slot_label(output, position)
    box = next((slot[LABEL_BYTES:] for slot in _slots(body) if slot.startswith(label)), None)
    if box is None:
        msg = "this entry has no slot with that label"
        raise Malformed(msg)
    key, nonce = _box_key(_SLOT_BOX, _at(output, position) + salt)
    plain = sealing.decrypt(key, nonce, box)
    try:
        return OpenedSlot(SlotType(plain[0]), plain[1:])
    except ValueError as error:
        msg = "a slot of a type that this version does not know"
        raise Malformed(msg) from error


def open_card(body: bytes, patient_key: bytes, salt: bytes) -> PatientCard:
    """Return a patient's card; raise Malformed, or BadSignature if the key does not open it."""
    start = _PATIENT_HEAD + len(_slots(body)) * SLOT_BYTES
    key, nonce = _box_key(_CARD_BOX, patient_key + salt)
    padded = sealing.decrypt(key, nonce, body[start:], body[:_PATIENT_HEAD])
    return from_bytes(PatientCard, _unpadded(padded), limits.DIGEST_BYTES)


# -- studies ----------------------------------------------------------------------------------


def seal_study(digest: StudyDigest | None, patient_key: bytes, position: int, salt: bytes) -> bytes:
    """Return the body of a study's entry, too long texts cut; None makes a filler."""
    head = bytes([VERSION, BodyKind.STUDY]) + study_label(patient_key, position)
    key, nonce = _box_key(_STUDY_BOX, _at(patient_key, position) + salt)
    if digest is None:
        content, room = b"", FILLER_STUDY_BODY - len(head) - sealing.TAG_BYTES
    else:
        content = to_bytes(_fitting_study(digest))
        room = _room(len(head), len(content))
    return head + sealing.encrypt(key, nonce, _padded(content, room), head)


def open_study(body: bytes, patient_key: bytes, position: int, salt: bytes) -> StudyDigest | None:
    """Return a study's digest, or None for a filler.

    Raises Malformed, or BadSignature if the patient key does not open it at `position`.
    """
    if _kind(body) is not BodyKind.STUDY:
        msg = "this entry is not a study's"
        raise Malformed(msg)
    key, nonce = _box_key(_STUDY_BOX, _at(patient_key, position) + salt)
    content = _unpadded(sealing.decrypt(key, nonce, body[_STUDY_HEAD:], body[:_STUDY_HEAD]))
    return from_bytes(StudyDigest, content, limits.DIGEST_BYTES) if content else None


# -- the layout -------------------------------------------------------------------------------


def _seal_slots(
    patient_key: bytes, slots: Sequence[Slot], salt: bytes, random: bytes
) -> tuple[bytes, bytes]:
    if len(random) != patient_random_bytes(len(slots)):
        msg = "the slots left over need exactly patient_random_bytes"
        raise LocalProtocolError(msg)
    spare = [random[start : start + SLOT_BYTES] for start in range(0, len(random), SLOT_BYTES)]
    # Labels are uniform, so their order is as good as a random one and tells nothing.
    sealed = sorted([_seal_slot(slot, patient_key, salt) for slot in slots] + spare)
    return bytes([VERSION, BodyKind.PATIENT, len(sealed)]), b"".join(sealed)


def _seal_slot(slot: Slot, patient_key: bytes, salt: bytes) -> bytes:
    content = {
        SlotType.FILLER: bytes(PATIENT_KEY_BYTES),
        SlotType.STRONG: patient_key,
        SlotType.WEAK: stub_key(patient_key),
    }[slot.type]
    key, nonce = _box_key(_SLOT_BOX, _at(slot.output, slot.position) + salt)
    box = sealing.encrypt(key, nonce, bytes([slot.type]) + content)
    return slot_label(slot.output, slot.position) + box


def _kind(body: bytes) -> BodyKind:
    if len(body) < limits.DIGEST_SIZES[0] or len(body) > limits.DIGEST_BYTES:
        msg = f"a digest has {limits.DIGEST_SIZES[0]} to {limits.DIGEST_BYTES} bytes"
        raise Malformed(msg)
    if body[0] != VERSION or body[1] not in tuple(BodyKind):
        msg = "a digest of a version or kind that this side does not know"
        raise Malformed(msg)
    return BodyKind(body[1])


def _slots(body: bytes) -> list[bytes]:
    if _kind(body) is not BodyKind.PATIENT:
        msg = "this entry is not a patient's"
        raise Malformed(msg)
    count = body[2]
    end = _PATIENT_HEAD + count * SLOT_BYTES
    if not 0 < count <= limits.SLOTS_MOST or len(body) < end + sealing.TAG_BYTES:
        msg = "a patient's entry with an impossible number of slots"
        raise Malformed(msg)
    return [body[start : start + SLOT_BYTES] for start in range(_PATIENT_HEAD, end, SLOT_BYTES)]


def _at(secret: bytes, position: int) -> bytes:
    return secret + position.to_bytes(8, "big")


def _box_key(context: str, secret: bytes) -> tuple[bytes, bytes]:
    material = derive(context, secret, sealing.KEY_BYTES + sealing.NONCE_BYTES)
    return material[: sealing.KEY_BYTES], material[sealing.KEY_BYTES :]


def _size_for(needed: int) -> int:
    for size in limits.DIGEST_SIZES:
        if needed <= size:
            return size
    size = -(-needed // limits.DIGEST_BLOCK) * limits.DIGEST_BLOCK
    if size > limits.DIGEST_BYTES:
        msg = f"a digest of {size} bytes; at most {limits.DIGEST_BYTES} are allowed"
        raise LocalProtocolError(msg)
    return size


def _room(before: int, content: int) -> int:
    """Return the plain bytes of a box behind `before` bytes so that the body has a padded size."""
    return (
        _size_for(before + _LENGTH_BYTES + content + sealing.TAG_BYTES) - before - sealing.TAG_BYTES
    )


def _padded(content: bytes, room: int) -> bytes:
    return (len(content).to_bytes(_LENGTH_BYTES, "big") + content).ljust(room, b"\0")


def _unpadded(padded: bytes) -> bytes:
    length = int.from_bytes(padded[:_LENGTH_BYTES], "big")
    content = padded[_LENGTH_BYTES : _LENGTH_BYTES + length]
    if len(content) != length or any(padded[_LENGTH_BYTES + length :]):
        msg = "a digest is padded with something other than zeros"
        raise Malformed(msg)
    return content


# -- cutting ----------------------------------------------------------------------------------


def cut(text: str, most_bytes: int = limits.SHORT_TEXT_BYTES) -> str:
    """Return `text` if it has at most `most_bytes` as UTF-8, else its beginning and '…'."""
    data = text.encode(errors="replace")
    if len(data) <= most_bytes:
        return data.decode()
    return data[: most_bytes - len(_CUT.encode())].decode(errors="ignore") + _CUT


def _cut_list(texts: Sequence[str]) -> tuple[str, ...]:
    if len(texts) > limits.DIGEST_LIST:
        texts = [*texts[: limits.DIGEST_LIST - 1], _CUT]
    return tuple(map(cut, texts))


def _fitting_card(card: PatientCard) -> PatientCard:
    # An identifier with an end cut off would be another patient's: too long ones are left out.
    whole = [each for each in card.identifiers if each.value == cut(each.value)]
    return replace(
        card,
        names=tuple(cut(name, limits.NAME_TEXT_BYTES) for name in card.names[: limits.CARD_NAMES]),
        birth_date=cut(card.birth_date),
        sex=cut(card.sex),
        identifiers=tuple(
            PatientIdentifier(each.issuer, each.value)
            for each in whole[: limits.CARD_IDENTIFIERS]
            if each.issuer == cut(each.issuer)
        ),
    )


def _card_within(card: PatientCard, most_bytes: int) -> bytes:
    """Return a card as bytes, without its last identifiers and names if there are too many."""
    while len(content := to_bytes(card)) + _LENGTH_BYTES > most_bytes:
        longest = "identifiers" if card.identifiers else "names"
        card = replace(card, **{longest: getattr(card, longest)[:-1]})
    return content


def _fitting_study(digest: StudyDigest) -> StudyDigest:
    return replace(
        digest,
        study_date=cut(digest.study_date),
        study_time=cut(digest.study_time),
        modalities=_cut_list(digest.modalities),
        body_parts=_cut_list(digest.body_parts),
        description=cut(digest.description, limits.LONG_TEXT_BYTES),
        accession_number=cut(digest.accession_number),
        accession_issuer=cut(digest.accession_issuer),
        availability=cut(digest.availability),
    )
