"""A link at rest: hashes renew what was signed, and nothing else does."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path

import msgpack
import pytest
from blake3 import blake3

from protocol.errors import Replayed
from protocol.events import (
    Appended,
    Connected,
    HeldJournal,
    Load,
    Loaded,
    Received,
    Refuse,
    Renew,
    Send,
    Store,
    Stored,
    Tick,
    Witness,
    Witnessed,
)
from protocol.exchange import Exchange
from protocol.frontier import claimed, have_body, origin_head
from protocol.identifiers import PeerId
from protocol.limits import EXCHANGE_S, EXCHANGED_S, HAVE_BYTES, HAVE_S
from protocol.messages import (
    HAVE_DOMAIN,
    Batches,
    Have,
    HaveBody,
    Holding,
    Kind,
    OriginHead,
    Origins,
    decode,
    encode,
)
from protocol.records import from_bytes
from protocol.renewal import RENEWED_S, Renewal, by_origin, holding_digest
from protocol.signing import sign
from tests.simulation.memory import Facility, publish, withdraw

NOW = 1_800_000_000
VECTORS = Path(__file__).parents[1] / "vectors"
HOUR_S = 3600


class Pair:
    """Two facilities on one link; each has a clock of its own.

    `loses`: a class of messages that do not arrive.  `full`: whose disk keeps no statement.
    """

    def __init__(self, *facilities, thirds=()):
        self.facilities = facilities
        self.thirds = {each.name: list(thirds) for each in facilities}
        self.now = {each.name: NOW for each in facilities}
        self.said, self.done = [], []
        self.loses = self.full = None
        self.exchanges = {}
        for me, other in (facilities, facilities[::-1]):
            self.exchanges[me.name] = Exchange(
                me.peer_id,
                other.peer_id,
                HeldJournal(me.head(), me.node_keys),
                HeldJournal(me.held(other).head(), other.node_keys),
                lambda payload, me=me: sign(me.node_seed, HAVE_DOMAIN, payload),
                others=lambda me=me: self.others(me),
            )
        for me in facilities:
            self.happen(me, Connected())

    def others(self, me):
        return {
            each.peer_id: HeldJournal(me.held(each).head(), each.node_keys)
            for each in self.thirds[me.name]
        }

    def other(self, me):
        return next(each for each in self.facilities if each is not me)

    def happen(self, me, event):
        agenda = deque([(me, event)])
        while agenda:
            who, what = agenda.popleft()
            for effect in self.exchanges[who.name].handle(what, self.now[who.name]):
                outcome = self.perform(who, effect)
                if outcome is not None:
                    agenda.append(outcome)

    def perform(self, me, effect):
        other = self.other(me)
        self.done.append((me.name, effect))
        match effect:
            case Send(message):
                self.said.append((me.name, message))
                if self.loses is type(message):
                    return None
                return other, Received(message)
            case Witness(body):
                return None if me is self.full else (me, Witnessed(body))
            case Store(_, batches):
                run = me.follow(other, batches)
                return me, Stored(other.peer_id, run.head, run.through, False, error=run.error)
            case Load() as load:
                source = me if load.origin == me.peer_id else other
                batches = source.batches(load.from_batch)
                through = load.from_batch + len(batches) - 1
                return me, Loaded(load.origin, batches, through, more=False)
            case _:
                return None

    def pass_time(self, seconds):
        for me in self.facilities:
            self.now[me.name] += seconds

    def tick(self, seconds=EXCHANGE_S):
        """Let time pass in which both have their say; return what was said."""
        self.said.clear()
        self.done.clear()
        self.pass_time(seconds)
        for me in self.facilities:
            self.happen(me, Tick())
        return [type(message) for _, message in self.said]

    def effects(self, me, kind):
        return [e for name, e in self.done if name == me.name and isinstance(e, kind)]

    def append(self, me, *entries):
        self.happen(me, Appended(me.append(*entries, now=self.now[me.name])))


@pytest.fixture
def alice():
    facility = Facility("alice")
    facility.append(publish(1))
    return facility


@pytest.fixture
def bob():
    facility = Facility("bob")
    facility.append(publish(1))
    return facility


@pytest.fixture
def carol():
    facility = Facility("carol")
    facility.append(publish(1))
    return facility


# -- what is said at rest


def test_two_hashes_a_minute_are_all_that_is_said_at_rest(alice, bob):
    pair = Pair(alice, bob)
    for _ in range(5):
        assert pair.tick() == [Holding, Holding]
        assert not any(message.asks for _, message in pair.said)


def test_a_hash_renews_the_claim_of_the_last_have(alice, bob):
    pair = Pair(alice, bob)
    pair.tick()
    theirs, ours = (origin_head(each.peer_id, each.head()) for each in (alice, bob))
    assert pair.effects(bob, Renew) == [Renew(theirs, ours)]


def test_what_is_new_is_signed_at_once_and_then_renewed(alice, bob):
    pair = Pair(alice, bob)
    pair.tick()
    pair.said.clear()
    pair.append(alice, publish(2))
    (have,) = [m for name, m in pair.said if name == "bob" and isinstance(m, Have)]
    body = from_bytes(HaveBody, have.statement.payload, HAVE_BYTES)
    assert claimed(body, alice.peer_id).last_seq == 2, "bob acknowledges what he has stored"
    pair.tick()
    assert pair.tick() == [Holding, Holding]


def test_a_have_is_signed_every_six_hours(alice, bob):
    pair = Pair(alice, bob)
    assert pair.tick(HAVE_S - 1) == [Holding, Holding]
    assert pair.tick(EXCHANGE_S) == [Have, Have]


def test_nothing_is_renewed_by_a_hash_for_longer_than_that(alice, bob):
    heads = {alice.peer_id: origin_head(alice.peer_id, alice.head())}
    digest = holding_digest(alice.peer_id, bob.peer_id, heads)
    renewal = Renewal(bob.peer_id, alice.peer_id)
    body = have_body(alice.peer_id, bob.peer_id, {alice.peer_id: alice.head()}, NOW)
    assert renewal.renewed(digest, {}, NOW) is None, "nothing was signed on this link"
    renewal.heard(body, NOW)
    assert renewal.renewed(digest, {}, NOW + RENEWED_S - 1) == heads
    assert renewal.renewed(digest, {}, NOW + RENEWED_S) is None
    assert HAVE_S < RENEWED_S <= HAVE_S + EXCHANGED_S


# -- third facilities


def test_third_journals_that_both_hold_alike_cost_nothing(alice, bob, carol):
    for each in (alice, bob):
        each.follow(carol, carol.batches())
    pair = Pair(alice, bob, thirds=[carol])
    assert pair.tick() == [Holding, Holding]
    carol.append(publish(2))
    for each in (alice, bob):
        each.follow(carol, carol.batches(1))
    assert pair.tick() == [Holding, Holding], "both have it from carol"
    assert pair.effects(bob, Renew), "and the ends' words stand"


def test_a_third_journal_that_one_side_alone_has_more_of_is_told_once(alice, bob, carol):
    for each in (alice, bob):
        each.follow(carol, carol.batches())
    pair = Pair(alice, bob, thirds=[carol])
    pair.tick()
    carol.append(publish(2))
    alice.follow(carol, carol.batches(1))
    pair.tick()
    haves = [m for name, m in pair.said if name == "alice" and isinstance(m, Have)]
    body = from_bytes(HaveBody, haves[-1].statement.payload, HAVE_BYTES)
    assert claimed(body, carol.peer_id).last_seq == 2
    assert pair.tick() == [Holding, Holding]


def test_who_missed_whom_the_other_lists_is_told_again(alice, bob, carol):
    for each in (alice, bob):
        each.follow(carol, carol.batches())
    pair = Pair(alice, bob, thirds=[carol])
    pair.exchanges["bob"]._thirds._comparison._theirs = frozenset()  # As if it had got lost.
    pair.tick()
    assert pair.exchanges["bob"]._thirds.common().keys() == {carol.peer_id}
    pair.tick()
    assert pair.tick() == [Holding, Holding]


# -- hashes that renew nothing


def test_the_hash_of_what_was_held_before_renews_nothing(alice, bob):
    pair = Pair(alice, bob)
    pair.tick()
    old = next(m for name, m in pair.said if name == "alice")
    pair.append(alice, publish(2))
    pair.tick()
    pair.said.clear()
    pair.done.clear()
    pair.happen(bob, Received(old))
    said = [type(m) for name, m in pair.said if name == "bob"]
    assert said == [Holding, Origins], "it asks, and names whom it lists to who does"
    assert [type(m) for name, m in pair.said if name == "alice"][-1] is Have
    assert not pair.effects(bob, Renew)


def test_an_acknowledgement_that_got_lost_is_signed_again(alice, bob):
    """Alice must have bob's signature under what he has applied, whatever hashes agree."""
    pair = Pair(alice, bob)
    pair.loses = Have
    pair.append(alice, withdraw(1))
    pair.loses = None
    assert bob.held(alice).head() == alice.head(), "it was applied"
    pair.tick()
    bodies = [effect.body for effect in pair.effects(alice, Witness)]
    assert claimed(bodies[-1], alice.peer_id).last_seq == 2
    assert pair.tick() == [Holding, Holding]


