"""Whom an origin answers, as a rule without a world around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.consent import PurposeOfUse
from protocol.journal import Head
from protocol.limits import CLOCK_SKEW_S, EXCHANGED_S, LEASE_S, WANT_S
from protocol.messages import OriginHead
from protocol.reciprocity import (
    HeardRefusal,
    Progress,
    breaks_glass,
    is_mended_by_exchange,
    is_policy,
    objection,
)

NOW = 1_800_000_000
DAY = 24 * 3600


def head(batch=0, issued_at=NOW):
    return Head(
        0, batch, batch, 1, bytes([batch]) * 32, batch, bytes(32), issued_at, issued_at + LEASE_S
    )


def claim(batch=0):
    return OriginHead(bytes(32), 0, batch, bytes([batch]) * 32, batch)


def code(*arguments, **more):
    refusal = objection(*arguments, **more)
    return None if refusal is None else refusal.code


def heard(batch, held, now=NOW, before=Progress(), whole=True):  # noqa: B008 - it is frozen
    return before.heard(claim(batch), held, now, whole=whole)


def test_an_empty_journal_is_complete():
    """0/0: neither side has published anything, and both are answered."""
    assert code(heard(0, head()), head(), NOW) is None


def test_whoever_was_never_heard_of_is_asked_to_exchange_first():
    refusal = objection(Progress(), None, NOW)
    assert refusal.code == "exchange-stale"
    assert "Exchange" in refusal.remedy


def test_an_exchange_is_good_for_a_quarter_of_an_hour():
    known = heard(3, head(3))
    assert code(known, head(3), NOW + EXCHANGED_S) is None
    assert code(known, head(3), NOW + EXCHANGED_S + 1) == "exchange-stale"


def test_a_head_that_is_announced_and_never_given_counts_for_nothing():
    known = Progress()
    for minute in range(60):
        known = heard(9, None, NOW + 60 * minute, known)
        assert code(known, None, NOW + 60 * minute) == "exchange-incomplete"


def test_whoever_sends_the_rest_just_now_is_answered_meanwhile():
    known = heard(9, None).stored(head(4), NOW + 30, whole=True, advanced=True)
    assert code(known, head(4), NOW + 30 + WANT_S) is None
    assert code(known, head(4), NOW + 31 + WANT_S) == "exchange-incomplete"


def test_whoever_drips_is_not_answered_for_ever():
    known, refused_at = heard(9, None), None
    for at in range(NOW + 10, NOW + 2 * EXCHANGED_S, 10):
        known = known.stored(head(4), at, whole=True, advanced=True)
        if code(known, head(4), at) and refused_at is None:
            refused_at = at
    assert refused_at == NOW + EXCHANGED_S + 10


def test_what_was_announced_is_complete_as_soon_as_it_is_held():
    known = heard(9, None).stored(head(9), NOW + 5, whole=True, advanced=True)
    assert known.completed_at == NOW + 5
    assert known.outstanding_since is None


def test_a_journal_with_holes_is_not_given():
    known = heard(9, head(9), whole=False)
    assert code(known, head(9), NOW) == "exchange-incomplete"
    assert known.stored(head(9), NOW + 5, whole=True, advanced=False).completed_at == NOW + 5


def test_batches_that_are_held_already_complete_nothing():
    known = heard(9, head(9))
    again = known.stored(head(9), NOW + EXCHANGED_S, whole=True, advanced=False)
    assert code(again, head(9), NOW + EXCHANGED_S + 1) == "exchange-stale"


def test_a_new_head_does_not_undo_the_exchange_before():
    known = heard(10, head(9), NOW + 60, heard(9, head(9)))
    assert code(known, head(9), NOW + 60) is None
    assert code(known, head(9), NOW + EXCHANGED_S + 1) == "exchange-incomplete"


def test_what_a_new_epoch_makes_void_completes_nothing():
    """The journal ends earlier now: no exchange stands that was completed with the rest."""
    known = heard(9, head(9)).rewound(head(4), NOW + 60, whole=True)
    assert code(known, head(4), NOW + 60) == "exchange-incomplete"
    again = known.stored(head(9), NOW + 90, whole=True, advanced=True)
    assert again.completed_at == NOW + 90


def test_an_epoch_that_leaves_what_was_announced_undoes_no_exchange():
    known = heard(4, head(9))
    assert known.rewound(head(5), NOW + 60, whole=True) == known
    assert known.rewound(head(5), NOW + 60, whole=False).completed_at is None


def test_an_old_head_is_not_a_fresh_one():
    """Its author names it every minute and never signs another."""
    old = head(3, NOW - LEASE_S)
    assert code(heard(3, old), old, NOW) == "lease-over"
    ahead = head(3, NOW + CLOCK_SKEW_S + 1)
    assert code(heard(3, ahead), ahead, NOW) == "lease-over"


def test_our_own_full_disk_is_no_reason_to_refuse():
    known = heard(9, None, NOW).failed(NOW)
    assert code(known, None, NOW + 60) is None
    # Nor does it open the gate to someone who never comes back with anything.
    assert code(known, None, NOW + EXCHANGED_S + 1) == "exchange-incomplete"


def test_a_fork_is_named():
    assert code(heard(3, head(3)), head(3), NOW, forked=True) == "journal-forked"


TRANSIENT = [
    "busy",
    "exchange-incomplete",
    "exchange-stale",
    "failed",
    "journal-forked",
    "journal-halted",
    "lease-over",
    "not-answered",
    "not-ready",
    "not-settled",
    "purpose",
    "quota",
    "role",
    "a-code-of-a-later-version",
]


@pytest.mark.parametrize("refused", TRANSIENT)
def test_what_passes_by_itself_is_never_answered_in_kind(refused):
    known = heard(3, head(3))
    assert code(known, head(3), NOW, refused=HeardRefusal(refused, NOW)) is None


def test_whoever_refuses_to_deal_with_us_is_answered_in_kind_until_the_next_exchange():
    refused = HeardRefusal("not-a-partner", NOW)
    known = heard(3, head(3))
    assert code(known, head(3), NOW, refused=refused) == "not-answered"
    later = heard(3, head(3), NOW + 1, known)
    assert code(later, head(3), NOW + 1, refused=refused) is None


def test_no_answer_in_kind_is_answered_in_kind():
    assert not is_policy("not-answered")
    assert not any(is_policy(each) for each in TRANSIENT)


def test_what_an_exchange_mends_is_what_the_gate_says_for_want_of_one():
    assert is_mended_by_exchange("exchange-stale")
    assert is_mended_by_exchange("exchange-incomplete")
    assert is_mended_by_exchange("lease-over")
    assert not is_mended_by_exchange("journal-forked")
    assert not is_mended_by_exchange("not-answered")


def test_only_breaking_the_glass_passes_the_gate():
    assert [purpose for purpose in PurposeOfUse if breaks_glass(purpose)] == ["BTG"]


# -- first contact and late return ----------------------------------------------------------------


class Side:
    """One facility: its own batches, and what it holds of the other's."""

    def __init__(self, studies, now):
        self.own = head(studies, now)
        self.held = None
        self.progress = Progress()

    def hear(self, other, now):
        """A HAVE of the other's, and what it leads to: the rest comes at once."""
        announced = OriginHead(
            bytes(32), 0, other.own.batch, other.own.header_hash, other.own.last_seq
        )
        self.progress = self.progress.heard(announced, self.held, now, whole=True)
        if self.held != other.own:
            self.held = other.own
            self.progress = self.progress.stored(self.held, now, whole=True, advanced=True)

    def answers(self, now):
        return objection(self.progress, self.held, now) is None


