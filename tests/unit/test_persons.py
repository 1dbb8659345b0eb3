"""Which results are of one person: the plain rule, found without comparing all with all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from peer.index import nicknames
from peer.search import persons
from peer.search.persons import grouped
from protocol.identifiers import PatientIdentifier
from protocol.matching import score as scoring
from protocol.matching.blocks import blocks
from protocol.matching.keys import Demographics
from protocol.matching.score import score

NICKNAMES = nicknames.load()

FAMILIES = ["Smith", "Smyth", "Smithe", "Muster", "Müller", "Mueller", "de la Cruz", "Cruz", "山田"]
GIVENS = ["John", "Jon", "William", "Bill", "Anna Maria", "Annamaria", "J", "Smith", "太郎", ""]
SHAPES = ["{f}^{g}", "{g}^{f}", "{f}, {g}", "{g} {f}", "{f}", "{f}^{g}=山田^太郎"]

names = st.builds(
    lambda shape, f, g: shape.format(f=f, g=g),
    st.sampled_from(SHAPES),
    st.sampled_from(FAMILIES),
    st.sampled_from(GIVENS),
)
identifiers = st.builds(
    PatientIdentifier,
    st.sampled_from(["1.2.40.0.13.1", "1.2.40.0.13.2"]),
    st.sampled_from(["MRN-00017", "MRN-00018", "4711-08-15"]),
)
people = st.builds(
    Demographics,
    st.lists(names, min_size=1, max_size=2).map(tuple),
    st.sampled_from(["19800517", "19801705", "19800518", "19800101", "", "19000101"]),
    st.sampled_from(["M", "F", "O", ""]),
    st.lists(identifiers, max_size=2).map(tuple),
)


@dataclass(frozen=True)
class Listed:
    """What grouping needs of a result."""

    patient: Demographics
    score: SimpleNamespace
    ref: bytes
    person: int = -1


def plainly_grouped(results):
    """The rule as it is said: everybody is compared with everybody."""
    ranked = sorted(results, key=lambda one: -one.score.bits)
    descriptions = list(dict.fromkeys(result.patient for result in ranked))
    group = list(range(len(descriptions)))
    for i, one in enumerate(descriptions):
        for j in range(i):
            if score(one, descriptions[j], NICKNAMES).tier == "match":
                low, high = sorted((group[i], group[j]))
                group = [low if each == high else each for each in group]
    leaders = sorted(set(group))
    index = {each: leaders.index(group[i]) for i, each in enumerate(descriptions)}
    people = [
        replace(
            descriptions[leader],
            identifiers=tuple(
                dict.fromkeys(
                    number
                    for i, each in enumerate(descriptions)
                    if group[i] == leader
                    for number in each.identifiers
                )
            ),
        )
        for leader in leaders
    ]
    return people, [index[each.patient] for each in results]


def listed(described):
    return [
        Listed(each, SimpleNamespace(bits=-place), place.to_bytes(2, "big"))
        for place, each in enumerate(described)
    ]


@settings(max_examples=300, deadline=None)
@given(st.lists(people, max_size=12))
def test_the_groups_are_those_of_the_plain_rule(described):
    found, results = grouped(listed(described), NICKNAMES)
    assert (list(found), [each.person for each in results]) == plainly_grouped(listed(described))


@settings(max_examples=2000, deadline=None)
@given(people, people)
def test_whoever_matches_shares_a_block(one, other):
    if score(one, other, NICKNAMES).tier == "match":
        assert not blocks(one).isdisjoint(blocks(other))


def test_the_bits_leave_no_other_way_to_match():
    """What `blocks` rests on, read from the tables of bits: whoever changes those is told here."""
    least = scoring.AGREEMENT_BITS
    while 1 / (1 + 2.0**-least) >= scoring.MATCH_PROBABILITY:
        least -= 0.01
    lacking = scoring.AGREEMENT_BITS - least
    for verdict, bits in scoring._DATE_BITS.items():
        assert verdict.startswith("same") or bits < -lacking, verdict
    for family, more in scoring._FAMILY_BITS.items():
        for given_name, bits in scoring._GIVEN_BITS.items():
            in_place = family == "same" or given_name == "same"
            assert in_place or more + bits < -lacking, (family, given_name)
            swapped = more + bits + scoring._SWAPPED_ORDER_BITS
            assert given_name == "same" or swapped < -lacking, ("swapped", family, given_name)


def test_hundreds_of_different_people_are_hardly_compared(monkeypatch):
    asked = []
    monkeypatch.setattr(persons, "score", lambda *pair: asked.append(pair) or score(*pair))
    described = [
        Demographics((f"Family{n}^Given{n}",), f"19{50 + n % 50}0{1 + n % 9}1{n % 10}", "F")
        for n in range(800)
    ]
    found, _ = grouped(listed(described), NICKNAMES)
    assert len(found) == 800
    assert len(asked) < 800


def test_people_made_up_by_the_thousand_do_not_hold_up_a_search(monkeypatch):
    monkeypatch.setattr(persons, "COMPARISONS", 500)
    asked = []
    monkeypatch.setattr(persons, "score", lambda *pair: asked.append(pair) or score(*pair))
    described = [
        Demographics((f"{chr(97 + n % 26) * 9}{n}^Jane",), "19800517", "F") for n in range(900)
    ]
    found, results = grouped(listed(described), NICKNAMES)
    assert len(asked) <= 500
    assert len(results) == 900
    assert len(found) > 400


# -- what people have said ------------------------------------------------------------------------

refs = st.integers(0, 11).map(lambda number: number.to_bytes(2, "big"))
pairs = st.lists(st.tuples(refs, refs).filter(lambda pair: pair[0] != pair[1]), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(people, max_size=12), pairs, pairs)
def test_whom_someone_called_two_people_stays_two(described, same, other):
    _, results = grouped(listed(described), NICKNAMES, same, other)
    person = {each.ref: each.person for each in results}
    for one, two in other:
        if one in person and two in person:
            assert person[one] != person[two]


@settings(max_examples=300, deadline=None)
@given(st.lists(people, max_size=12), pairs)
def test_whom_someone_called_one_person_is_one(described, same):
    _, results = grouped(listed(described), NICKNAMES, same)
    person = {each.ref: each.person for each in results}
    for one, two in same:
        if one in person and two in person:
            assert person[one] == person[two]
    assert {each.person for each in results} == set(range(len(set(person.values()))))


def test_a_link_joins_through_a_record_that_is_not_listed():
    described = listed([Demographics(("Muster^Max",)), Demographics(("Beispiel^Eva",))])
    away = b"somewhere else"
    _, results = grouped(described, NICKNAMES, [(b"\0\0", away), (b"\0\1", away)])
    assert [each.person for each in results] == [0, 0]
