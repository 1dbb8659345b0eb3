"""Match keys: who meets whom, how many keys there are, and that more knowledge never hides."""

from datetime import date
from itertools import permutations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.identifiers import PatientIdentifier
from protocol.limits import SLOT_BLOCK
from protocol.matching.keys import (
    MAX_INDEX_KEYS,
    MAX_INDEX_WEAK_KEYS,
    MAX_QUERY_KEYS,
    MAX_QUERY_WEAK_KEYS,
    Demographics,
    index_keys,
    query_keys,
    refusal_reason,
)
from protocol.matching.nicknames import table_from_pairs

NICKNAMES = table_from_pairs(
    [
        ("William", "Bill"),
        ("William", "Will"),
        ("William", "Liam"),
        ("Willis", "Will"),
        ("Willis", "Bill"),
        ("Robert", "Bob"),
        ("Robert", "Bill"),
        ("Robert", "Bert"),
        ("Robert", "Rob"),
        ("José", "Pepe"),
        ("Bill", "Bill"),
        ("Mary Ann", "Polly"),
    ]
)
OID = "1.2.840.99999.7"
MRN = PatientIdentifier(OID, "MRN-0815-4711")

name_parts = st.text("abcdeghikmnorstuvzäéЛи李김 '-", min_size=1, max_size=12)
names = st.one_of(
    st.builds("{}^{}".format, name_parts, name_parts),
    st.builds("{} {}".format, name_parts, name_parts),
    st.builds("{}^{}^{}".format, name_parts, name_parts, name_parts),
    st.text(max_size=20),
)
people = st.builds(
    Demographics,
    names=st.lists(names, max_size=4).map(tuple),
    birth_date=st.one_of(
        st.just(""), st.text(max_size=8), st.dates().map(lambda day: day.strftime("%Y%m%d"))
    ),
    sex=st.sampled_from(["M", "F", "O", ""]),
    identifiers=st.lists(
        st.builds(PatientIdentifier, st.sampled_from([OID, "", "HOSPITAL"]), st.text(max_size=12)),
        max_size=12,
    ).map(tuple),
)
searchable_people = st.builds(
    Demographics,
    names=st.tuples(st.builds("{}x^{}".format, name_parts, name_parts), names, names),
    birth_date=st.dates(min_value=date(1901, 1, 1)).map(lambda day: day.strftime("%Y%m%d")),
    identifiers=st.lists(
        st.builds(PatientIdentifier, st.just(OID), st.text("ABC123", min_size=6)), max_size=12
    ).map(tuple),
)


def person(name, birth_date="19800512", sex="", *identifiers):
    return Demographics((name,), birth_date, sex, identifiers)


def shared(question, record, tier="strong"):
    """Return the rules of the keys by which `question` finds `record`."""
    published = set(index_keys(record, NICKNAMES))
    asked = query_keys(question, NICKNAMES)
    return {key.rule for key in asked if key in published and key.tier == tier}


def strong(keys):
    return [key for key in keys if key.tier == "strong"]


