"""How likely two descriptions are of one person: bits of evidence, a probability, and reasons.

A Fellegi-Sunter sum: full agreement is worth AGREEMENT_BITS among a million patients, and every
field that agrees less takes away what it is worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from rapidfuzz.distance import JaroWinkler

from protocol.matching import dates, identifiers
from protocol.matching.names import Reading, all_readings, skeleton

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protocol.matching.dates import DateVerdict
    from protocol.matching.keys import Demographics
    from protocol.matching.nicknames import NicknameTable

Tier = Literal["match", "probable", "possible", "none"]
Field = Literal["family_name", "given_name", "name_order", "birth_date", "sex", "identifier"]

AGREEMENT_BITS: Final = 11.0
"""Name, birth date and sex all the same, among REFERENCE_POPULATION patients."""

REFERENCE_POPULATION: Final = 1_000_000

MATCH_PROBABILITY: Final = 0.99
PROBABLE_PROBABILITY: Final = 0.80
POSSIBLE_PROBABILITY: Final = 0.20

SIMILAR: Final = 0.92
"""Jaro-Winkler similarity of one slip of the pen in a name of usual length."""
ALIKE: Final = 0.80
"""Jaro-Winkler similarity of another spelling of the name."""

COMMON_SHARE: Final = 1 / 2000
"""From this share of the patients on a name is common, and sharing it says less."""
LEAST_COUNTED: Final = 10_000
"""A smaller register counts as this many patients: where five are known, none of their names is
common for being borne by one of them."""

_COMMON_NAME_BITS: Final = -0.37
"""For each doubling beyond COMMON_SHARE.  A whole bit would be right if all who share the name were
equally likely; families and neighbourhoods share both name and hospital."""

_TELLING_SKELETON: Final = 3
"""Letters from which on an equal skeleton is evidence: "an" is Anna and John."""

_FAMILY_BITS: Final = {
    "same": 0.0,
    "similar": -2.0,
    "alike": -3.8,
    "missing": -3.3,
    "differs": -10.9,
}
_GIVEN_BITS: Final = {
    "same": 0.0,
    "similar": -4.1,
    "nickname": -4.1,
    "alike": -4.8,
    "missing": -4.9,
    "differs": -13.6,
}
_SWAPPED_ORDER_BITS: Final = -1.9
_DATE_BITS: Final[dict[DateVerdict, float]] = {
    "same": 0.0,
    # About one in thirty registered people has this date, not one in 365.
    "same, but 1 January": -3.6,
    "only the year is known": -6.8,
    "day/month swapped": -5.2,
    "one digit differs": -7.2,
    "two of three parts agree": -13.5,
    "differs": -13.3,
    "missing": -6.8,
}
_SEX_BITS: Final = {"same": 0.0, "differs": -8.0, "unknown": -0.6}

_SHORT_IDENTIFIER_BITS: Final = 15.0
_LONG_IDENTIFIER_BITS: Final = 22.0
_BITS_PER_CHARACTER: Final = 1.4
"""A longer identifier is harder to hit by a slip: 15 bits with five characters, 22 with ten."""
_CONFLICTING_IDENTIFIER_BITS: Final = -5.0

_NO_SHARES: Final[Mapping[str, float]] = MappingProxyType({})

_LABELS: Final[dict[Field, str]] = {
    "family_name": "Family name",
    "given_name": "Given name",
    "name_order": "Name order",
    "birth_date": "Birth date",
    "sex": "Sex",
    "identifier": "Identifier",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one field says: a verdict in words that hold no value of the field, and its bits."""

    field: Field
    verdict: str
    bits: float


@dataclass(frozen=True, slots=True)
class Score:
    """The sum of the evidence, as log2 odds and as the probability that it is one person."""

    bits: float
    probability: float
    tier: Tier
    evidence: tuple[Evidence, ...]

    def reasons(self) -> tuple[str, ...]:
        """Return one badge per field, such as "Birth date: day/month swapped"."""
        return tuple(f"{_LABELS[item.field]}: {item.verdict}" for item in self.evidence)


def score(
    question: Demographics,
    record: Demographics,
    nicknames: NicknameTable,
    population: int = REFERENCE_POPULATION,
    shares: Mapping[str, float] = _NO_SHARES,
) -> Score:
    """Return how well `record` answers `question`; swapping the two changes nothing.

    `population` is the number of patients the record was found among.  Fewer than
    REFERENCE_POPULATION do not count as fewer: the person asked for need not be one of them.
    `shares`: of the patients, by normalised family or given name; a name without one is rare.
    """
    evidence = (
        *_name_evidence(question, record, nicknames, shares),
        _date_evidence(question, record),
        _sex_evidence(question, record),
        *_identifier_evidence(question, record),
    )
    prior = AGREEMENT_BITS - math.log2(max(population, REFERENCE_POPULATION) / REFERENCE_POPULATION)
    bits = prior + sum(item.bits for item in evidence)
    probability = 1.0 / (1.0 + 2.0**-bits)
    return Score(bits=bits, probability=probability, tier=_tier(probability), evidence=evidence)


def share_of(bearers: int, patients: int) -> float:
    """Return how common a name is that so many of so many patients bear."""
    return bearers / max(patients, LEAST_COUNTED)


def _tier(probability: float) -> Tier:
    if probability >= MATCH_PROBABILITY:
        return "match"
    if probability >= PROBABLE_PROBABILITY:
        return "probable"
    if probability >= POSSIBLE_PROBABILITY:
        return "possible"
    return "none"


