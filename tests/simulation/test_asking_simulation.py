"""Nobody is answered who gives nothing, and nobody waits for ever; faults, and many seeds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

import protocol.reciprocity
from tests.simulation.asking import AskingWorld, away_for_a_month, first_contact, live
from tests.simulation.faults import CALM, Faults
from tests.simulation.proofs import Violation

SEEDS = range(40)
AT_A_TIME = 10
MUTANT_SEEDS = range(20)

NOISY = replace(CALM, loss=0.15, repeat=0.1, late=0.3, tampered=0.15)
"""What a network does; for two that are only just meeting."""


@pytest.mark.parametrize("first", SEEDS[::AT_A_TIME])
def test_whoever_gives_is_answered_and_nobody_else(first):
    for seed in range(first, first + AT_A_TIME):
        AskingWorld(seed).run()


@pytest.mark.deep
@pytest.mark.parametrize("first", range(1000, 2000, 50))
def test_whoever_gives_is_answered_and_nobody_else_under_many_seeds(first):
    for seed in range(first, first + 50):
        AskingWorld(seed).run()


def test_the_gate_is_felt():
    """A simulation in which nobody is ever refused, or answered, would pass as well."""
    codes = Counter()
    for seed in range(20):
        world = AskingWorld(seed, faults=Faults())
        world.run()
        codes += world.codes
    assert codes["exchange-stale"] > 10
    assert codes["exchange-incomplete"] > 10
    assert codes[""] > 100


@pytest.mark.parametrize("faults", [CALM, NOISY], ids=["calm", "noisy"])
@pytest.mark.parametrize(("here", "there"), [(0, 0), (0, 40), (40, 25)])
def test_two_that_meet_answer_each_other(here, there, faults):
    for seed in range(5):
        world = first_contact(seed, here, there, faults=faults)
        live(world)
        assert world.answers["alice", "bob"]
        assert world.answers["bob", "alice"]


@pytest.mark.parametrize(("here", "there"), [(0, 0), (0, 40), (40, 25)])
def test_on_a_good_day_the_first_question_is_answered_within_seconds(here, there):
    world = first_contact(1, here, there, faults=CALM)
    world.pass_time(5)
    assert world.answers["alice", "bob"]
    assert world.answers["bob", "alice"]


@pytest.mark.parametrize("faults", [CALM, NOISY], ids=["calm", "noisy"])
def test_two_that_were_both_away_for_a_month_answer_each_other(faults):
    for seed in range(5):
        world = first_contact(seed, 5, 3, faults=faults)
        live(world)
        away_for_a_month(world)
        world.answers.clear()
        live(world)
        assert world.answers["alice", "bob"]
        assert world.answers["bob", "alice"]


def test_what_happened_before_a_clock_was_set_back_happened_lately_for_longer():
    """The judge grants the gate what the clock of its node does, and no more."""
    world = AskingWorld(1, nodes=2, faults=CALM)
    node = world.nodes["alice"]
    begun = world.now
    world.pass_time(1000)
    assert node.since(900) == begun + 100
    node.step_clock(-300)
    assert node.since(900) == begun
    world.pass_time(200)
    assert node.since(60) == begun + 840
    world.pass_time(1200)
    assert node.since(900) == begun + 1500


def test_what_a_restore_took_is_due_a_quarter_of_an_hour_after_it_is_back():
    node = AskingWorld(1, nodes=2, faults=CALM).nodes["alice"]
    node.heads = [(100, 3), (200, 5), (300, 2), (400, 5)]
    due = {since: node.had_at_least(since) for since in (99, 100, 250, 350, 400)}
    assert due == {99: -1, 100: 2, 250: 2, 350: 2, 400: 5}


# -- mutants --------------------------------------------------------------------------------------


def violations(**options):
    """Return what the first seed that notices anything says."""
    for seed in MUTANT_SEEDS:
        try:
            AskingWorld(seed, **options).run()
        except Violation as violation:
            return violation.headline
    return ""


def test_transient_refusals_that_are_answered_in_kind_are_caught(monkeypatch):
    monkeypatch.setattr(protocol.reciprocity, "is_policy", lambda _: True)
    assert "in kind" in violations()


def test_a_refusal_that_outlives_the_next_exchange_is_a_deadlock_that_is_caught(monkeypatch):
    monkeypatch.setattr(protocol.reciprocity, "is_policy", lambda _: True)
    monkeypatch.setattr(protocol.reciprocity, "_outlasts", lambda *_: True)
    assert "still refuses" in violations(forgiving=True)


def test_an_origin_that_answers_everybody_is_caught(monkeypatch):
    monkeypatch.setattr(protocol.reciprocity, "objection", lambda *_, **__: None)
    assert "of whom it holds" in violations()


def test_a_clock_that_was_set_back_does_not_hold_the_gate_open():
    """An exchange that lies in the future by this clock is none of the last quarter of an hour."""
    back = 10_000 - protocol.reciprocity.CLOCK_WARNING_S
    known = protocol.reciprocity.Progress(completed_at=10_000)
    assert known.completed_lately(back)
    assert not known.completed_lately(back - 1)
    coming = protocol.reciprocity.Progress(outstanding_since=10_000, advanced_at=10_000)
    assert coming.is_completing(back)
    assert not coming.is_completing(back - 1)