def test_my_own_hash_sent_back_renews_nothing(alice, bob):
    pair = Pair(alice, bob)
    pair.tick()
    own = next(m for name, m in pair.said if name == "bob")
    pair.done.clear()
    pair.happen(bob, Received(own))
    assert not pair.effects(bob, Renew)


def test_no_question_is_answered_by_a_question(alice, bob):
    pair = Pair(alice, bob)
    pair.tick()
    pair.said.clear()
    exchange = pair.exchanges["bob"]
    effects = exchange.handle(Received(Holding(bytes(32), asks=True)), pair.now["bob"])
    assert not any(isinstance(e, Send) and isinstance(e.message, Holding) for e in effects)
    assert any(isinstance(e, Send) and isinstance(e.message, Have) for e in effects)


def test_a_have_that_could_not_be_kept_is_asked_for_again(alice, bob):
    """A full disk: what is not on record is neither acknowledged nor renewed."""
    pair = Pair(alice, bob)
    pair.full = alice
    pair.append(alice, withdraw(1))
    pair.full = None
    pair.tick()
    assert pair.effects(alice, Witness), "bob has signed it once more"
    assert pair.tick() == [Holding, Holding]


# -- clocks


def test_a_clock_set_back_by_hours_silences_nobody(alice, bob):
    """Words are old by what they say, and not by the clock that dated them."""
    pair = Pair(alice, bob)
    pair.tick()
    pair.now["bob"] -= 5 * HOUR_S
    pair.done.clear()
    pair.append(alice, withdraw(1))
    pair.append(bob, publish(2))
    assert not pair.effects(alice, Refuse)
    refused = pair.effects(bob, Refuse)
    assert {each.error.code for each in refused} == {"expired"}, "and bob learns which clock"
    bodies = [effect.body for effect in pair.effects(alice, Witness)]
    assert claimed(bodies[-1], alice.peer_id).last_seq == 2, "bob's acknowledgement is heard"
    assert bodies[-1].issued_at < NOW, "by a clock that is hours behind"
    pair.now["bob"] += 5 * HOUR_S
    pair.tick()
    pair.tick()
    assert pair.tick() == [Holding, Holding]


