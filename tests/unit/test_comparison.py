"""What was lost between two who compare third journals is said again, and otherwise nothing is."""

from __future__ import annotations

import pytest

from protocol.comparison import Comparison, listed_as
from protocol.events import Freeze, HeldJournal
from protocol.forks import ForkProof
from protocol.frontier import have_body
from protocol.limits import EXCHANGE_S
from protocol.messages import Fork, Origins
from protocol.renewal import by_origin
from tests.histories import History
from tests.simulation.memory import Facility, publish

NOW = 1_800_000_000


class Side:
    """One end of a link on which messages are lost at will.  `known`: what is held of others."""

    def __init__(self, me, partner, known):
        self.me, self.partner, self.known = me.peer_id, partner.peer_id, known
        self.comparison = Comparison(self.me, self.partner, lambda: self.known)
        self.now = NOW

    def due(self):
        """Let a round pass, and say what is due then."""
        self.now += EXCHANGE_S
        return said(self.comparison.introduce(self.now))

    def hears(self, *messages):
        """Take messages in; perform what follows, and return what is said."""
        answers = []
        for message in messages:
            if isinstance(message, Origins):
                effects = self.comparison.introduced(message, self.now)
            else:
                effects = self.comparison.received(message, self.now)
            answers += said(effects)
            for effect in effects:
                if isinstance(effect, Freeze):
                    answers += self.learns(effect.origin, effect.proof)
        return answers

    def learns(self, origin, proof):
        """Put a proof on record."""
        held = self.known[origin]
        self.known[origin] = HeldJournal(held.head, held.keys, forked=True)
        return said(self.comparison.known(origin, proof, self.now))


def said(effects):
    return [each.message for each in effects if hasattr(each, "message")]


@pytest.fixture
def mallory():
    facility = Facility("mallory")
    common = History(facility)
    common.append(publish(1), now=NOW)
    return facility, [continued(common, number) for number in (2, 3)]


def continued(common, number):
    history = common.copy()
    history.append(publish(number), now=NOW)
    return history


@pytest.fixture
def proof(mallory):
    return ForkProof(*[history.batches[1].signed_header for history in mallory[1]])


@pytest.fixture
def sides(mallory):
    alice, bob = Facility("alice"), Facility("bob")
    facility, histories = mallory
    known = [
        {facility.peer_id: HeldJournal(history.head, facility.node_keys)} for history in histories
    ]
    return Side(alice, bob, known[0]), Side(bob, alice, known[1])


def test_names_are_said_again_until_both_sides_have_heard_them(sides):
    alice, bob = sides
    lost, heard = alice.due(), bob.due()
    assert [type(each) for each in (*lost, *heard)] == [Origins, Origins]
    assert alice.hears(*heard) == []
    assert alice.due() == [], "she has heard him"
    again = bob.due()
    assert again == heard, "he has not heard her"
    assert alice.hears(*again) == lost, "who says it again has not heard us"
    assert bob.hears(*lost) == []
    assert (alice.due(), bob.due()) == ([], [])


def test_a_side_that_lists_nobody_says_so(sides):
    alice, _ = sides
    alice.known.clear()
    assert alice.due() == [Origins(())]


def test_whoever_speaks_of_a_facility_lists_it(sides, mallory):
    alice, bob = sides
    origin = mallory[0].peer_id
    heads = {origin: bob.known[origin].head}
    assert alice.comparison.common() == {}
    alice.comparison.heard(by_origin(have_body(bob.me, alice.me, heads, NOW)))
    assert alice.comparison.common() == alice.known


def test_a_proof_is_said_again_until_the_partner_has_it_too(sides, mallory, proof):
    alice, bob = sides
    origin = mallory[0].peer_id
    bob.hears(*alice.due())
    alice.hears(*bob.due())
    fork = Fork(origin, proof.first, proof.second)
    assert alice.learns(origin, proof) == [fork], "and it is lost"
    assert alice.due() == [fork]
    answer = bob.hears(fork)
    assert answer == [fork], "he says what is on record now; and that is lost"
    bob.due()
    repeated = alice.due()
    assert repeated == [fork]
    assert bob.hears(*repeated) == [fork]
    assert alice.hears(fork) == []
    assert (alice.due(), bob.due()) == ([], [])


def test_who_could_not_keep_a_proof_is_told_again(sides, mallory, proof):
    alice, bob = sides
    origin = mallory[0].peer_id
    bob.hears(*alice.due())
    alice.hears(*bob.due())
    told = alice.learns(origin, proof)
    bob.comparison.received(*told, bob.now)  # His disk is full: nothing comes of it.
    assert bob.due() == []
    assert alice.due() == told


def test_an_earlier_proof_takes_the_place_of_a_later_one(sides, mallory, proof):
    alice, bob = sides
    facility, histories = mallory
    later = [history.append(publish(9), now=NOW) for history in histories]
    late = ForkProof(*[batch.signed_header for batch in later])
    bob.hears(*alice.due())
    alice.hears(*bob.due())
    assert bob.hears(*alice.learns(facility.peer_id, late)) != []
    early = Fork(facility.peer_id, proof.first, proof.second)
    assert bob.learns(facility.peer_id, proof) == [early]
    assert alice.hears(early) == [early]
    assert bob.hears(early) == []
    assert (alice.due(), bob.due()) == ([], [])


def test_names_are_made_for_the_two_ends(sides, mallory):
    alice, bob = sides
    (names,) = alice.due()
    assert names == Origins((listed_as(alice.me, bob.me, mallory[0].peer_id),))
