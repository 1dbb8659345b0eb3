"""The ways in which one person is written twice, by kind.

Each takes a random source and somebody of `tests.population`, and returns (what is recorded, what
is asked), or None where the country or the person does not know this error.
"""

from __future__ import annotations

from peer.index import nicknames
from protocol.identifiers import PatientIdentifier
from protocol.matching.keys import Demographics
from tests.population import TABLES

ISSUER = "urn:oid:2.999.77"
NICKNAMES = nicknames.load()
_SHORT_FORMS = {}
for _short, _formal in NICKNAMES.formal_names.items():
    for _each in _formal[:2]:
        _SHORT_FORMS.setdefault(_each, []).append(_short)


def _exact(rng, one):
    return one.recorded(), one.recorded()


def _as_latin(one):
    return one.name(family=one.family[:1], givens=tuple(each[:1] for each in one.givens))


def _slip(rng, word):
    """Return a word with one slip of the pen behind its first letter."""
    place = rng.randrange(1, len(word))
    letter = rng.choice("abcdefghijklmnoprstuvz")
    changed = {
        "drop": word[:place] + word[place + 1 :],
        "add": word[:place] + letter + word[place:],
        "replace": word[:place] + letter + word[place + 1 :],
        "swap": word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :],
    }
    return changed[rng.choice(("drop", "add", "replace", "swap") if place > 1 else ("drop", "add"))]


def _slip_in_family(rng, one):
    return _slipped(one, family=(_slip(rng, one.family[0]),)) if len(one.family[0]) > 3 else None


def _slip_in_given(rng, one):
    word = one.givens[0][0]
    if len(word) < 4:
        return None
    return _slipped(one, givens=((_slip(rng, word),), *(each[:1] for each in one.givens[1:])))


def _slipped(one, family=None, givens=None):
    family = family or one.family[:1]
    givens = givens or tuple(each[:1] for each in one.givens)
    return one.written(names=(_as_latin(one),)), one.written(names=(one.name(family, givens),))


_PLAIN = str.maketrans(
    "áàâãäąçćęéèêëíìîïłńñóòôõöőśşúùûüýźżğıİÁÀÂÄÇÉÈÍŁÑÓÖŚŞÚÜŻÇĐđ",
    "aaaaaacceeeeeiiiilnnoooooossuuuuyzzgiIAAAACEEILNOOSSUUZCDd",
)


def _accents_dropped(rng, one):
    name = one.name()
    plain = name.translate(_PLAIN).replace("ß", "ss")
    return (one.recorded(), one.written(names=(plain,))) if plain != name else None


def _umlauts_spelt_out(rng, one):
    name = one.name()
    spelt = name
    for letter, letters in zip("äöüßÖÜ", ("ae", "oe", "ue", "ss", "Oe", "Ue"), strict=True):
        spelt = spelt.replace(letter, letters)
    known = one.country == "at" and spelt != name
    return (one.recorded(), one.written(names=(spelt,))) if known else None


def _transliterated(rng, one):
    if one.country not in ("ru", "eg"):
        return None
    other = one.name(tuple(one.family[1:]), tuple(each[1:] for each in one.givens))
    return one.recorded(), one.written(names=(other,))


def _ideographs_alone(rng, one):
    if one.country not in ("jp", "cn"):
        return None
    native = f"{one.family[1]}^{''.join(each[1] for each in one.givens)}"
    return one.recorded(), one.written(names=(f"={native}",))


def _phonetic_alone(rng, one):
    if one.country != "jp":
        return None
    kana = f"{one.family[2]}^{' '.join(each[2] for each in one.givens)}"
    return one.recorded(), one.written(names=(f"=={kana}",))


def _romanised_alone(rng, one):
    if one.country not in ("jp", "cn"):
        return None
    return one.recorded(), one.written(names=(_as_latin(one),))


def _day_and_month_swapped(rng, one):
    year, month, day = one.birth_date[:4], one.birth_date[4:6], one.birth_date[6:]
    if int(day) > 12 or day == month:
        return None
    return one.recorded(), one.written(birth_date=year + day + month)


def _another_day(rng, one):
    day = int(one.birth_date[6:])
    other = day + rng.choice((-2, -1, 1, 2))
    return one.recorded(), one.written(
        birth_date=f"{one.birth_date[:6]}{min(max(other, 1), 28):02}"
    )