@pytest.mark.parametrize(
    ("asked", "published"),
    [
        ("Sokolov^Dmitri", "Sokoloff^Dmitry"),
        ("Tchaikovsky^Pyotr", "Чайковский^Петр"),
        ("Gaddafi^Mohammed", "Qadhafi^Muhamad"),
        ("Mueller^Jürgen", "Müller^Juergen"),
        ("Schmidt^Anna", "Schmitt^Anna"),
        ("Schmidt^Anna", "Schmidtke^Annabel"),
        ("Smith^John", "John^Smith"),
        ("Smith^John", "JOHN SMITH"),
        ("John Smith", "Smith, John"),
        ("Smith^Bill", "Smith^William"),
        ("Smith^William", "Smith^Bill"),
        ("Smith^Bob", "Smith^Rob"),
        ("García López^María", "Garcia^Maria"),
        ("Garcia^Maria", "García-López^María Elena"),
        ("García López^Pepe", "GARCIA LOPEZ^JOSE"),
        ("de la Cruz^Ana", "Cruz^Ana"),
        ("Cruz^Ana", "Delacruz^Ana=^=de la Cruz^Ana"),
        ("de la Cruz^Ana", "Delacruz^Ana"),
        ("Ana de la Cruz", "de la Cruz^Ana"),
        ("Smith^John Robert", "Smith^Robert"),
        ("Smith^Robert", "Smith^John^Robert"),
        ("Wang^XiaoDong", "Wang^Xiao Dong"),
        ("Khan^Abdulrahman", "Khan^Abdel Rahman"),
        ("山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("山田太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("やまだ^たろう", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("Yamada^Taro", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("김희중", "Kim^Huijung"),
        ("Διονυσιος", "Dionysios"),
        ("Smith Jr^John^^Dr", "Smith^John"),
    ],
)
def test_the_same_person_written_differently_is_found(asked, published):
    assert shared(person(asked), person(published))


@pytest.mark.parametrize(
    ("asked", "published"),
    [
        (person("Smith^John"), person("Smith^John", "19800513")),
        (person("Smith^John"), person("Miller^John")),
        (person("Smith^John"), person("Smith^Peter")),
        (person("Smith^John"), person("Smith")),
        (person("山田^太郎"), person("山口^太郎")),
        (person("Nobody^Here", "", "", MRN), person("Nobody^Here")),
        (person("A^B", "", "", MRN), person("A^B", "", "", PatientIdentifier("1.2.3", MRN.value))),
    ],
)
def test_strangers_do_not_meet(asked, published):
    assert not shared(asked, published)


@pytest.mark.parametrize(
    ("asked", "published"),
    [
        (person("Smith^Anna", "19800512", "F"), person("Jones^Anna", "19800512", "F")),
        (person("Smith^Anna"), person("Smith^Bettina")),
        (person("Schmidt^Ana", "19800512"), person("Schmitt^Anna", "19800731")),
        (person("Schmidt^Ana", "19800512"), person("Schmitt^Anna", "19800731", "F")),
        (person("Schmidt^Ana", "19800512", "F"), person("Schmitt^Anna", "19810512", "F")),
        (person("Anna^Smith", "19800512", "F"), person("Jones^Anna", "19800512", "F")),
        (person("山田^太郎"), person("山口^太郎")),
    ],
    ids=[
        "surname changed",
        "given name differs",
        "day and month wrong",
        "and sex unknown to the asker",
        "year wrong",
        "swapped and surname changed",
        "ideographic surname changed",
    ],
)
def test_who_is_missed_by_strong_keys_is_hinted_at(asked, published):
    assert not shared(asked, published)
    assert shared(asked, published, "weak")


@pytest.mark.parametrize("recorded", ["M", "F", "O", ""])
@pytest.mark.parametrize("asked", ["M", "F", "O", ""])
def test_an_unknown_sex_hides_nobody(asked, recorded):
    known = {"M", "F"}
    found = shared(person("Smith^Ann", sex=asked), person("Smith^Ann", sex=recorded), "weak")
    assert ("W3" in found) == (asked == recorded or not {asked, recorded} <= known)


def test_the_first_of_january_is_no_birthday():
    rules = {key.rule for key in index_keys(person("Smith^John", "19800101"), NICKNAMES)}
    assert rules == {"S1", "S3", "S4", "W1", "W3"}


def test_day_and_month_may_be_swapped():
    assert shared(person("Smith^John", "19800512"), person("Smith^John", "19801205"))


def test_a_birth_name_finds_who_changed_the_surname():
    record = Demographics(("Jones^Anna", "Smith^Anna"), "19800512")
    assert shared(person("Smith^Anna"), record)
    assert shared(record, person("Smith^Anna"))


def test_an_identifier_is_enough_and_is_spelt_freely():
    record = person("Sokolov^Dmitri", "", "", MRN)
    asked = person("", "", "", PatientIdentifier(f"urn:oid:{OID}", "mrn 08154711"))
    assert shared(asked, record) == {"id"}


def test_the_texts_are_a_published_format():
    """Both ends must derive them alike: a change here is a new rule version and key epoch."""
    texts = [key.text for key in index_keys(person("Smith^Bob", "19801205", "M", MRN), NICKNAMES)]
    assert texts == [
        "1|id|MRN08154711|urn:oid:1.2.840.99999.7",
        "1|S1|latin|bob|smith|19800512",
        "1|S1|latin|robert|smith|19800512",
        "1|S3|latin|pp|smt|19800512",
        "1|S4|latin|bob|smi|19800512",
        "1|W1|latin|smt|19800512",
        "1|W1|latin|pp|19800512",
        "1|W3|latin|pp|smt|1980|M",
        "1|W5|latin|pp|smt|0512",
    ]
    exact = index_keys(person("山田^太郎"), table_from_pairs([]))
    assert [key.text for key in exact] == [
        "1|S1|ideographic||山田太郎|19800512",
        "1|W1|ideographic|山田|19800512",
        "1|W1|ideographic|太郎|19800512",
        "1|W3|ideographic|太郎|山田|1980|",
        "1|W5|ideographic|太郎|山田|0512",
    ]


def test_usual_patients_have_at_most_two_blocks_of_slots():
    for name in (
        "Smith^Bill",
        "Smith^William^Robert",
        "García López^María",
        "Yamada^Tarou=山田^太郎",
    ):
        assert len(index_keys(person(name, "19800512", "M", MRN), NICKNAMES)) <= 2 * SLOT_BLOCK
    plain = person("Smith^Bill", "19800512", "M", MRN)
    assert len(index_keys(plain, NICKNAMES)) <= SLOT_BLOCK


@given(people)
def test_keys_are_bounded_unique_ordered_and_tell_their_rule(someone):
    order = ("id", "S1", "S3", "S4", "W1", "W3", "W5")
    for keys, most, most_weak in (
        (index_keys(someone, NICKNAMES), MAX_INDEX_KEYS, MAX_INDEX_WEAK_KEYS),
        (query_keys(someone, NICKNAMES), MAX_QUERY_KEYS, MAX_QUERY_WEAK_KEYS),
    ):
        assert len(strong(keys)) <= most
        assert len(keys) - len(strong(keys)) <= most_weak
        assert len(set(keys)) == len(keys)
        positions = [order.index(key.rule) for key in keys]
        assert positions == sorted(positions)
        assert all((key.tier == "weak") == key.rule.startswith("W") for key in keys)
        assert all(key.text.startswith(f"1|{key.rule}|") for key in keys)


@given(people)
def test_a_search_is_refused_exactly_when_there_is_nothing_to_ask(someone):
    reason = refusal_reason(someone)
    assert (reason is None) == bool(query_keys(someone, NICKNAMES))
    assert (reason is None) == bool(index_keys(someone, NICKNAMES))
    assert reason is None or reason.endswith(".")


def test_the_reason_says_what_to_add():
    assert "birth date" in refusal_reason(person("Smith^John", ""))
    assert "readable name" in refusal_reason(person("^^", "19800512"))
    local_number = PatientIdentifier("HOSPITAL", "AB123456")
    assert refusal_reason(person("Smith^John", "19000101", "M", local_number))


@given(searchable_people)
def test_who_is_asked_for_exactly_as_published_is_always_found(someone):
    asked = {key.rule for key in strong(query_keys(someone, NICKNAMES))}
    assert "S1" in asked
    assert shared(someone, someone) == asked
    assert {"W1", "W3"} <= shared(someone, someone, "weak")


@given(searchable_people, names)
def test_another_name_on_record_never_hides_a_patient(someone, other):
    richer = Demographics(
        (*someone.names, other), someone.birth_date, someone.sex, someone.identifiers
    )
    assert shared(someone, someone) <= shared(someone, richer)


@given(st.lists(names, max_size=3), st.dates())
def test_the_order_of_the_names_on_record_does_not_matter_below_the_cap(some_names, day):
    day = day.strftime("%Y%m%d")
    found = [
        set(index_keys(Demographics(order, day), NICKNAMES)) for order in permutations(some_names)
    ]
    assume(len(found[0]) < MAX_INDEX_KEYS)
    assert all(keys == found[0] for keys in found)


latin_words = st.from_regex("[b-z][a-zäéøß]{0,11}", fullmatch=True)


@given(latin_words, latin_words)
def test_family_and_given_name_may_be_swapped(one, other):
    assert {"S1", "S4"} <= shared(person(f"{one}^{other}"), person(f"{other}^{one}"))


def test_nicknames_of_pairs_are_normalised_and_the_commoner_name_comes_first():
    assert NICKNAMES.formal_names_of("bill") == ("robert", "william", "willis")
    assert NICKNAMES.formal_names_of("pepe") == ("jose",)
    assert NICKNAMES.formal_names_of("polly") == ()
    assert NICKNAMES.are_related("bob", "bert")
    assert NICKNAMES.are_related("william", "bill")
    assert not NICKNAMES.are_related("liam", "bob")
