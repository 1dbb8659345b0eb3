"""Match keys: the texts under which an origin publishes a patient and a searcher asks for one.

The origin publishes many variants, the searcher asks few: both take theirs from the top of the
same ranked list.  Day/month and family/given swaps meet because each pair is sorted, and because a
weak key of one name does not say which of the two it is.  A change of any rule here is a new
RULE_VERSION, and with it a new key epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from protocol.matching import dates, identifiers
from protocol.matching.names import Reading, all_readings, skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator

    from protocol.identifiers import PatientIdentifier
    from protocol.matching.nicknames import NicknameTable

RULE_VERSION: Final = "1"

MAX_INDEX_KEYS: Final = 32
"""Keys per patient: a compound family name, three given names and a birth name fit; most patients
have fewer than 16."""

MAX_INDEX_IDENTIFIERS: Final = 8
"""Keys per patient that may be identifiers, so that names always find the patient too."""

MAX_QUERY_KEYS: Final = 7
"""Keys per search: the eight strong places of a search less the one of the canary."""

MAX_QUERY_IDENTIFIERS: Final = 2
"""Keys of a search that may be identifiers, so that the name is always asked too."""

MAX_INDEX_WEAK_KEYS: Final = 32
"""Weak keys per patient: what the slots of one entry hold beside MAX_INDEX_KEYS."""

MAX_QUERY_WEAK_KEYS: Final = 8
"""Weak keys per search: all places of its tier."""

FORMAL_NAMES_PER_GIVEN: Final = 2
"""Formal names tried for a nickname; from the third on strangers meet more often than friends."""

_INITIAL_LETTERS: Final = 3

_SEXES: Final = ("M", "F")
_UNKNOWN_SEX: Final = ""

Tier = Literal["strong", "weak"]
Rule = Literal["id", "S1", "S3", "S4", "W1", "W3", "W5"]
_RULE_ORDER: Final[tuple[Rule, ...]] = ("id", "S1", "S3", "S4", "W1", "W3", "W5")


@dataclass(frozen=True, slots=True)
class Demographics:
    """What is known of a person, at either side.

    names: decoded DICOM PN strings: Patient's Name first, then Other Patient Names and Patient's
    Birth Name.  birth_date: YYYYMMDD or ''.  sex: "M", "F", "O" or ''.  identifiers: as recorded.
    """

    names: tuple[str, ...]
    birth_date: str = ""
    sex: str = ""
    identifiers: tuple[PatientIdentifier, ...] = ()


@dataclass(frozen=True, slots=True)
class MatchKey:
    """One text to be evaluated; a strong key opens the record, a weak one only a notice of it."""

    tier: Tier
    rule: Rule
    text: str


def index_keys(person: Demographics, nicknames: NicknameTable) -> tuple[MatchKey, ...]:
    """Return the keys to publish a patient under, most specific first.

    At most MAX_INDEX_KEYS strong and MAX_INDEX_WEAK_KEYS weak ones.
    """
    keys = _id_keys(person)[:MAX_INDEX_IDENTIFIERS] + _ranked_name_keys(person, nicknames)
    weak = _ranked_weak_keys(person, (person.sex if person.sex in _SEXES else _UNKNOWN_SEX,))
    return _most_specific_first(keys[:MAX_INDEX_KEYS] + weak[:MAX_INDEX_WEAK_KEYS])


def query_keys(person: Demographics, nicknames: NicknameTable) -> tuple[MatchKey, ...]:
    """Return the keys to ask for, most specific first; empty exactly if `refusal_reason` says why.

    At most MAX_QUERY_KEYS strong and MAX_QUERY_WEAK_KEYS weak ones.
    """
    keys = _id_keys(person)[:MAX_QUERY_IDENTIFIERS] + _ranked_name_keys(person, nicknames)
    # A record may not say the sex; nor may the question, which then asks for every answer.
    sexes = (person.sex, _UNKNOWN_SEX) if person.sex in _SEXES else (_UNKNOWN_SEX, *_SEXES)
    weak = _ranked_weak_keys(person, sexes)
    return _most_specific_first(keys[:MAX_QUERY_KEYS] + weak[:MAX_QUERY_WEAK_KEYS])


def refusal_reason(person: Demographics) -> str | None:
    """Return why `person` cannot be searched or published, or None if that is possible."""
    if identifiers.normalised(person.identifiers):
        return None
    if not dates.usable(person.birth_date):
        return (
            "Neither a usable birth date nor an identifier with its issuer is known; "
            "add one of them, a name alone fits too many people."
        )
    if not all_readings(person.names):
        return (
            "Neither a readable name nor an identifier with its issuer is known; "
            "add one of them, a birth date alone fits too many people."
        )
    return None


def _id_keys(person: Demographics) -> list[MatchKey]:
    # The issuer comes last: it is the only part that may contain the divider.
    return [
        MatchKey("strong", "id", f"{RULE_VERSION}|id|{identifier.value}|{identifier.issuer}")
        for identifier in identifiers.normalised(person.identifiers)
    ]


def _ranked_name_keys(person: Demographics, nicknames: NicknameTable) -> list[MatchKey]:
    """Return every key of the names once, from the likeliest variant down."""
    birth_date = dates.usable(person.birth_date)
    if not birth_date:
        return []
    when = dates.match_form(birth_date)
    ranked = [
        (rank + _extra_rank(position, reading), key)
        for position, reading in enumerate(all_readings(person.names))
        for rank, key in _name_keys(reading, when, nicknames)
    ]
    return list(dict.fromkeys(key for _, key in sorted(ranked, key=lambda item: item[0])))


def _extra_rank(position: int, reading: Reading) -> int:
    """Ideographs give one exact key and rank as well as the first reading; others come later."""
    return 0 if reading.script == "ideographic" else position


def _name_keys(
    reading: Reading, when: str, nicknames: NicknameTable
) -> Iterator[tuple[int, MatchKey]]:
    """Yield (rank, key) of one reading; the lower the rank, the sooner it finds the patient.

    S3 leads among the variants because it finds whatever S1 finds, but for nicknames.
    """
    if reading.script == "ideographic":
        whole_name = reading.family + reading.given
        yield 0, _pair_key("S1", "ideographic", (whole_name, ""), when)
        return
    givens = reading.givens or ("",)
    for i, family in enumerate(reading.families):
        for j, given in enumerate(givens):
            variant = i + j
            late = 2 * variant + (variant > 0)
            yield late, _pair_key("S1", "latin", (family, given), when)
            yield 2 * variant, _pair_key("S3", "latin", (skeleton(family), skeleton(given)), when)
            yield late, _pair_key("S4", "latin", (_initial(family), _initial(given)), when)
            formal_names = nicknames.formal_names_of(given)[:FORMAL_NAMES_PER_GIVEN]
            for n, formal in enumerate(formal_names):
                yield late + 1 + 2 * n, _pair_key("S1", "latin", (family, formal), when)
        if reading.joined_given:
            pair = (skeleton(family), skeleton(reading.joined_given))
            yield 2 * i + 2, _pair_key("S3", "latin", pair, when)


def _ranked_weak_keys(person: Demographics, sexes: tuple[str, ...]) -> list[MatchKey]:
    """Return every weak key of the names once, from the likeliest variant down."""
    birth_date = dates.usable(person.birth_date)
    if not birth_date:
        return []
    ranked = [
        (rank + _extra_rank(position, reading), key)
        for position, reading in enumerate(all_readings(person.names))
        for rank, key in _weak_keys(reading, birth_date, sexes)
    ]
    return list(dict.fromkeys(key for _, key in sorted(ranked, key=lambda item: item[0])))


def _weak_keys(
    reading: Reading, birth_date: str, sexes: tuple[str, ...]
) -> Iterator[tuple[int, MatchKey]]:
    """Yield (rank, key) of one reading: one name with the date, or both with a part of it."""
    script = reading.script
    families, givens = reading.families, reading.givens or ("",)
    if script == "latin":
        families = tuple(dict.fromkeys(map(skeleton, families)))
        givens = tuple(dict.fromkeys(map(skeleton, givens)))
    when = dates.match_form(birth_date)
    for rank, name in (*enumerate(families), *enumerate(filter(None, givens))):
        yield rank, _weak_key("W1", script, name, when)
    for i, family in enumerate(families):
        for j, given in enumerate(givens):
            both = "|".join(sorted((family, given)))
            if not dates.is_low_trust(birth_date):
                yield i + j, _weak_key("W5", script, both, when[4:])
            for n, sex in enumerate(sexes):
                yield i + j + n, _weak_key("W3", script, both, f"{birth_date[:4]}|{sex}")


def _pair_key(rule: Rule, script: str, pair: tuple[str, str], when: str) -> MatchKey:
    one, other = sorted(pair)
    return MatchKey("strong", rule, f"{RULE_VERSION}|{rule}|{script}|{one}|{other}|{when}")


def _weak_key(rule: Rule, script: str, names: str, when: str) -> MatchKey:
    return MatchKey("weak", rule, f"{RULE_VERSION}|{rule}|{script}|{names}|{when}")


def _initial(word: str) -> str:
    return word[:_INITIAL_LETTERS]


def _most_specific_first(keys: list[MatchKey]) -> tuple[MatchKey, ...]:
    return tuple(sorted(keys, key=lambda key: _RULE_ORDER.index(key.rule)))
