"""Attack: a relay forges, alters, withholds or replays, or has no word of the origin that it may.

Bob cannot reach alice, whose partner he is; mallory holds more of her journal and passes it on.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.index import epochs, relaying
from protocol.entries import EntryKind, header_hash, hole
from protocol.epochs import EpochRecord, sign_epoch
from protocol.events import Freeze, Load, Loaded, Received, Refuse, Send, Store, Stored
from protocol.frontier import have_body, is_fresh
from protocol.limits import EXCHANGE_S, MEMBERSHIP_S, WANT_S
from protocol.messages import HAVE_DOMAIN, Have, Relayed, WantRelayed
from protocol.statements import sign_statement
from tests.relaying import NOW, listed, member_of, side
from tests.simulation.memory import LEASE_S, Facility, labels_of, publish, withdraw


@pytest.fixture
def people():
    alice, bob, mallory = (Facility(name) for name in ("alice", "bob", "mallory"))
    alice.append(publish(1))
    alice.append(publish(2))
    bob.follow(alice, alice.batches()[:1])
    mallory.follow(alice, alice.batches())
    return alice, bob, mallory


class Asking:
    """Bob's end of the link to mallory, after he has asked for alice's journal."""

    def __init__(self, people, now=NOW):
        self.alice, self.bob, self.mallory = people
        self.now = now
        theirs = listed(self.bob, self.alice, membership=member_of(self.alice, self.bob, now))
        self.exchange = side(self.bob, self.mallory, self.alice, theirs)
        held = {self.alice.peer_id: self.alice.head()}
        body = have_body(self.mallory.peer_id, self.bob.peer_id, held, now)
        have = Have(sign_statement(self.mallory.node_seed, HAVE_DOMAIN, body))
        self.asked = sent(self.handle(Received(have)), WantRelayed)

    def handle(self, event):
        return self.exchange.handle(event, self.now)

    def given(self, batches, membership=None, *, more=False):
        """Hand batches over as mallory passes them on; return the effects of judging them."""
        shown = membership or member_of(self.alice, self.mallory, self.now)
        passed_on = Relayed(self.alice.peer_id, tuple(batches), more, None, shown)
        effects = self.handle(Received(passed_on))
        for effect in [each for each in effects if isinstance(each, Store)]:
            alice, tx = self.alice, self.bob.partners
            run = relaying.store(tx, alice.peer_id, alice.node_keys, effect.batches, labels_of)
            event = Stored(
                alice.peer_id, run.head, run.through, more, run.incomplete_from, run.error
            )
            effects += self.handle(event)
        return effects


def sent(effects, kind):
    return [each.message for each in effects if isinstance(each, Send)
            and isinstance(each.message, kind)]  # fmt: skip


def codes(effects):
    return [each.error.code for each in effects if isinstance(each, Refuse)]


def stores(effects):
    return [each for each in effects if isinstance(each, Store)]


def test_what_the_origin_signed_is_taken_from_a_member(people):
    """The others would prove nothing without this one."""
    asking = Asking(people)
    assert [(each.origin, each.from_batch) for each in asking.asked] == [(asking.alice.peer_id, 1)]
    assert codes(asking.given(asking.alice.batches(1))) == []
    assert asking.bob.held(asking.alice).head() == asking.alice.head()


# -- who may not pass on


def test_a_relay_whose_membership_is_over_is_refused(people):
    asking = Asking(people)
    over = member_of(asking.alice, asking.mallory, NOW - MEMBERSHIP_S)
    effects = asking.given(asking.alice.batches(1), over)
    assert (codes(effects), stores(effects)) == (["expired"], [])


def test_a_relay_that_signs_its_membership_itself_is_refused(people):
    asking = Asking(people)
    forged = member_of(asking.alice, asking.mallory, NOW, signer=asking.mallory)
    effects = asking.given(asking.alice.batches(1), forged)
    assert (codes(effects), stores(effects)) == (["bad-signature"], [])


def test_a_relay_that_shows_the_membership_of_another_is_refused(people):
    """Bob has just shown it his own."""
    asking = Asking(people)
    effects = asking.given(asking.alice.batches(1), asking.asked[0].membership)
    assert (codes(effects), stores(effects)) == (["wrong-addressee"], [])


def test_what_nobody_asked_for_is_not_taken(people):
    asking = Asking(people)
    asking.given(asking.alice.batches(1))
    asking.alice.append(publish(3))
    assert asking.given(asking.alice.batches(2)) == []


# -- what a member does


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda batch: replace(batch, signature=bytes(64)), "bad-signature"),
        (lambda batch: replace(batch, header=batch.header[:-1] + b"\0"), "bad-signature"),
        (lambda batch: replace(batch, entries=()), "wrong-content"),
        (
            lambda batch: replace(
                batch, entries=(replace(batch.entries[0], payload=b"what alice never said"),)
            ),
            "wrong-content",
        ),
        (lambda batch: replace(batch, entries=(hole(batch.entries[0]),)), "incomplete"),
    ],
    ids=["forged", "altered header", "emptied", "altered body", "hidden behind a hole"],
)
def test_a_member_that_alters_what_it_passes_on_is_refused(people, change, code):
    alice, bob, _ = people
    asking, kept = Asking(people), bob.partners.serialize()
    effects = asking.given([change(alice.batches()[1])])
    assert codes(effects) == [code]
    assert bob.partners.serialize() == kept, "nothing of it is kept"
    later = asking.now + WANT_S + EXCHANGE_S
    again = asking.exchange._thirds.heard(asking.exchange._renewal._heard, later)
    assert sent(again, WantRelayed) == [], "and is left alone for a while"
    another = Asking((alice, bob, Facility("carol")))
    assert codes(another.given(alice.batches(1))) == []
    assert bob.live(alice) == people[2].live(alice), "who is honest is still believed"


def test_a_hole_that_a_later_batch_justifies_is_taken_with_it(people):
    """Of an answer that ends between the two, what came before the hole is taken."""
    alice, bob, mallory = people
    for entry in (publish(3), publish(4), withdraw(3)):
        alice.append(entry)
    whole = alice.batches(1)
    assert whole[1].entries[0].kind == EntryKind.HOLE
    asking = Asking(people)
    effects = asking.given(whole[:3], more=True)
    assert bob.held(alice).head().batch == 1
    assert [each.from_batch for each in sent(effects, WantRelayed)] == [2], "asked for together"
    effects = asking.given(whole[1:3], more=True)
    assert codes(effects) + sent(effects, WantRelayed) == [], "nobody's fault, nor a way to go on"
    assert bob.held(alice).head().batch == 1
    assert codes(Asking((alice, bob, mallory)).given(whole[1:])) == []
    assert bob.held(alice).head() == alice.head()


def test_a_hole_of_the_origins_own_is_not_laid_to_the_relay(people):
    alice, bob, _ = people
    bob.follow(alice, [replace(alice.batches()[1], entries=(hole(alice.batches()[1].entries[0]),))])
    alice.append(publish(3))
    people[2].catch_up(alice)
    asking = Asking(people)
    assert codes(asking.given(alice.batches(2))) == []
    assert bob.held(alice).head() == alice.head()


def test_a_member_cannot_open_a_gap_or_reorder(people):
    alice = people[0]
    alice.append(publish(3))
    asking = Asking(people)
    held = asking.bob.held(alice).head()
    assert codes(asking.given(alice.batches(2))) == []
    assert asking.bob.held(alice).head() == held, "what does not continue it is not taken"


def test_a_member_that_replays_does_not_lengthen_a_lease(people):
    """What it withholds ends with the lease that the origin gave."""
    alice, bob, mallory = people
    alice.append(withdraw(1), now=NOW + 1)
    later = NOW + LEASE_S
    asking = Asking((alice, bob, mallory), now=later)
    asking.given(alice.batches()[:2])
    held = bob.held(alice).head()
    assert held.batch == 1, "the withdrawal is withheld"
    assert not is_fresh(held, later), "and so nothing of alice's is listed any more"


def test_a_member_cannot_lead_back_into_an_epoch_that_has_ended(people):
    """Alice was set back: what mallory still passes on is void, and bob knows where it ended."""
    alice, bob, mallory = people
    void, parted = alice.batches(1), alice.held(alice).header(0)
    record = EpochRecord(1, alice.peer_id, 1, 1, header_hash(parted.header), NOW)
    asked_before = Asking(people)
    epochs.begin(bob.partners, alice.peer_id, [sign_epoch(alice.root_seed, record)])
    kept = bob.held(alice).head()
    effects = asked_before.given(void)
    assert stores(effects), "it had been asked for before bob heard of the epoch"
    assert codes(effects) + sent(effects, WantRelayed) == [], "mallory may not have heard of it"
    assert bob.held(alice).head() == kept
    assert Asking((alice, bob, mallory)).asked == []


def test_an_origins_own_fork_is_not_laid_to_the_relay(people):
    alice, bob, mallory = people
    other = Facility("alice")
    other.append(publish(1))
    other.append(publish(9))
    bob.follow(alice, alice.batches()[1:])
    asking = Asking((other, bob, mallory))
    effects = asking.given(other.batches(1))
    assert [each.origin for each in effects if isinstance(each, Freeze)] == [alice.peer_id]
    assert codes(effects) == []


# -- who passes nothing on


def test_a_facility_without_a_membership_passes_nothing_on(people):
    alice, bob, mallory = people
    want = WantRelayed(alice.peer_id, 0, 1, member_of(alice, bob, NOW))
    for own, told in (
        (None, False),
        (member_of(alice, mallory, NOW - MEMBERSHIP_S), False),
        (member_of(alice, mallory, NOW), True),
    ):
        exchange = side(mallory, bob, alice, listed(mallory, alice, membership=own))
        effects = exchange.handle(Received(want), NOW)
        assert bool([each for each in effects if isinstance(each, Load)]) == told
    loaded = Loaded(alice.peer_id, alice.batches(1), 1, more=False)
    (passed_on,) = sent(exchange.handle(loaded, NOW), Relayed)
    assert passed_on.batches == alice.batches(1)
