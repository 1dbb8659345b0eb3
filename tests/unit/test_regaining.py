"""What a partner shows of our own journal, and what we ask it for."""

from __future__ import annotations

import pytest

from protocol.errors import Replayed
from protocol.events import (
    Appended,
    Begun,
    Connected,
    FindHeader,
    HeaderFound,
    HeldJournal,
    Received,
    Regain,
    Send,
    Stored,
)
from protocol.exchange import Exchange
from protocol.forks import ForkFound, ForkProof
from protocol.frontier import claimed, have_body, origin_head
from protocol.messages import HAVE_DOMAIN, Have, HaveBody, Want
from protocol.records import from_bytes
from protocol.regaining import Regaining
from protocol.signing import sign
from protocol.statements import sign_statement
from tests.simulation.memory import Facility, publish

NOW = 1_800_000_000


@pytest.fixture
def alice():
    alice = Facility("alice")
    for number in range(4):
        alice.append(publish(number))
    return alice


@pytest.fixture
def copy():
    """A copy of alice's node that has written on by itself from batch 1."""
    copy = Facility("alice")
    for number in (0, 7, 8, 9):
        copy.append(publish(number))
    return copy


def regaining(facility):
    return Regaining(facility.peer_id, HeldJournal(facility.head(), facility.node_keys))


def claim_of(facility, batch):
    return origin_head(facility.peer_id, facility.held(facility).head_at(batch))


def wants(effects):
    return [e.message.from_batch for e in effects if isinstance(e, Send)]


def stored(facility, through, *, more=False, error=None):
    return Stored(facility.peer_id, facility.head(), through, more, error=error)


def looked_up(facility, effect):
    held = facility.held(facility).header(effect.batch)
    return HeaderFound(effect.origin, effect.batch, held, effect.because)


def test_a_partner_that_is_behind_is_asked_nothing(alice):
    side = regaining(alice)
    assert side.heard(None) == side.heard(claim_of(alice, 3)) == []
    (look,) = side.heard(claim_of(alice, 1))
    assert isinstance(look, FindHeader)
    assert side.found(looked_up(alice, look), look.because) == []


def test_another_history_below_our_head_is_asked_for_and_seen_from_where_it_parts(alice, copy):
    """Its holder is frozen there and will never claim more than we have."""
    side = regaining(alice)
    (look,) = side.heard(claim_of(copy, 2))
    assert wants(side.found(looked_up(alice, look), look.because)) == [2]
    (regain,) = side.given(copy.batches(2)[:1], None, more=False)
    assert regain == Regain(copy.batches(2)[:1], more=False)
    proof = ForkProof(alice.batches(2)[0].signed_header, copy.batches(2)[0].signed_header)
    assert wants(side.stored(stored(alice, -1, error=ForkFound(proof)))) == [0]
    assert side.given(copy.batches(), None, more=False), "all of it, though we hold the beginning"
    assert side.stored(stored(alice, -1, error=ForkFound(proof))) == []
    assert side.heard(claim_of(copy, 2)) == [], "there is no more to learn from it"


def test_a_history_is_read_on_through_what_is_held(alice, copy):
    side = regaining(alice)
    side.found(HeaderFound(alice.peer_id, 2, None, None), claim_of(copy, 2))
    replayed = Replayed("a batch that is held already")
    assert wants(side.stored(stored(alice, 0, more=True, error=replayed))) == [1]


def test_what_came_early_is_named_to_its_origin_and_acknowledges_nothing(alice):
    early = claim_of(alice, 3)
    held = {alice.peer_id: alice.held(alice).head_at(1)}
    body = have_body(bytes(32), alice.peer_id, held, NOW, early=early)
    assert claimed(body, alice.peer_id) == early
    behind = have_body(bytes(32), alice.peer_id, {alice.peer_id: alice.head()}, NOW, early=early)
    assert claimed(behind, alice.peer_id).last_seq == alice.head().last_seq


def test_who_holds_a_header_and_not_the_batch_before_it_is_not_in_step(alice):
    bob = Facility("bob")
    bob.follow(alice, alice.batches()[:2])
    run = bob.follow(alice, alice.batches(3))
    assert (run.error.code, run.early.batch, run.early.last_seq) == ("gap", 3, 0)
    exchange = Exchange(
        bob.peer_id,
        alice.peer_id,
        HeldJournal(None, bob.node_keys),
        HeldJournal(run.head, alice.node_keys, early=run.early),
        lambda _: bytes(64),
    )
    said = [e.message for e in exchange.handle(Connected(), NOW) if isinstance(e, Send)]
    (have,) = [message for message in said if isinstance(message, Have)]
    body = from_bytes(HaveBody, have.statement.payload, 10_000)
    assert claimed(body, alice.peer_id).batch == 3
    origin = Exchange(
        alice.peer_id,
        bob.peer_id,
        HeldJournal(alice.head(), alice.node_keys),
        HeldJournal(None, bob.node_keys),
        lambda data: sign(alice.node_seed, HAVE_DOMAIN, data),
    )
    origin.handle(Connected(), NOW)
    origin.handle(Received(Have(sign_statement(bob.node_seed, HAVE_DOMAIN, body))), NOW)
    newer = alice.append(publish(5))
    (spoken,) = origin.handle(Appended(newer), NOW)
    assert isinstance(spoken.message, Have), "it is told of the batch, not sent it"


def test_a_batch_that_is_found_on_looking_again_is_told_of(alice):
    """It was appended while the journal came back, and is no news when that is reported."""
    exchange = Exchange(
        alice.peer_id,
        bytes(32),
        HeldJournal(alice.held(alice).head_at(1), alice.node_keys),
        HeldJournal(None, alice.node_keys),
        lambda data: sign(alice.node_seed, HAVE_DOMAIN, data),
    )
    exchange.handle(Connected(), NOW)
    (told,) = exchange.handle(Begun(alice.peer_id, alice.head()), NOW)
    body = from_bytes(HaveBody, told.message.statement.payload, 10_000)
    assert claimed(body, alice.peer_id).batch == alice.head().batch
    assert exchange.handle(Appended(alice.head()), NOW) == []
    assert exchange.handle(Begun(alice.peer_id, alice.head()), NOW) == [], "once"


def test_a_database_that_has_lost_all_asks_from_the_beginning():
    alice = Facility("alice")
    other = Facility("alice")
    other.append(publish(1))
    side = regaining(alice)
    (asked,) = side.heard(claim_of(other, 0))
    assert asked == Send(Want(alice.peer_id, 0, 0))
