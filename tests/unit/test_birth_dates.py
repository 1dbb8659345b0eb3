"""Birth dates: placeholders, swaps, and symmetric comparison."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.matching import dates

days = st.dates().map(lambda day: day.strftime("%Y%m%d"))


@pytest.mark.parametrize(
    "text",
    ["", "00010101", "19000101", "99991231", "18000101", "1980", "198005", "19801340", "abcdefgh"],
)
def test_what_is_no_birth_date_is_missing(text):
    assert dates.usable(text) == ""


@pytest.mark.parametrize("text", ["19800517", "1980.05.17", "1980-05-17", " 19800517 "])
def test_written_forms_of_one_day_are_one(text):
    assert dates.usable(text) == "19800517"


def test_a_day_that_only_exists_swapped_still_meets_its_correct_form():
    swapped, correct = dates.usable("19803112"), dates.usable("19801231")
    assert dates.match_form(swapped) == dates.match_form(correct)
    assert dates.compare(swapped, correct) == "day/month swapped"


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ("19800517", "19800517", "same"),
        ("19800101", "19800101", "same, but 1 January"),
        ("19800101", "19800517", "only the year is known"),
        ("19800512", "19801205", "day/month swapped"),
        ("19800517", "19800518", "one digit differs"),
        ("19800517", "19800571", "one digit differs"),
        ("19800517", "19800528", "two of three parts agree"),
        ("19800517", "19800617", "one digit differs"),
        ("19800517", "19991231", "differs"),
        ("", "19991231", "missing"),
        ("", "", "missing"),
    ],
)
def test_verdicts_and_their_symmetry(one, other, verdict):
    assert dates.compare(one, other) == verdict
    assert dates.compare(other, one) == verdict


@given(days, days)
def test_comparing_is_symmetric_and_normalising_idempotent(one, other):
    one, other = dates.usable(one), dates.usable(other)
    assert dates.usable(one) == one
    assert dates.compare(one, other) == dates.compare(other, one)


@given(st.text(max_size=12))
def test_any_text_is_a_date_or_missing(text):
    assert dates.usable(text) == "" or len(dates.usable(text)) == 8