def test_a_word_of_before_is_refused_whatever_its_date(alice, bob):
    renewal = Renewal(bob.peer_id, alice.peer_id)
    old = have_body(alice.peer_id, bob.peer_id, {alice.peer_id: alice.head()}, NOW + HOUR_S)
    alice.append(publish(2))
    new = have_body(alice.peer_id, bob.peer_id, {alice.peer_id: alice.head()}, NOW)
    renewal.heard(new, NOW)
    with pytest.raises(Replayed):
        renewal.check(old)
    renewal.check(new)


def test_what_is_said_of_journals_that_nobody_lists_is_not_kept(alice, bob, carol):
    renewal = Renewal(alice.peer_id, bob.peer_id)
    own = {alice.peer_id: alice.head(), bob.peer_id: bob.head()}
    for at in range(8):
        invented = {PeerId(bytes([at, each]) * 16): bob.head() for each in range(1, 9)}
        held = {**own, carol.peer_id: carol.head(), **invented}
        body = have_body(bob.peer_id, alice.peer_id, held, NOW)
        renewal.heard(body, NOW, {carol.peer_id})
        everything = holding_digest(bob.peer_id, alice.peer_id, by_origin(body))
        assert renewal.renewed(everything, {}, NOW, by_origin(body)) is None
    known = {each: head for each, head in by_origin(body).items() if each not in invented}
    assert set(known) == {*own, carol.peer_id}
    digest = holding_digest(bob.peer_id, alice.peer_id, known)
    assert renewal.renewed(digest, {}, NOW, {carol.peer_id}) == known