@pytest.mark.parametrize(("here", "there"), [(0, 0), (0, 7), (7, 7), (7, 3)])
def test_one_exchange_is_enough_whatever_each_side_has(here, there):
    alice, bob = Side(here, NOW), Side(there, NOW)
    assert not alice.answers(NOW)
    assert not bob.answers(NOW)
    alice.hear(bob, NOW)
    bob.hear(alice, NOW)
    assert alice.answers(NOW)
    assert bob.answers(NOW)


def test_one_exchange_is_enough_after_a_month_on_both_sides():
    alice, bob = Side(5, NOW), Side(6, NOW)
    alice.hear(bob, NOW)
    bob.hear(alice, NOW)
    now = NOW + 31 * DAY
    assert not alice.answers(now)
    assert not bob.answers(now)
    alice.own, bob.own = head(8, now), head(9, now)
    alice.hear(bob, now)
    bob.hear(alice, now)
    assert alice.answers(now)
    assert bob.answers(now)


steps = st.one_of(
    st.tuples(st.just("heard"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("stored"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("failed"), st.just(0), st.just(True)),
    st.tuples(st.just("wait"), st.integers(0, 2000), st.just(True)),
)


@given(st.lists(steps, max_size=30))
def test_whatever_came_before_one_completed_exchange_opens_the_gate(history):
    """No standing deadlock: there is no past that a completed exchange does not end."""
    now, held, known = NOW, None, Progress()
    for what, number, flag in history:
        if what == "wait":
            now += number
        elif what == "failed":
            known = known.failed(now)
        elif what == "heard":
            known = known.heard(claim(number), held, now, whole=flag)
        elif held is None or number > held.batch:
            held = head(number, now)
            known = known.stored(held, now, whole=flag, advanced=True)
    held = head(9, now)
    known = known.heard(claim(9), None, now, whole=True)
    known = known.stored(held, now, whole=True, advanced=True)
    refused = HeardRefusal("exchange-stale", now)
    assert objection(known, held, now, refused=refused) is None


@given(st.lists(steps, max_size=30))
def test_nobody_passes_who_gave_nothing_within_a_quarter_of_an_hour(history):
    now, known, gave_at = NOW, Progress(), None
    held = None
    for what, number, flag in history:
        if what == "wait":
            now += number
        elif what == "heard":
            known = known.heard(claim(number), held, now, whole=flag)
            if held is not None and number <= held.batch and flag:
                gave_at = now
        elif what == "stored" and (held is None or number > held.batch):
            held = head(number, now)
            known = known.stored(held, now, whole=flag, advanced=True)
            gave_at = now
        if objection(known, held, now) is None:
            assert gave_at is not None
            assert now - gave_at <= EXCHANGED_S
