"""PersonName (PS3.5 section 6.2, VR PN) to normalised readings that can be compared.

Alphabetic and phonetic groups are romanised; ideographs never are (their reading depends on the
language), so an ideographic name is a namespace of its own and compared exactly.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

from anyascii import anyascii

MAX_GIVEN_NAMES: Final = 3
"""Given names that may be somebody's call name; a fourth hardly ever is."""

MAX_FAMILY_VARIANTS: Final = 5
"""Whole, without particles, and three parts: enough for every compound but ceremonial ones."""

SKELETON_CHARACTERS: Final = 6

_COMPOUND_PART_LETTERS: Final = 3
"""Shorter parts of a compound family name are shared by too many people."""

_IDEOGRAPHIC_GROUP: Final = 1
_IDEOGRAPH: Final = re.compile(
    "[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_HANGUL_NAME: Final = re.compile("([\uac00-\ud7a3])([\uac00-\ud7a3]{1,3})")
"""A Korean name written in one piece: the family name is its first syllable, but for rare ones."""

_WORD: Final = re.compile("[a-z0-9]+")
_APOSTROPHES: Final = dict.fromkeys(
    (0x27, 0x60, 0xB4, 0x2018, 0x2019, 0x201B, 0x2032, *range(0x2B9, 0x2C0), 0x2C8, 0xFF07)
)
"""What stands between "O" and "Brien", or for an Arabic ayn and a Russian soft sign."""

_TITLES: Final = frozenset(
    _WORD.findall(
        "dr prof mr mrs ms miss mx sir dame rev hon herr frau mme mlle sr sra srta "
        "jr ii iii iv md phd dds esq dipl ing med"
    )
)
_PARTICLES: Final = frozenset(
    _WORD.findall(
        "da das de degli dei del della delle der den des di do dos du e el al af av bin bint ben "
        "ibn abu la las le les lo los op het te ten ter van vom von y zu zum zur"
    )
)

_DIGRAPHS: Final = (
    (re.compile("tsch|tch|sch"), "s"),
    (re.compile("ch(?=[rlmn])"), "k"),
    (re.compile("ch|ts|tz"), "s"),
    (re.compile("ph"), "f"),
    (re.compile("x"), "ks"),
)
"""In this order; sh, kh, gh, th and dh need no line because "h" is dropped."""

_CONSONANTS: Final = str.maketrans("qcgzbdvwj", "kkksptffy", "h")
_VOWELS: Final = "aeiouy"
_REPEATED: Final = re.compile(r"(.)\1+")


@dataclass(frozen=True, slots=True)
class Reading:
    """One normalised understanding of a name.

    `families` holds the variants of the one family name, the whole of it first; `givens` up to
    three given names in order; `joined_given` the given names as one word if there are several
    ("Xiao Dong" is also "Xiaodong").  Either may be empty, not both.
    """

    script: Literal["latin", "ideographic"]
    families: tuple[str, ...]
    givens: tuple[str, ...]
    joined_given: str = ""

    @property
    def family(self) -> str:
        """The whole family name as one word, or '' if there is none."""
        return self.families[0] if self.families else ""

    @property
    def given(self) -> str:
        """The first given name, or '' if there is none."""
        return self.givens[0] if self.givens else ""

    @property
    def borne(self) -> frozenset[str]:
        """Both, as names that more or fewer people bear."""
        return frozenset(filter(None, (self.family, self.given)))


def readings(name: str) -> tuple[Reading, ...]:
    """Return every reading of a decoded DICOM PN string, the most literal first.

    Several come from several component groups, and from a name without "^" or ",", which is read
    with the family name first and with the family name last.
    """
    found: dict[Reading, None] = {}
    for position, group in enumerate(name.split("=")[:3]):
        text = unicodedata.normalize("NFKC", group.translate(_APOSTROPHES))
        if position == _IDEOGRAPHIC_GROUP or _IDEOGRAPH.search(text):
            candidates = _ideographic_readings(text)
        else:
            candidates = _latin_readings(text)
        found.update((reading, None) for reading in candidates if reading.families)
    return tuple(found)


def all_readings(names: tuple[str, ...]) -> tuple[Reading, ...]:
    """Return every reading of several names of one person, each once."""
    return tuple(dict.fromkeys(reading for name in names for reading in readings(name)))


def words(text: str) -> tuple[str, ...]:
    """Return the romanised lower-case words of `text`; "O'Brien" is one word, "Jean-Paul" two."""
    plain = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    return tuple(_WORD.findall(anyascii(plain).translate(_APOSTROPHES).casefold()))


def skeleton(word: str) -> str:
    """Return what is left of a normalised word when spelling habits are taken away.

    Like-sounding consonants are one letter, an initial vowel is "a", other vowels and doubles go.
    A word of nothing but "h" stands for itself: a skeleton is never empty unless `word` is.
    """
    sounds = word
    for pattern, letter in _DIGRAPHS:
        sounds = pattern.sub(letter, sounds)
    sounds = _REPEATED.sub(r"\1", sounds.translate(_CONSONANTS))
    if not sounds:
        return word[:SKELETON_CHARACTERS]
    initial = "a" if sounds[0] in _VOWELS else sounds[0]
    rest = "".join(letter for letter in sounds[1:] if letter not in _VOWELS)
    return (initial + rest)[:SKELETON_CHARACTERS]


def _components(text: str) -> tuple[str, str, str] | None:
    """Return family, given and middle name, or None if the text does not tell them apart.

    Prefix and suffix (fourth and fifth component) are dropped.
    """
    if "^" not in text and "," in text:
        family, _, given = text.partition(",")
        return family, given, ""
    family, given, middle = (*text.split("^"), "", "")[:3]
    if family.strip() and (given.strip() or middle.strip()):
        return family, given, middle
    return None


def _latin_readings(text: str) -> tuple[Reading, ...]:
    components = _components(text)
    if components is not None:
        family, given, middle = map(_without_titles, map(words, components))
        return (_reading(family, given, middle),)
    undivided = " ".join(text.split("^")[:3]).strip()
    if korean := _HANGUL_NAME.fullmatch(undivided):
        return (_reading(words(korean[1]), words(korean[2])),)
    return _both_orders(_without_titles(words(undivided)))


def _both_orders(tokens: tuple[str, ...]) -> tuple[Reading, ...]:
    """Read an undivided name with the family name first and last; particles belong to it.

    Unless nothing else would be left: "Van Chu" is a Vietnamese with two names, or a whole surname.
    """
    if len(tokens) > 1 and all(token in _PARTICLES for token in tokens[:-1]):
        plain = (_reading(tokens[:1], tokens[1:]), _reading(tokens[-1:], tokens[:-1]))
        return (*plain, _reading(tokens, ()))
    last = len(tokens) - 1
    while last > 0 and tokens[last - 1] in _PARTICLES:
        last -= 1
    first = next((i for i, token in enumerate(tokens, 1) if token not in _PARTICLES), len(tokens))
    return (_reading(tokens[:first], tokens[first:]), _reading(tokens[last:], tokens[:last]))


def _reading(
    family: tuple[str, ...], given: tuple[str, ...], middle: tuple[str, ...] = ()
) -> Reading:
    if not family:
        family, given, middle = given or middle, (), ()
    bare = _or_all([token for token in family if token not in _PARTICLES], family)
    parts = [token for token in bare if len(token) >= _COMPOUND_PART_LETTERS]
    families = dict.fromkeys(filter(None, ("".join(family), "".join(bare), *parts)))
    tokens = given + middle
    named = _or_all([token for token in tokens if token not in _PARTICLES], tokens)
    full = _or_all([token for token in named if len(token) > 1], named)
    # Last, since "Jan van" is Jan; but the given names Văn and Lê look the same once romanised.
    full = (*full, *(token for token in given if token in _PARTICLES))
    return Reading(
        script="latin",
        families=tuple(families)[:MAX_FAMILY_VARIANTS],
        givens=tuple(dict.fromkeys(full))[:MAX_GIVEN_NAMES],
        joined_given="".join(given) if len(given) > 1 else "",
    )


def _ideographic_readings(text: str) -> tuple[Reading, ...]:
    """Return the one reading: without a divider the whole name counts as the family name."""
    parts = (_components(text) or (text, "", ""))[:2]
    family, given = ("".join(filter(str.isalnum, part)) for part in parts)
    return (Reading("ideographic", (family,) if family else (), (given,) if given else ()),)


def _without_titles(tokens: tuple[str, ...]) -> tuple[str, ...]:
    return _or_all([token for token in tokens if token not in _TITLES], tokens)


def _or_all(kept: list[str], tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Return what was kept, or everything if that is nothing: "Ii" and "Van" are surnames too."""
    return tuple(kept) or tokens
