"""Attack: a signed statement is altered, passed on to someone else, dated ahead or sent again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.events import HeldJournal, Received, Refuse, Witnessed
from protocol.exchange import Exchange
from protocol.frontier import have_body
from protocol.limits import CLOCK_SKEW_S
from protocol.messages import HAVE_DOMAIN, Have
from protocol.statements import Statement, sign_statement
from tests.simulation.memory import Facility

NOW = 1_800_000_000


@pytest.fixture
def people():
    return Facility("alice"), Facility("bob"), Facility("eve")


def listen(me, partner):
    return Exchange(
        me.peer_id,
        partner.peer_id,
        HeldJournal(None, me.node_keys),
        HeldJournal(None, partner.node_keys),
        lambda _: bytes(64),
    )


def say(author, addressee, *, signer=None, now=NOW, domain=HAVE_DOMAIN):
    body = have_body(author.peer_id, addressee.peer_id, {}, now)
    return Have(sign_statement((signer or author).node_seed, domain, body))


def codes(exchange, message, now=NOW):
    effects = exchange.handle(Received(message), now)
    return [effect.error.code for effect in effects if isinstance(effect, Refuse)]


def test_what_was_said_to_me_is_heard(people):
    alice, bob, _ = people
    assert codes(listen(alice, bob), say(bob, alice)) == []


def test_what_was_said_to_another_is_refused(people):
    alice, bob, eve = people
    assert codes(listen(alice, bob), say(bob, eve)) == ["wrong-addressee"]


def test_my_own_words_sent_back_are_refused(people):
    alice, bob, _ = people
    assert codes(listen(alice, bob), say(alice, bob)) == ["bad-signature"]


def test_a_partner_cannot_speak_for_another(people):
    alice, bob, eve = people
    assert codes(listen(alice, eve), say(bob, alice)) == ["bad-signature"]
    assert codes(listen(alice, eve), say(bob, alice, signer=eve)) == ["wrong-addressee"]


def test_an_unsigned_statement_is_refused(people):
    alice, bob, _ = people
    said = say(bob, alice)
    assert codes(listen(alice, bob), Have(replace(said.statement, signature=bytes(64)))) == [
        "bad-signature"
    ]


def test_an_altered_statement_is_refused(people):
    alice, bob, _ = people
    statement = say(bob, alice).statement
    for position in range(len(statement.payload)):
        altered = bytearray(statement.payload)
        altered[position] ^= 1
        forged = Have(Statement(bytes(altered), statement.signature))
        assert codes(listen(alice, bob), forged) == ["bad-signature"]


def test_what_was_signed_as_something_else_is_refused(people):
    alice, bob, _ = people
    assert codes(listen(alice, bob), say(bob, alice, domain="header")) == ["bad-signature"]


def test_a_statement_from_the_future_is_refused(people):
    alice, bob, _ = people
    exchange = listen(alice, bob)
    assert codes(exchange, say(bob, alice, now=NOW + CLOCK_SKEW_S)) == []
    assert codes(exchange, say(bob, alice, now=NOW + CLOCK_SKEW_S + 1)) == ["expired"]


def test_an_older_statement_after_a_newer_one_is_refused(people):
    alice, bob, _ = people
    exchange, words = listen(alice, bob), []
    for _ in range(2):
        bob.append()
        body = have_body(bob.peer_id, alice.peer_id, {bob.peer_id: bob.head()}, NOW)
        words.append(Have(sign_statement(bob.node_seed, HAVE_DOMAIN, body)))
    assert codes(exchange, words[1]) == []
    exchange.handle(Witnessed(body), NOW)
    assert codes(exchange, words[0]) == ["replayed"]
    assert codes(exchange, say(bob, alice)) == ["replayed"]
    assert codes(exchange, words[1]) == []
