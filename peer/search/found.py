"""What a question finds in the partners' journals that we hold: hits, and hints at more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from peer.index.database import Tx
from peer.index.opened import Opened
from peer.search import opening
from peer.search.asked import Asked
from peer.search.opening import FoundStudy, Hint
from protocol.digest import StudyDigest, stub_key
from protocol.identifiers import EntryId, PeerId
from protocol.matching.keys import Demographics
from protocol.matching.nicknames import NicknameTable
from protocol.matching.score import Score, score

LISTED: Final = frozenset({"match", "probable"})
"""Tiers that a clinician gets to see; below them there is at most a hint."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A patient that fits the question, with the studies that are published of them now.

    `confirmed`: the origin has said that this is the person asked for.
    """

    opened: Opened
    score: Score
    studies: tuple[FoundStudy, ...]
    confirmed: bool


@dataclass(slots=True)
class Found:
    """Who fits, who may, whose entry is gone, and how many were opened and did not fit."""

    hits: list[Hit] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)
    gone: list[Opened] = field(default_factory=list)
    dropped: int = 0


def find(
    tx: Tx,
    person: Demographics,
    asked: Sequence[Asked],
    before: Collection[Opened],
    confirmed: Collection[tuple[PeerId, EntryId]],
    nicknames: NicknameTable,
    shares: Mapping[str, float],
    now: int,
) -> Found:
    """Return what `asked` finds now, and what was opened `before`; `tx`: the partners' journals."""
    listable = {each.partner.peer_id for each in asked if each.listable}
    fresh = [
        patient
        for each in asked
        for patient in opening.open_patients(tx, each.partner.peer_id, each.strong)
    ]
    found, settled = Found(), set[bytes]()
    known = {(each.origin, each.entry_id): each for each in (*before, *fresh)}
    for key, patient in known.items():
        if patient.origin not in listable:
            continue
        if not opening.is_live(tx, patient):
            found.gone.append(patient)
            continue
        stub = stub_key(patient.patient_key)
        fit = score(person, patient.person, nicknames, shares=shares)
        if fit.tier not in LISTED and key not in confirmed:
            found.dropped += patient not in before
            if fit.tier == "none":
                settled.add(stub)
            else:
                found.hints.append(Hint(patient.origin, patient.entry_id, stub))
            continue
        settled.add(stub)
        current = (s for s in opening.open_studies(tx, patient) if holds(s.digest, now))
        found.hits.append(Hit(patient, fit, tuple(current), key in confirmed))
    for each in asked:
        found.hints += opening.find_hints(tx, each.partner.peer_id, each.weak)
    found.hints = _told_apart(found.hints, settled)
    return found


def holds(study: StudyDigest, now: int) -> bool:
    """Return whether the consent behind a digest has not expired by our clock."""
    return study.expires_at is None or now < study.expires_at


def _told_apart(hints: Iterable[Hint], settled: set[bytes]) -> list[Hint]:
    """Return each hint once, without those of patients about whom all is known."""
    return list({each.stub_key: each for each in hints if each.stub_key not in settled}.values())


def most_of_each(hints: Iterable[Hint], most: int) -> list[Hint]:
    """Return at most `most` hints of each facility."""
    by_origin: dict[PeerId, list[Hint]] = {}
    for each in hints:
        by_origin.setdefault(each.origin, []).append(each)
    return [each for some in by_origin.values() for each in some[:most]]