def _name_evidence(
    question: Demographics,
    record: Demographics,
    nicknames: NicknameTable,
    shares: Mapping[str, float],
) -> tuple[Evidence, ...]:
    """Return the evidence of the best pair of readings, in the better order of its two parts."""
    candidates = [
        candidate
        for ours in all_readings(question.names)
        for theirs in all_readings(record.names)
        if ours.script == theirs.script
        for candidate in _orders(ours, theirs, nicknames, shares)
    ]
    if not candidates:
        return _pair_evidence("missing", "missing")
    return max(candidates, key=lambda pair: (sum(item.bits for item in pair), _verdicts(pair)))


def _verdicts(pair: tuple[Evidence, ...]) -> tuple[str, ...]:
    return tuple(item.verdict for item in pair)


def _orders(
    ours: Reading, theirs: Reading, nicknames: NicknameTable, shares: Mapping[str, float]
) -> Iterable[tuple[Evidence, ...]]:
    if ours.script == "ideographic":
        yield _ideographic_evidence(ours, theirs)
        return
    yield _pair_evidence(
        _family_verdict(ours.families, theirs.families),
        _given_verdict(_given_words(ours), _given_words(theirs), nicknames),
        shares.get(ours.family, 0.0),
        shares.get(ours.given, 0.0),
    )
    if ours.givens and theirs.givens:
        # Both ways round, so that it makes no difference who asks.
        for one, other in ((ours, theirs), (theirs, ours)):
            yield (
                *_pair_evidence(
                    _family_verdict(one.families, _given_words(other)),
                    _given_verdict(_given_words(one), other.families, nicknames),
                    shares.get(one.family, 0.0),
                    shares.get(one.given, 0.0),
                ),
                Evidence("name_order", "swapped", _SWAPPED_ORDER_BITS),
            )


def _given_words(reading: Reading) -> tuple[str, ...]:
    return (*reading.givens, *filter(None, (reading.joined_given,)))


def _pair_evidence(
    family: str, given: str, family_share: float = 0.0, given_share: float = 0.0
) -> tuple[Evidence, ...]:
    return (
        _word_evidence("family_name", family, _FAMILY_BITS, family_share),
        _word_evidence("given_name", given, _GIVEN_BITS, given_share),
    )


def _word_evidence(field: Field, verdict: str, bits: Mapping[str, float], share: float) -> Evidence:
    """Return what a name says; a common one that agrees says less than a rare one."""
    if verdict == "same" and share > COMMON_SHARE:
        less = _COMMON_NAME_BITS * math.log2(share / COMMON_SHARE)
        return Evidence(field, "same, a common name", bits[verdict] + less)
    return Evidence(field, verdict, bits[verdict])


def _ideographic_evidence(ours: Reading, theirs: Reading) -> tuple[Evidence, ...]:
    if ours.family + ours.given == theirs.family + theirs.given:
        return _pair_evidence("same", "same")
    return _pair_evidence(
        "same" if ours.family == theirs.family else "differs",
        "same" if ours.given and ours.given == theirs.given else "differs",
    )


def _family_verdict(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    """Compare the variants of two family names, the whole name first in each."""
    if ours[0] == theirs[0]:
        return "same"
    if not set(ours).isdisjoint(theirs):
        return "similar"
    return _similarity(ours, theirs)


def _given_verdict(ours: tuple[str, ...], theirs: tuple[str, ...], nicknames: NicknameTable) -> str:
    if not ours or not theirs:
        return "missing"
    if ours[0] == theirs[0]:
        return "same"
    if not set(ours).isdisjoint(theirs):
        return "similar"
    if any(nicknames.are_related(one, other) for one in ours for other in theirs):
        return "nickname"
    if min(len(ours[0]), len(theirs[0])) == 1 and ours[0][0] == theirs[0][0]:
        return "alike"
    return _similarity(ours, theirs)


def _similarity(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    likeness = max(
        JaroWinkler.normalized_similarity(one, other) for one in ours for other in theirs
    )
    if likeness >= SIMILAR:
        return "similar"
    if likeness >= ALIKE or not _telling_skeletons(ours).isdisjoint(_telling_skeletons(theirs)):
        return "alike"
    return "differs"


def _telling_skeletons(variants: tuple[str, ...]) -> set[str]:
    return {bones for bones in map(skeleton, variants) if len(bones) >= _TELLING_SKELETON}


def _date_evidence(question: Demographics, record: Demographics) -> Evidence:
    verdict = dates.compare(dates.usable(question.birth_date), dates.usable(record.birth_date))
    return Evidence("birth_date", verdict, _DATE_BITS[verdict])


def _sex_evidence(question: Demographics, record: Demographics) -> Evidence:
    if not {question.sex, record.sex} <= {"M", "F"}:
        verdict = "unknown"
    else:
        verdict = "same" if question.sex == record.sex else "differs"
    return Evidence("sex", verdict, _SEX_BITS[verdict])


def _identifier_evidence(question: Demographics, record: Demographics) -> tuple[Evidence, ...]:
    ours = set(identifiers.normalised(question.identifiers))
    theirs = set(identifiers.normalised(record.identifiers))
    evidence = []
    if shared := ours & theirs:
        evidence.append(
            Evidence("identifier", "same", max(_identifier_bits(one.value) for one in shared))
        )
    conflicting = {one.issuer for one in ours} & {one.issuer for one in theirs}
    if conflicting - {one.issuer for one in shared}:
        evidence.append(
            Evidence("identifier", "differs at the same issuer", _CONFLICTING_IDENTIFIER_BITS)
        )
    return tuple(evidence)


def _identifier_bits(value: str) -> float:
    longer = len(value) - identifiers.SHORTEST_VALUE
    return min(_SHORT_IDENTIFIER_BITS + _BITS_PER_CHARACTER * longer, _LONG_IDENTIFIER_BITS)
