"""When a facility may sign its own journal."""

from __future__ import annotations

import pytest

from protocol.limits import FIRST_ANSWER_S, RECOVERY_S, STOPPED_S, WANT_S
from protocol.messages import OriginHead
from protocol.recovery import Pause, Pen

NOW = 1_800_000_000
ME, BOB, CAROL, DAVE = (bytes([n]) * 32 for n in (1, 2, 3, 4))
EVERYONE = {BOB, CAROL, DAVE}


def claim(batch, mark=b"\1"):
    return OriginHead(ME, 0, batch, mark * 32, batch)


def holding(*claims):
    return lambda wanted: wanted in claims


# -- after a start --------------------------------------------------------------------------------


def test_without_partners_a_start_waits_for_nobody():
    assert Pen(NOW).pause(NOW) is None


def test_after_a_start_nothing_is_signed_until_one_partner_has_answered():
    pen = Pen(NOW).among(EVERYONE)
    assert pen.pause(NOW) is Pause.STARTING
    assert pen.heard(BOB, claim(3), NOW, held=True).pause(NOW) is None
    assert pen.heard(BOB, None, NOW, held=True).pause(NOW) is None, "to hold nothing is an answer"


def test_a_node_that_nobody_answers_signs_after_a_minute():
    pen = Pen(NOW).among(EVERYONE)
    assert pen.pause(NOW + FIRST_ANSWER_S - 1) is Pause.STARTING
    assert pen.pause(NOW + FIRST_ANSWER_S) is None


def test_the_answer_of_a_removed_partner_does_not_count():
    pen = Pen(NOW).among(EVERYONE).heard(BOB, claim(3), NOW, held=True).among({CAROL})
    assert pen.pause(NOW) is Pause.STARTING


def test_a_clock_that_was_set_back_does_not_silence_a_node_for_hours():
    assert Pen(NOW).among(EVERYONE).pause(NOW - 7200) is None


# -- a claim to hold more than we do --------------------------------------------------------------


def test_a_claim_that_is_not_held_stops_the_pen_at_once():
    pen = Pen(NOW).among(EVERYONE).heard(CAROL, claim(3), NOW, held=True)
    assert pen.heard(BOB, claim(9), NOW, held=False).pause(NOW) is Pause.CLAIMED


def test_who_never_shows_what_it_claims_stops_nobody_twice():
    pen = Pen(NOW).among(EVERYONE).heard(BOB, claim(9), NOW, held=False)
    assert pen.pause(NOW + WANT_S - 1) is Pause.CLAIMED
    again = pen.heard(BOB, claim(10), NOW + WANT_S, held=False)
    assert again.pause(NOW + WANT_S) is None


def test_who_takes_a_claim_back_and_makes_it_again_stops_us_a_minute_an_hour():
    pen, stopped = Pen(NOW).among(EVERYONE).heard(CAROL, claim(3), NOW, held=True), 0
    for now in range(NOW, NOW + 2 * STOPPED_S):
        lies = now // 5 % 2 == 0
        pen = pen.heard(BOB, claim(9 if lies else 3), now, held=not lies)
        stopped += pen.pause(now) is not None
    assert 0 < stopped <= 2 * WANT_S


def test_a_claim_that_is_taken_back_stops_nobody():
    pen = Pen(NOW).among(EVERYONE).heard(BOB, claim(9), NOW, held=False)
    assert pen.heard(BOB, claim(3), NOW, held=True).pause(NOW) is None


# -- set back -------------------------------------------------------------------------------------


def test_without_partners_a_journal_that_was_set_back_goes_on_at_once():
    assert Pen(NOW).set_back(NOW).may_continue(holding())


@pytest.mark.parametrize("partners", [{BOB}, {BOB, CAROL}, EVERYONE])
def test_a_journal_that_was_set_back_waits_for_every_partner(partners):
    pen = Pen(NOW).among(partners).set_back(NOW)
    for partner in sorted(partners):
        assert pen.pause(NOW + 10 * RECOVERY_S) is Pause.BEHIND
        assert not pen.may_continue(holding(claim(5)))
        pen = pen.heard(partner, claim(5), NOW, held=True)
    assert pen.may_continue(holding(claim(5)))
    assert pen.recovered(NOW).pause(NOW) is None


def test_a_journal_goes_on_after_the_highest_header_that_any_partner_holds():
    pen = Pen(NOW).among({BOB, CAROL}).set_back(NOW)
    pen = pen.heard(BOB, claim(5), NOW, held=True).heard(CAROL, claim(7), NOW, held=False)
    assert not pen.may_continue(holding(claim(5)))
    assert pen.may_continue(holding(claim(5), claim(7)))


def test_a_partner_that_holds_nothing_has_answered():
    pen = Pen(NOW).among({BOB}).set_back(NOW).heard(BOB, None, NOW, held=True)
    assert pen.may_continue(holding())


def test_a_partner_that_was_removed_is_not_waited_for():
    pen = Pen(NOW).among({BOB, CAROL}).set_back(NOW).heard(BOB, claim(5), NOW, held=True)
    assert pen.unheard() == {CAROL}
    assert pen.among({BOB}).may_continue(holding(claim(5)))


def test_a_fork_of_our_own_is_never_continued_in_its_epoch():
    pen = Pen(NOW).among({BOB}).set_back(NOW).heard(BOB, claim(5), NOW, held=True).found_fork()
    assert pen.pause(NOW) is Pause.FORKED
    assert not pen.may_continue(holding(claim(5)))


def test_a_new_epoch_is_due_ten_minutes_after_the_journal_was_found_to_be_set_back():
    assert Pen(NOW).epoch_due_at() is None
    pen = Pen(NOW).set_back(NOW + 5)
    assert pen.epoch_due_at() == pen.set_back(NOW + 60).epoch_due_at() == NOW + 5 + RECOVERY_S
