"""Attack: a facility gets the journal of an origin whose partner it is not from one that is.

Carol is alice's partner and eve's. Eve knows who alice is, and says that she lists her too.
"""

from __future__ import annotations

import pytest

from protocol.events import Load, Received, Refuse
from protocol.limits import MEMBERSHIP_S
from protocol.messages import WantRelayed
from tests.relaying import NOW, listed, member_of, side
from tests.simulation.memory import Facility, publish


@pytest.fixture
def people():
    alice, carol, eve = (Facility(name) for name in ("alice", "carol", "eve"))
    alice.append(publish(1))
    carol.follow(alice, alice.batches())
    return alice, carol, eve


def ask(people, shown, *, lists=True, now=NOW):
    """Return (codes of refusals, what is read for eve) when she shows this membership to carol."""
    alice, carol, eve = people
    theirs = listed(carol, alice, membership=member_of(alice, carol, now))
    exchange = side(carol, eve, alice, theirs, introduced=lists)
    effects = exchange.handle(Received(WantRelayed(alice.peer_id, 0, 0, shown)), now)
    refused = [each.error.code for each in effects if isinstance(each, Refuse)]
    return refused, [each for each in effects if isinstance(each, Load)]


def test_a_partner_of_the_origin_is_given_its_journal(people):
    """The others would prove nothing without this one."""
    alice, _, eve = people
    assert ask(people, member_of(alice, eve, NOW)) == ([], [Load(alice.peer_id, 0)])


def test_a_membership_that_the_asker_signed_is_refused(people):
    alice, _, eve = people
    assert ask(people, member_of(alice, eve, NOW, signer=eve)) == (["bad-signature"], [])


def test_a_membership_that_the_relay_signed_is_refused(people):
    alice, carol, eve = people
    assert ask(people, member_of(alice, eve, NOW, signer=carol)) == (["bad-signature"], [])


def test_the_membership_of_another_is_refused(people):
    alice, carol, _ = people
    assert ask(people, member_of(alice, carol, NOW)) == (["wrong-addressee"], [])


def test_a_membership_in_another_journal_is_refused(people):
    _, carol, eve = people
    assert ask(people, member_of(carol, eve, NOW)) == (["bad-signature"], [])


def test_what_was_signed_as_something_else_is_no_membership(people):
    alice, _, eve = people
    assert ask(people, member_of(alice, eve, NOW, domain="have")) == (["bad-signature"], [])


def test_a_facility_that_was_removed_is_given_nothing_after_three_days(people):
    """Alice does not renew what she signed for a partner that she has removed."""
    alice, _, eve = people
    last = member_of(alice, eve, NOW)
    assert ask(people, last, now=NOW + MEMBERSHIP_S - 1)[0] == []
    assert ask(people, last, now=NOW + MEMBERSHIP_S) == (["expired"], [])


def test_a_membership_for_longer_than_that_is_refused(people):
    alice, _, eve = people
    assert ask(people, member_of(alice, eve, NOW, lasts_s=MEMBERSHIP_S + 1)) == (["malformed"], [])


def test_a_membership_of_the_future_is_refused(people):
    alice, _, eve = people
    assert ask(people, member_of(alice, eve, NOW + 3600)) == (["expired"], [])


def test_a_journal_that_the_asker_does_not_list_is_not_spoken_of(people):
    alice, _, eve = people
    assert ask(people, member_of(alice, eve, NOW), lists=False) == ([], [])