def test_a_third_journal_that_is_named_no_more_is_not_taken_for_held(alice, bob, carol):
    """The partner has dropped it: its hash is over what it named last, and over nothing else."""
    renewal = Renewal(alice.peer_id, bob.peer_id)
    own = {alice.peer_id: alice.head(), bob.peer_id: bob.head()}
    third = Facility("dave")
    third.append(publish(1))
    both = {carol.peer_id: carol.head(), third.peer_id: third.head()}
    for thirds in (both, {carol.peer_id: carol.head()}, {}):
        body = have_body(bob.peer_id, alice.peer_id, {**own, **thirds}, NOW)
        renewal.heard(body, NOW, both)
    left = {**own, carol.peer_id: carol.head()}
    said = by_origin(have_body(bob.peer_id, alice.peer_id, left, NOW))
    digest = holding_digest(bob.peer_id, alice.peer_id, said)
    assert renewal.renewed(digest, {}, NOW, both) == said


def test_batches_are_pushed_as_before(alice, bob):
    pair = Pair(alice, bob)
    pair.tick()
    pair.said.clear()
    pair.append(alice, publish(2))
    assert [type(m) for name, m in pair.said if name == "alice"][:1] == [Batches]


# -- the golden vector


REST = json.loads((VECTORS / "journal-rest.json").read_text(encoding="utf-8"))


def test_we_renew_by_the_very_digests():
    exchange = json.loads((VECTORS / "journal-exchange.json").read_text(encoding="utf-8"))
    _, have = decode(bytes.fromhex(exchange["frames"]["have"]))
    body = from_bytes(HaveBody, have.statement.payload, HAVE_BYTES)
    renewal = Renewal(PeerId(body.addressee), PeerId(body.author))
    renewal.heard(body, NOW)
    origin, epoch, batch, header_hash, last_seq = REST["third"]
    origin = PeerId(bytes.fromhex(origin))
    third = OriginHead(origin, epoch, batch, bytes.fromhex(header_hash), last_seq)
    assert renewal.renewed(bytes.fromhex(REST["digest"]), {}, NOW) == by_origin(body)
    digest = bytes.fromhex(REST["digest_with_third"])
    assert renewal.renewed(digest, {origin: third}, NOW) == {**by_origin(body), origin: third}
    assert renewal.renewed(digest, {}, NOW) is None
    for name, text in REST["frames"].items():
        frame, message = decode(bytes.fromhex(text))
        assert (frame.name, message.asks) == ("holding", name == "asks")
        assert encode(message, Kind.TELL).hex() == text


def test_a_second_reader_comes_to_the_same_digests():
    heads = [
        [bytes.fromhex(each) if isinstance(each, str) else each for each in head]
        for head in (*REST["heads"], REST["third"])
    ]
    ends = bytes.fromhex(REST["author"] + REST["addressee"])
    for name, told in (("digest", heads[:-1]), ("digest_with_third", sorted(heads))):
        assert blake3(b"\x09" + ends + msgpack.packb(told)).hexdigest() == REST[name]
    kind, number, name, body = msgpack.unpackb(bytes.fromhex(REST["frames"]["renews"]))
    assert (kind, number, name) == (3, 0, "holding")
    assert msgpack.unpackb(body) == [bytes.fromhex(REST["digest_with_third"]), False]
