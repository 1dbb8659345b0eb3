"""How complete a partner is, by studies that are known to be there: the rule."""

from __future__ import annotations

from datetime import date
from math import comb

import pytest

from protocol.completeness import (
    COUNTED_DAYS,
    SETTLED_DAYS,
    Look,
    Study,
    Tally,
    Verdict,
    judge,
    least_share,
    tally,
)

TODAY = date(2026, 11, 18)
UID = "1.2.3"
PUBLISHED = Study(UID, "20260301", "A17", frozenset({"CT", "SR"}))


def days_ago(count):
    return f"{date.fromordinal(TODAY.toordinal() - count):%Y%m%d}"


@pytest.mark.parametrize(
    ("known", "same"),
    [
        (Study(UID, "20260301"), True),
        (Study("1.2.4", "20260301", "A17"), False),
        (Study("", "20260301", "A17"), True),
        (Study("", "20260302", "A17"), True),
        (Study("", "20260301", "A18"), False),
        (Study("", "20260301"), True),
        (Study("", "20260302"), False),
        (Study("", "20260301", "", frozenset({"CT"})), True),
        (Study("", "20260301", "", frozenset({"MR"})), False),
    ],
)
def test_which_published_study_is_the_known_one(known, same):
    assert known.is_shown_by(PUBLISHED) is same


def test_without_an_accession_number_in_the_digest_the_date_decides():
    bare = Study(UID, "20260301")
    assert Study("", "20260301", "A17").is_shown_by(bare)
    assert not Study("", "20260302", "A17").is_shown_by(bare)


def test_found_and_missed():
    known = Study("", "20260301")
    found = judge(known, Look((PUBLISHED,)), TODAY)
    assert (found.verdict, found.study_instance_uid, found.code) == (Verdict.FOUND, UID, "")
    assert judge(known, Look(), TODAY).verdict == Verdict.MISSED


@pytest.mark.parametrize("published", [(), (PUBLISHED,)], ids=["absent", "there"])
@pytest.mark.parametrize(
    ("known", "look", "code"),
    [
        (PUBLISHED, {"uncovered": "offline"}, "offline"),
        (PUBLISHED, {"uncovered": "lease-over"}, "lease-over"),
        (Study(UID, days_ago(SETTLED_DAYS - 1)), {}, "too-recent"),
        (Study(UID, days_ago(COUNTED_DAYS + 1)), {}, "too-old"),
    ],
)
def test_what_does_not_count_does_not_count_either_way(known, look, code, published):
    """Else what is found would count, what is not would not, and everyone would be complete."""
    said = judge(known, Look(published, **look), TODAY)
    assert (said.verdict, said.code) == (Verdict.UNCHECKED, code)
    assert said.study_instance_uid == (UID if published else "")


@pytest.mark.parametrize("days", [SETTLED_DAYS, 200, COUNTED_DAYS])
def test_from_a_week_to_a_year_after_the_study_it_counts(days):
    assert judge(Study("", days_ago(days)), Look(), TODAY).verdict == Verdict.MISSED


@pytest.mark.parametrize("checks", [3, 10, 100, 1000, 20_000])
def test_clean_checks_imply_what_the_rule_of_three_says(checks):
    assert least_share(checks, checks) == pytest.approx(0.05 ** (1 / checks), abs=1e-9)
    assert least_share(checks, checks) >= 1 - 3 / checks


@pytest.mark.parametrize(("found", "checks"), [(1, 1), (9, 10), (97, 100), (1, 30), (480, 500)])
def test_the_bound_is_the_exact_one(found, checks):
    """At that share just so many would be found in one case of twenty."""
    share = least_share(found, checks)
    tail = sum(
        comb(checks, each) * share**each * (1 - share) ** (checks - each)
        for each in range(found, checks + 1)
    )
    assert tail == pytest.approx(0.05, abs=1e-6)


def test_values_of_tables():
    """Clopper and Pearson, one-sided at 95 %."""
    assert least_share(97, 100) == pytest.approx(0.92429, abs=1e-5)
    assert least_share(9, 10) == pytest.approx(0.60584, abs=1e-5)
    assert least_share(0, 10) == 0


@pytest.mark.parametrize(
    ("found", "missed", "sentence"),
    [
        (0, 0, "Not checked yet: no study is named here that was made there."),
        (1, 0, "At least 5% complete at 95% confidence, from 1 check without a miss."),
        (100, 0, "At least 97% complete at 95% confidence, from 100 checks without a miss."),
        (97, 3, "3 of 100 checks found nothing; at least 92% complete at 95% confidence."),
        (0, 5, "Nothing of what was looked for is to be found, in 5 checks."),
    ],
)
def test_what_is_said(found, missed, sentence):
    assert Tally(found, missed, 4).sentence == sentence


def test_what_does_not_count_is_no_check():
    said = tally(["found", "missed", "unchecked", "found"])
    assert (said.found, said.missed, said.unchecked, said.checks) == (2, 1, 1, 3)
    assert tally(["unchecked"]).complete_at_least is None
