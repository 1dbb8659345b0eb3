"""Whoever is written in another way is found: each kind of error, for people of many countries."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocol.matching.keys import index_keys, query_keys
from protocol.matching.score import score
from tests.misspellings import KINDS, NICKNAMES, STRONG
from tests.population import COUNTRIES, people

EVERYBODY = list(people(3000, seed=5))
seeds = st.integers(0, 2**32).map(random.Random)


def tiers(recorded, asked):
    """Return the tiers of the keys under which somebody is published and asked for."""
    published = {(key.tier, key.text) for key in index_keys(recorded, NICKNAMES)}
    return {key.tier for key in query_keys(asked, NICKNAMES) if (key.tier, key.text) in published}


def some(kind, rng):
    """Return what is recorded of somebody and what is asked, with an error of this kind."""
    found = None
    while found is None:
        found = KINDS[kind](rng, rng.choice(EVERYBODY))
    return found


@pytest.mark.parametrize("kind", sorted(STRONG))
@settings(max_examples=60, deadline=None)
@given(seeds)
def test_the_record_is_opened_and_shown_whoever_it_is_of(kind, rng):
    recorded, asked = some(kind, rng)
    assert "strong" in tiers(recorded, asked)
    assert score(asked, recorded, NICKNAMES).tier in {"match", "probable"}


HINTED = ("another_month", "another_year", "nickname", "surname_changed", "undivided")


@pytest.mark.parametrize("kind", HINTED)
@settings(max_examples=60, deadline=None)
@given(seeds)
def test_there_is_at_least_a_hint_whoever_it_is(kind, rng):
    recorded, asked = some(kind, rng)
    assume(not recorded.birth_date.endswith("0101"))
    assert tiers(recorded, asked)


def test_the_people_are_the_same_in_every_run_and_of_every_country():
    assert list(people(3000, seed=5)) == EVERYBODY
    assert {each.country for each in EVERYBODY} == set(COUNTRIES)
    assert random.Random(1).choice(EVERYBODY) in EVERYBODY
    for kind in KINDS:
        assert some(kind, random.Random(2)) is not None