def _another_month(rng, one):
    if int(one.birth_date[6:]) > 28:
        return None
    month = int(one.birth_date[4:6]) % 12 + 1
    return one.recorded(), one.written(
        birth_date=f"{one.birth_date[:4]}{month:02}{one.birth_date[6:]}"
    )


def _another_year(rng, one):
    if one.birth_date.endswith("0229"):
        return None
    year = int(one.birth_date[:4]) + rng.choice((-10, -1, 1, 10))
    return one.recorded(), one.written(birth_date=f"{year}{one.birth_date[4:]}")


def _names_swapped(rng, one):
    given = " ".join(each[0] for each in one.givens)
    return (
        one.written(names=(_as_latin(one),)),
        one.written(names=(f"{given}^{one.family[0]}",)),
    )


def _undivided(rng, one):
    given = " ".join(each[0] for each in one.givens)
    return one.written(names=(_as_latin(one),)), one.written(names=(f"{given} {one.family[0]}",))


def _surname_changed(rng, one):
    family = _another_family(rng, one)
    return one.recorded(), one.written(names=(one.name(family),)) if family else None


def _surname_changed_birth_name_known(rng, one):
    family = _another_family(rng, one)
    return one.recorded(), one.written(names=(one.name(family), one.name()))


def _another_family(rng, one):
    common, rare = TABLES[one.country][:2]
    return rng.choice([each for each in (*common, *rare) if each != one.family])


def _nickname(rng, one):
    if one.country != "us":
        return None
    known = _SHORT_FORMS.get(one.givens[0][0].casefold())
    if not known:
        return None
    return one.recorded(), one.written(names=(one.name(givens=((rng.choice(known).title(),),)),))


def _second_given_name_dropped(rng, one):
    if len(one.givens) < 2:
        return None
    return one.recorded(), one.written(names=(one.name(givens=one.givens[:1]),))


def _called_by_second_given_name(rng, one):
    if len(one.givens) < 2:
        return None
    return one.recorded(), one.written(names=(one.name(givens=one.givens[1:]),))


def _one_part_of_compound(rng, one):
    parts = one.family[0].split()
    if one.country not in ("es", "br") or len(parts) < 2:
        return None
    part = rng.choice((parts[0], parts[-1]))
    return one.recorded(), one.written(names=(one.name((part,)),))


def _particles_dropped(rng, one):
    parts = one.family[0].split()
    bare = [each for each in parts if each[0].isupper()]
    if one.country not in ("nl", "es") or bare == parts:
        return None
    return one.recorded(), one.written(names=(one.name((" ".join(bare),)),))


def _sex_unknown(rng, one):
    return one.recorded(), one.written(sex="")


def _identifier_alone(rng, one):
    held = (PatientIdentifier(ISSUER.removeprefix("urn:oid:"), f"00{one.number}"),)
    asked = (PatientIdentifier(ISSUER, f"{one.number[:4]}-{one.number[4:]}"),)
    return (
        one.written(identifiers=held),
        Demographics((), "", "", asked),
    )


STRONG = {
    "exact": _exact,
    "accents_dropped": _accents_dropped,
    "umlauts_spelt_out": _umlauts_spelt_out,
    "ideographs_alone": _ideographs_alone,
    "phonetic_alone": _phonetic_alone,
    "romanised_alone": _romanised_alone,
    "day_and_month_swapped": _day_and_month_swapped,
    "names_swapped": _names_swapped,
    "surname_changed_birth_name_known": _surname_changed_birth_name_known,
    "second_given_name_dropped": _second_given_name_dropped,
    "called_by_second_given_name": _called_by_second_given_name,
    "one_part_of_compound": _one_part_of_compound,
    "particles_dropped": _particles_dropped,
    "sex_unknown": _sex_unknown,
    "identifier_alone": _identifier_alone,
}
"""Errors in spite of which a record is opened, whoever it is of."""

WEAK = {
    "undivided": _undivided,
    "transliterated": _transliterated,
    "nickname": _nickname,
    "slip_in_family_name": _slip_in_family,
    "slip_in_given_name": _slip_in_given,
    "another_day": _another_day,
    "another_month": _another_month,
    "another_year": _another_year,
    "surname_changed": _surname_changed,
}
"""Errors that leave no more than a hint of some people, or of a few not even that."""

KINDS = STRONG | WEAK
