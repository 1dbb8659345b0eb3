"""How much of what an agreement allows in a day is used: the rule."""

from __future__ import annotations

import pytest

from protocol.agreement import Terms
from protocol.limits import CLOCK_SKEW_S
from protocol.quota import (
    DAY_S,
    Use,
    closed_until,
    day_of,
    opens_at,
    refused_until,
    search_objection,
    study_objection,
)

MIDNIGHT = 1_795_046_400
"""2026-11-19 00:00 UTC."""
NOON = MIDNIGHT - DAY_S // 2
ALL = Use(10**6, 10**6, 10**15)


@pytest.mark.parametrize("objection", [search_objection, study_objection])
def test_without_a_figure_there_is_no_bound(objection):
    assert objection(Terms(), ALL, NOON) is None


@pytest.mark.parametrize(("used", "refused"), [(0, False), (99, False), (100, True), (101, True)])
def test_as_many_searches_as_agreed_are_answered_and_no_more(used, refused):
    objection = search_objection(Terms(daily_searches=100), Use(searches=used), NOON)
    assert (objection is not None) is refused


@pytest.mark.parametrize(("used", "refused"), [(39, False), (40, True)])
def test_as_many_studies_as_agreed_are_granted(used, refused):
    objection = study_objection(Terms(daily_studies=40), Use(studies=used), NOON)
    assert (objection is not None) is refused


@pytest.mark.parametrize(("used", "refused"), [(0, False), (999, False), (1000, True)])
def test_the_study_that_uses_the_bytes_up_is_given_whole(used, refused):
    objection = study_objection(Terms(daily_bytes=1000), Use(bytes=used), NOON)
    assert (objection is not None) is refused


def test_a_figure_of_none_at_all_allows_none():
    assert search_objection(Terms(daily_searches=0), Use(), NOON) is not None


def test_each_figure_bounds_its_own():
    bound = Terms(daily_searches=1, daily_studies=1)
    assert study_objection(bound, Use(searches=5), NOON) is None
    assert search_objection(bound, Use(studies=5, bytes=5), NOON) is None


def test_a_refusal_says_what_is_used_up_until_when_and_what_to_do():
    refusal = search_objection(Terms(daily_searches=100), Use(100), NOON)
    assert refusal.code == "quota"
    assert "100 searches a day" in refusal.reason
    assert "2026-11-19 00:00 UTC" in refusal.reason
    assert "emergency access" in refusal.remedy
    assert "2026-11-19 00:00 UTC" in refused_until(MIDNIGHT).reason


def test_a_day_is_one_in_utc():
    assert day_of(MIDNIGHT - 1) + 1 == day_of(MIDNIGHT)
    assert opens_at(MIDNIGHT - 1) == MIDNIGHT
    assert opens_at(MIDNIGHT) == MIDNIGHT + DAY_S


def test_an_asker_that_was_refused_waits_for_its_next_day():
    assert closed_until(NOON) == MIDNIGHT


def test_right_after_midnight_the_origins_day_may_be_the_one_before():
    """It waits for as long as clocks may differ, and not for a day."""
    assert closed_until(MIDNIGHT + 5) == MIDNIGHT + CLOCK_SKEW_S
    assert closed_until(MIDNIGHT + CLOCK_SKEW_S) == MIDNIGHT + DAY_S
