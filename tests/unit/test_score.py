"""Scores: the table of part weights, the tiers, the reasons, and symmetry."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identifiers import PatientIdentifier
from protocol.matching.keys import Demographics, index_keys, query_keys
from protocol.matching.nicknames import table_from_pairs
from protocol.matching.score import score, share_of

NICKNAMES = table_from_pairs([("William", "Bill"), ("Robert", "Bob")])
OID = "1.2.840.99999.7"
OTHER_OID = "1.2.840.99999.8"


def person(name, birth_date="19800512", sex="M", *identifiers):
    return Demographics((name,), birth_date, sex, identifiers)


ALICE = person("Sokolova^Alisa", "19800512", "F")


def judged(question, record, **options):
    return score(question, record, NICKNAMES, **options)


@pytest.mark.parametrize(
    ("question", "record", "bits"),
    [
        (person("Smith^John"), person("SMITH^JOHN"), 11.0),
        (person("Sokolov^John"), person("Sokolova^John"), 9.0),
        (person("Garcia^John"), person("García López^John"), 9.0),
        (person("Gaddafi^John"), person("Qadhafi^John"), 7.2),
        (person("Smith^John"), person("^^"), 2.8),
        (person("Smith^John"), person("Wong^John"), 0.1),
        (person("Smith^Bill"), person("Smith^William"), 6.9),
        (person("Smith^Robert"), person("Smith^John^Robert"), 6.9),
        (person("Smith^J"), person("Smith^John"), 6.2),
        (person("Smith^John"), person("Smith^Peter"), -2.6),
        (person("Smith^John"), person("John^Smith"), 9.1),
        (person("Smith^John"), person("John Smith"), 11.0),
        (person("山田^太郎"), person("Yamada^Taro=山田^太郎"), 11.0),
        (person("山田太郎"), person("Yamada^Taro=山田^太郎"), 11.0),
        (person("山田^太郎"), person("山田^花子"), -2.6),
        (person("Smith^John", "19800512"), person("Smith^John", "19801205"), 5.8),
        (person("Smith^John", "19800512"), person("Smith^John", "19800513"), 3.8),
        (person("Smith^John", "19800512"), person("Smith^John", "19800524"), -2.5),
        (person("Smith^John", "19800512"), person("Smith^John", "19991130"), -2.3),
        (person("Smith^John", "19800512"), person("Smith^John", "19000101"), 4.2),
        (person("Smith^John", "19800101"), person("Smith^John", "19800101"), 7.4),
        (person("Smith^John", "19800101"), person("Smith^John", "19800512"), 4.2),
        (person("Smith^John"), person("Smith^John", "19800512", "F"), 3.0),
        (person("Smith^John"), person("Smith^John", "19800512", "O"), 10.4),
        (person("Smith^John"), person("Smith^John", "19800512", ""), 10.4),
    ],
)
def test_each_difference_costs_what_the_table_says(question, record, bits):
    assert judged(question, record).bits == pytest.approx(bits)
    assert judged(record, question).bits == pytest.approx(bits)


@pytest.mark.parametrize(
    ("ours", "theirs", "bits"),
    [
        ([(OID, "AB123")], [(OID, "AB-123")], 11 + 15),
        ([(OID, "AB12345678")], [(OID, "AB12345678")], 11 + 22),
        ([(OID, "AB123456789012")], [(OID, "AB123456789012")], 11 + 22),
        ([(OID, "AB123")], [(OID, "AB124")], 11 - 5),
        ([(OID, "AB123")], [(OTHER_OID, "AB124")], 11),
        ([(OID, "AB123")], [(OID, "AB124"), (OID, "AB123")], 11 + 15),
        ([(OID, "AB123"), (OTHER_OID, "X9999")], [(OID, "AB123"), (OTHER_OID, "X9998")], 11 + 10),
        ([("HOSPITAL", "AB123")], [("HOSPITAL", "AB124")], 11),
        ([(OID, "999999999")], [(OID, "999999999")], 11),
    ],
)
def test_identifiers_weigh_by_issuer_and_length(ours, theirs, bits):
    question = person("Smith^John", "19800512", "M", *(PatientIdentifier(*one) for one in ours))
    record = person("Smith^John", "19800512", "M", *(PatientIdentifier(*one) for one in theirs))
    assert judged(question, record).bits == pytest.approx(bits)


def test_more_patients_make_a_chance_hit_likelier_and_fewer_do_not_make_it_less():
    assert judged(ALICE, ALICE, population=8_000_000).bits == pytest.approx(8.0)
    assert judged(ALICE, ALICE, population=0).bits == pytest.approx(11.0)


@pytest.mark.parametrize(
    ("asked", "recorded"),
    [
        (person("Sokolov^Dmitri"), person("Sokoloff^Dmitri")),
        (person("Smith^John"), person("John^Smith")),
        (person("Smith^Jon"), person("Smith^John")),
        (person("Smith^Bill"), person("Smith^William")),
        (person("Garcia^Maria", sex="F"), person("García-López^María Elena", sex="F")),
        (person("Schmidt^Anna", "19800512", "F"), person("Schmidt^Anna", "19801205", "F")),
        (person("Tchaikovsky^Pyotr"), person("Чайковский^Пётр")),
        (person("de la Cruz^Ana", sex=""), person("Cruz^Ana", sex="F")),
        (person("やまだ^たろう"), person("Yamada^Tarou=山田^太郎=やまだ^たろう")),
    ],
)
def test_one_person_written_twice_is_found_and_at_least_probable(asked, recorded):
    published = set(index_keys(recorded, NICKNAMES))
    assert published & set(query_keys(asked, NICKNAMES))
    assert judged(asked, recorded).tier in {"match", "probable"}


@pytest.mark.parametrize(
    ("asked", "recorded"),
    [
        # They share a key, and must still be told apart.
        (person("Smith^Johanna", sex="F"), person("Smithers^Johnathan", sex="M")),
        (person("Mayer^Klaus"), person("Mayfield^Klara", sex="F")),
        # Twins, father and son, namesakes.
        (person("Smith^John"), person("Smith^Peter")),
        (person("Smith^John", "19500101"), person("Smith^John", "19800512")),
        (person("Smith^John", "19800512"), person("Smith^John", "19630707")),
    ],
)
def test_strangers_are_not_shown_as_likely(asked, recorded):
    assert judged(asked, recorded).tier in {"none", "possible"}


def test_reasons_name_each_field_and_never_a_value():
    question = person("Garcia^Bill", "19800512", "M", PatientIdentifier(OID, "AB12345"))
    record = person("García López^William", "19801205", "M", PatientIdentifier(OID, "AB12345"))
    assert judged(question, record).reasons() == (
        "Family name: similar",
        "Given name: nickname",
        "Birth date: day/month swapped",
        "Sex: same",
        "Identifier: same",
    )
    assert judged(person("Smith^John"), person("John^Smith")).reasons()[2] == "Name order: swapped"


def test_tiers_follow_the_probability():
    tiers = {
        judged(ALICE, record).tier: judged(ALICE, record).probability
        for record in (
            ALICE,
            person("Sokolova^Alisa", "19801205", "F"),
            person("Wong^Alisa", "19800512", "F"),
            person("Wong^Peter", "19991130", "M"),
        )
    }
    assert list(tiers) == ["match", "probable", "possible", "none"]
    assert tiers["match"] >= 0.99 > tiers["probable"] >= 0.80 > tiers["possible"] >= 0.20


parts = st.text("abehijmnortuzé李김 -'", max_size=8)
people = st.builds(
    Demographics,
    names=st.lists(st.builds("{}^{}".format, parts, parts), max_size=3).map(tuple),
    birth_date=st.sampled_from(["", "19800512", "19801205", "19800101", "19800513", "20010203"]),
    sex=st.sampled_from(["M", "F", "O", ""]),
    identifiers=st.lists(
        st.builds(
            PatientIdentifier,
            st.sampled_from([OID, OTHER_OID, "HOSPITAL"]),
            st.sampled_from(["AB123", "AB124", "AB12345678", "1"]),
        ),
        max_size=3,
    ).map(tuple),
)


@given(people, people)
def test_who_asks_makes_no_difference(one, other):
    forth, back = judged(one, other), judged(other, one)
    assert forth.bits == pytest.approx(back.bits)
    assert forth.tier == back.tier


@given(people, people)
def test_the_order_of_names_and_identifiers_makes_no_difference(one, other):
    turned = Demographics(one.names[::-1], one.birth_date, one.sex, one.identifiers[::-1])
    assert judged(turned, other) == judged(one, other)


@given(people, people)
def test_nobody_fits_better_than_the_person_itself(one, other):
    assert judged(one, other).bits <= judged(one, one).bits + 1e-9 or not one.names


@given(people, people)
def test_the_sum_is_the_sum_of_its_evidence(one, other):
    result = judged(one, other)
    assert result.bits == pytest.approx(11.0 + sum(item.bits for item in result.evidence))
    assert 0.0 <= result.probability <= 1.0
    assert len(result.reasons()) == len(result.evidence)


# -- common names -----------------------------------------------------------------------------


def test_a_common_name_that_agrees_says_less_and_says_so():
    one = person("Smith^John", "19800512", "M")
    rare = score(one, one, NICKNAMES)
    common = score(one, one, NICKNAMES, shares={"smith": 8 / 2000, "john": 1 / 2000})
    assert rare.bits - common.bits == pytest.approx(3 * 0.37)
    assert common.reasons()[0] == "Family name: same, a common name"
    assert common.reasons()[1] == "Given name: same"


def test_in_a_small_register_no_name_is_common_for_being_borne_once():
    one = person("Mueller^Jane", "19800517", "F")
    only = {name: share_of(1, 1) for name in ("mueller", "jane")}
    assert score(one, one, NICKNAMES, shares=only).bits == score(one, one, NICKNAMES).bits
    assert share_of(40, 20_000) == pytest.approx(1 / 500)


@given(people, people, st.dictionaries(st.sampled_from(["smith", "anna"]), st.floats(0, 1)))
def test_how_common_names_are_keeps_the_score_symmetric_and_never_raises_it(one, other, shares):
    there, back = (score(a, b, NICKNAMES, shares=shares) for a, b in ((one, other), (other, one)))
    assert there.bits == pytest.approx(back.bits)
    assert there.bits <= score(one, other, NICKNAMES).bits + 1e-9
