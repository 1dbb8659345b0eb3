"""Looking labels up in the partners' journals that we hold, and opening what stands there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from peer.index import labels
from peer.index.database import Tx
from peer.index.held import Held
from peer.index.labels import LabelledEntry
from peer.index.opened import Opened
from protocol import chains, digest
from protocol.chains import Place
from protocol.digest import OpenedSlot, SlotType, StudyDigest
from protocol.errors import RemoteProtocolError
from protocol.identifiers import EntryId, PeerId

WALK_RECORDS: Final = 2048
"""Most records of one chain that are looked at: an origin that publishes an endless chain must not
hold up a search.  A match key shared by that many patients tells nobody apart."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A partner's patient who may be the one asked for; nothing of them is open.

    `entry_id` names the record to its origin.  `stub_key` (16 B) follows from the patient key, so
    that a hint of someone who is open already can be told.
    """

    origin: PeerId
    entry_id: EntryId
    stub_key: bytes


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study's digest, open."""

    entry_id: EntryId
    position: int
    digest: StudyDigest


def open_patients(tx: Tx, origin: PeerId, outputs: Sequence[bytes]) -> list[Opened]:
    """Return the patients of `origin` that the outputs (64 B each) of our match keys open."""
    found: dict[bytes, Opened] = {}
    for output, chain in zip(outputs, _walk_slots(tx, origin, outputs), strict=True):
        for position, entry in chain:
            opened = _open_patient(entry, output, position)
            if opened is not None:
                found[opened.patient_key] = opened
    return list(found.values())


def find_hints(tx: Tx, origin: PeerId, outputs: Sequence[bytes]) -> list[Hint]:
    """Return the patients of `origin` at whom the outputs (64 B each) of our weak keys hint.

    One of each key in turn, because only a few are shown: a key that hundreds share, of a birth
    date in a great archive, must not hide those of the others.
    """
    of_each = []
    for output, chain in zip(outputs, _walk_slots(tx, origin, outputs), strict=True):
        hints = []
        for position, entry in chain:
            slot = _open_slot(entry, output, position)
            if slot is not None and slot.type is SlotType.WEAK:
                hints.append(Hint(entry.origin, entry.entry_id, slot.key))
        of_each.append(hints)
    in_turn = (hint for one_of_each in zip_longest(*of_each) for hint in one_of_each if hint)
    return list({hint.stub_key: hint for hint in in_turn}.values())


def open_studies(tx: Tx, opened: Opened) -> list[FoundStudy]:
    """Return what is published now of an opened patient's studies."""
    key = opened.patient_key

    def look_up(places: Sequence[Place]) -> Mapping[Place, LabelledEntry]:
        return _at(tx, opened.origin, {each: digest.study_label(key, each[1]) for each in places})

    found = []
    for position, entry in chains.walk(1, look_up, WALK_RECORDS)[0]:
        try:
            study = digest.open_study(entry.body, key, position, entry.salt)
        except RemoteProtocolError:
            continue  # What cannot be opened is not this patient's, whatever its label says.
        if study is not None:
            found.append(FoundStudy(entry.entry_id, position, study))
    return found


def is_live(tx: Tx, opened: Opened) -> bool:
    """Return whether the patient's entry has not been withdrawn."""
    standing = Held(tx, opened.origin).find(opened.entry_id)
    return standing is not None and standing.leaf is not None


def _walk_slots(
    tx: Tx, origin: PeerId, outputs: Sequence[bytes]
) -> list[list[tuple[int, LabelledEntry]]]:
    def look_up(places: Sequence[Place]) -> Mapping[Place, LabelledEntry]:
        labelled = {each: digest.slot_label(outputs[each[0]], each[1]) for each in places}
        return _at(tx, origin, labelled)

    return chains.walk(len(outputs), look_up, WALK_RECORDS)


def _open_slot(entry: LabelledEntry, output: bytes, position: int) -> OpenedSlot | None:
    try:
        return digest.open_slot(entry.body, output, position, entry.salt)
    except RemoteProtocolError:
        return None  # What cannot be opened is not ours to read, whatever its label says.


def _open_patient(entry: LabelledEntry, output: bytes, position: int) -> Opened | None:
    slot = _open_slot(entry, output, position)
    if slot is None or slot.type is not SlotType.STRONG:
        return None
    return open_record(entry, slot.key)


def open_record(entry: LabelledEntry, patient_key: bytes) -> Opened | None:
    """Return a patient whose key is known, or None if the key does not open the entry."""
    try:
        card = digest.open_card(entry.body, patient_key, entry.salt)
    except RemoteProtocolError:
        return None
    return Opened(entry.origin, entry.entry_id, patient_key, card)


def _at(tx: Tx, origin: PeerId, labelled: Mapping[Place, bytes]) -> Mapping[Place, LabelledEntry]:
    found = labels.first_of_each(tx, list(labelled.values()), origin)
    return {place: found[label] for place, label in labelled.items() if label in found}
