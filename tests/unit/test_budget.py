"""Whoever waits as it is told never gets more than its budget; whoever stays below never waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.config import Link
from peer.link.metering import budgets_of
from protocol.budget import (
    LEAST_BYTES_PER_S,
    PAUSE_MOST_S,
    Allowance,
    Budget,
    Load,
    Rate,
    load_of,
)
from protocol.limits import MESSAGE_BYTES
from protocol.messages import Kind

PLENTY = Rate(1e9, 1e9)
gaps = st.floats(0, 30, allow_nan=False)


def allowance(per_s, at_once):
    return Allowance({Load.EXCHANGE: Budget(Rate(per_s, at_once), PLENTY)})


@given(
    per_s=st.floats(1, 100),
    at_once=st.integers(1, 500),
    spent=st.lists(st.tuples(gaps, st.integers(1, 5)), max_size=80),
)
def test_no_stretch_of_time_brings_more_than_the_budget(per_s, at_once, spent):
    held = allowance(per_s, at_once)
    now, taken = 0.0, []
    for gap, messages in spent:
        now += gap
        taken.append((now, messages))
        now += held.spend(Load.EXCHANGE, messages, 0, now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            total = sum(messages for _, messages in taken[first : last + 1])
            stretch = taken[last][0] - taken[first][0]
            # What is taken is paid for afterwards, so the last one may come on top.
            assert total <= at_once + per_s * stretch + taken[last][1] + 1e-6


@given(
    per_s=st.floats(1, 100),
    at_once=st.integers(1, 100),
    gaps=st.lists(st.floats(0, 5), max_size=60),
)
def test_whoever_stays_below_the_rate_never_waits(per_s, at_once, gaps):
    held, now = allowance(per_s, at_once), 0.0
    for gap in gaps:
        now += gap + 1.001 / per_s
        assert held.spend(Load.EXCHANGE, 1, 0, now) == 0


@given(costs=st.lists(st.floats(0, 1e12), min_size=1, max_size=20))
def test_a_pause_is_bounded_and_ends(costs):
    held = allowance(2, 10)
    for cost in costs:
        assert 0 <= held.spend(Load.EXCHANGE, cost, 0, 5.0) <= PAUSE_MOST_S
    assert held.spend(Load.EXCHANGE, 0, 0, 5.0 + PAUSE_MOST_S) == 0


def test_bytes_and_messages_are_counted_apart_and_loads_do_not_share():
    small = Budget(Rate(1, 2), Rate(100, 1000))
    held = Allowance({Load.EXCHANGE: small, Load.RANGES: small})
    assert held.spend(Load.EXCHANGE, 1, 1200, 0.0) == pytest.approx(2.0)
    assert held.spend(Load.RANGES, 1, 500, 0.0) == 0
    assert held.spend(Load.RANGES, 3, 0, 0.0) == pytest.approx(2.0)


def test_a_clock_that_stands_still_or_falls_back_gives_nothing():
    held = allowance(1, 1)
    assert held.spend(Load.EXCHANGE, 2, 0, 100.0) == pytest.approx(1.0)
    assert held.spend(Load.EXCHANGE, 0, 0, 50.0) == pytest.approx(1.0)


def test_every_message_is_a_load():
    assert load_of(Kind.TELL, "have") is Load.EXCHANGE
    assert load_of(Kind.ANSWER, "range-bytes") is Load.EXCHANGE, "an answer that nobody asked for"
    assert load_of(Kind.REQUEST, "read-range") is Load.RANGES
    assert load_of(Kind.REQUEST, "evaluate") is Load.REQUESTS
    assert load_of(Kind.REQUEST, "of-a-later-version") is Load.REQUESTS


def test_the_smallest_settings_keep_what_they_promise():
    """A pause that is cut short would let a partner have more than its rate."""
    least = Link(
        exchange_messages_per_s=1,
        requests_per_s=1,
        ranges_per_s=1,
        range_bytes_per_s=1 << 20,
        exchange_bytes_at_once=1 << 24,
    )
    for load, budget in budgets_of(least).items():
        assert budget.messages.per_s * PAUSE_MOST_S >= 1, load
        if load is not Load.LINKS:
            assert budget.size.per_s >= LEAST_BYTES_PER_S
            assert budget.size.at_once >= MESSAGE_BYTES
