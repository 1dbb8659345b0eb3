"""Every live record of a chain is found, whatever was published and withdrawn before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.chains import Chain, change, is_reserved, walk
from protocol.errors import LocalProtocolError
from protocol.limits import CHAIN_MISSES


def found_by_walk(present):
    (found,) = walk(1, lambda places: {each: True for each in places if each[1] in present}, 10_000)
    return {position for position, _ in found}


def assert_found(live, fillers, when):
    missed = live - found_by_walk(live | fillers)
    assert not missed, f"{when}: the walk ends before the live records at {sorted(missed)}"


# Each step withdraws some of what is live (chosen by fractions) and publishes some more.
steps = st.lists(
    st.tuples(st.lists(st.floats(0, 0.999), max_size=12), st.integers(0, 12)), max_size=25
)


@given(steps)
def test_every_live_record_is_found_after_any_sequence_of_publish_and_withdraw(sequence):
    chain = Chain()
    given_away: set[int] = set()
    for fractions, published in sequence:
        live = sorted(chain.live)
        withdrawn = {live[int(f * len(live))] for f in fractions if live}
        result = change(chain, withdrawn, published)

        # A reader may be stopped anywhere in the batch: fillers, withdrawals, new records.
        fillers = set(chain.fillers)
        for filler in result.fillers:
            fillers.add(filler)
            assert_found(chain.live, fillers, "among the fillers")
        still = set(chain.live)
        for position in withdrawn:
            still.discard(position)
            assert_found(still, fillers, "among the withdrawals")
        for position in result.positions:
            still.add(position)
            assert_found(still, fillers, "among the new records")

        fresh = set(result.fillers) | set(result.positions)
        assert not fresh & given_away, "a position was used twice"
        given_away |= fresh
        assert all(is_reserved(p) for p in result.fillers)
        assert not any(is_reserved(p) for p in result.positions)
        assert result.after.live == still
        assert result.after.next_position >= chain.next_position
        chain = result.after


def test_a_chain_without_withdrawals_needs_no_filler():
    result = change(Chain(), published=100)
    assert result.fillers == ()
    assert found_by_walk(result.after.live) == set(result.positions)


def test_a_gap_of_eight_is_mended_before_it_opens():
    chain = change(Chain(), published=16).after
    before = sorted(chain.live)
    result = change(chain, withdrawn=before[:-1])
    assert result.fillers == (7, 15)


def test_a_record_after_everything_was_withdrawn_is_found():
    chain = change(Chain(), published=30).after
    chain = change(chain, withdrawn=chain.live).after
    assert chain.live == frozenset()
    result = change(chain, published=1)
    assert result.positions[0] >= 30
    assert result.positions[0] in found_by_walk(result.after.live | result.after.fillers)


def test_without_fillers_the_same_record_would_be_missed():
    assert 33 not in found_by_walk({33})


def test_a_walk_ends_after_eight_misses():
    asked = []
    assert walk(1, lambda places: asked.extend(places) or {}, 10) == [[]]
    assert asked == [(0, position) for position in range(CHAIN_MISSES)]


def step_by_step(present):
    """Walk one chain as the rule says it."""
    position = misses = 0
    while misses < CHAIN_MISSES:
        misses = 0 if position in present else misses + 1
        if not misses:
            yield position
        position += 1


@given(st.lists(st.sets(st.integers(0, 60)), max_size=5), st.integers(1, 12))
def test_several_chains_are_walked_together_as_each_would_be_alone(chains, most):
    asked = []

    def look_up(places):
        asked.extend(places)
        return {(n, at): f"{n} {at}" for n, at in places if at in chains[n]}

    walked = walk(len(chains), look_up, most)
    alone = [list(step_by_step(present))[:most] for present in chains]
    assert walked == [[(at, f"{n} {at}") for at in each] for n, each in enumerate(alone)]
    assert len(asked) == len(set(asked)), "a place was looked at twice"


def test_only_live_records_can_be_withdrawn():
    with pytest.raises(LocalProtocolError):
        change(Chain(), withdrawn=[0])
