"""The exchange of two facilities, event by event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.entries import hole
from protocol.epochs import SignedEpoch
from protocol.errors import Gap, Incomplete, Replayed, WrongContent
from protocol.events import (
    Appended,
    Begin,
    Begun,
    Connected,
    Freeze,
    HeldJournal,
    Load,
    Loaded,
    Received,
    Refuse,
    Regain,
    Send,
    Store,
    Stored,
    Tick,
    Witness,
)
from protocol.exchange import Exchange
from protocol.forks import ForkFound, ForkProof
from protocol.frontier import claimed, have_body, is_ahead, is_fresh, next_batch
from protocol.journal import Head
from protocol.limits import BACK_OFF_MOST_S, CLOCK_SKEW_S, EXCHANGE_S, HAVE_BYTES, WANT_S
from protocol.messages import (
    HAVE_DOMAIN,
    Batches,
    Epochs,
    Have,
    HaveBody,
    Holding,
    OriginHead,
    Refused,
    Want,
)
from protocol.records import from_bytes
from protocol.signing import sign
from protocol.statements import sign_statement
from tests.simulation.memory import Facility, publish, withdraw

NOW = 1_800_000_000


class Side:
    """One facility and its exchange with the other."""

    def __init__(self, facility, other):
        self.facility = facility
        held = facility.held(other)
        self.exchange = Exchange(
            facility.peer_id,
            other.peer_id,
            HeldJournal(facility.head(), facility.node_keys),
            HeldJournal(held.head(), other.node_keys, held.incomplete_from()),
            lambda payload: sign(facility.node_seed, HAVE_DOMAIN, payload),
        )

    def handle(self, event, now=NOW):
        return self.exchange.handle(event, now)


@pytest.fixture
def alice():
    facility = Facility("alice")
    facility.append(publish(1))
    facility.append(publish(2))
    return facility


@pytest.fixture
def bob():
    return Facility("bob")


def have_of(author, addressee, now=NOW):
    """What `author` would say to `addressee` now."""
    held = {author.peer_id: author.head(), addressee.peer_id: author.held(addressee).head()}
    body = have_body(author.peer_id, addressee.peer_id, held, now)
    return Have(sign_statement(author.node_seed, HAVE_DOMAIN, body))


def sent(effects, kind):
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


def refused(effects):
    return [effect.error.code for effect in effects if isinstance(effect, Refuse)]


def stored(facility, origin, **changes):
    """The outcome of storing all of `origin`'s batches at `facility`."""
    run = facility.follow(origin, origin.batches())
    event = Stored(
        origin.peer_id, run.head, run.through, more=False, incomplete_from=run.incomplete_from
    )
    return replace(event, **changes)


# -- saying ---------------------------------------------------------------------------------------


def test_the_first_word_is_a_signed_have(alice, bob):
    (have,) = sent(Side(alice, bob).handle(Connected()), Have)
    body = from_bytes(HaveBody, have.statement.payload, HAVE_BYTES)
    assert (body.author, body.addressee, body.issued_at) == (alice.peer_id, bob.peer_id, NOW)
    assert claimed(body, alice.peer_id).batch == 1
    assert claimed(body, bob.peer_id) is None


def test_a_word_follows_every_minute_and_its_jitter(alice, bob):
    side = Side(alice, bob)
    side.handle(Connected(jitter_s=7))
    due = side.exchange.wake_at
    assert due == NOW + EXCHANGE_S + 7
    assert side.handle(Tick(jitter_s=3), due - 1) == []
    assert len(sent(side.handle(Tick(jitter_s=3), due), Holding)) == 1
    assert side.exchange.wake_at == due + EXCHANGE_S + 3


def test_a_clock_that_was_set_back_is_not_waited_for(alice, bob):
    side = Side(bob, alice)
    ahead = NOW + 6 * 3600
    side.handle(Connected(), ahead)
    assert len(sent(side.handle(Received(have_of(alice, bob, ahead)), ahead), Want)) == 1
    side.handle(Received(Refused("busy", "", "")), ahead)  # And it pauses.
    side.handle(Tick(), NOW)
    assert side.exchange.wake_at == NOW + EXCHANGE_S
    later = NOW + max(WANT_S, BACK_OFF_MOST_S)
    effects = side.handle(Tick(), later)
    assert len(sent(effects, Holding)) == 1
    assert len(sent(effects, Want)) == 1
    assert refused(side.handle(Received(have_of(alice, bob, later)), later)) == []


def test_nothing_is_acknowledged_before_it_is_stored(alice, bob):
    side = Side(bob, alice)
    side.handle(Connected())
    effects = side.handle(Received(Batches(alice.peer_id, alice.batches(), more=False)))
    assert effects == [Store(alice.peer_id, alice.batches(), more=False)]
    (have,) = sent(side.handle(stored(bob, alice)), Have)
    body = from_bytes(HaveBody, have.statement.payload, HAVE_BYTES)
    assert claimed(body, alice.peer_id).last_seq == 2


# -- asking ---------------------------------------------------------------------------------------


def test_what_a_have_names_beyond_ours_is_asked_for_once(alice, bob):
    side = Side(bob, alice)
    side.handle(Connected())
    effects = side.handle(Received(have_of(alice, bob)))
    assert isinstance(effects[0], Witness)
    assert sent(effects, Want) == [Want(alice.peer_id, 0, 0)]
    assert sent(side.handle(Received(have_of(alice, bob))), Want) == []
    later = side.handle(Tick(), NOW + WANT_S)
    assert sent(later, Want) == [Want(alice.peer_id, 0, 0)], "an answer that got lost"


def test_a_long_answer_is_asked_on_from_where_it_ended(alice, bob):
    side = Side(bob, alice)
    side.handle(Received(have_of(alice, bob)))
    effects = side.handle(stored(bob, alice, through=1, more=True))
    assert sent(effects, Want) == [Want(alice.peer_id, 0, 2)]


def test_a_hole_is_followed_beyond_batches_that_do_not_fill_it(alice, bob):
    """Its entry was moved or withdrawn meanwhile: whoever sends the batch again has a hole too."""
    first, _ = alice.batches()
    bob.follow(alice, [replace(first, entries=(hole(first.entries[0]),))])
    alice.append(withdraw(1))
    side = Side(bob, alice)
    assert sent(side.handle(Tick()), Want) == [Want(alice.peer_id, 0, 0)]
    run = bob.follow(alice, alice.batches()[:1])
    assert run.error.code == "replayed"
    event = Stored(alice.peer_id, run.head, run.through, True, run.incomplete_from, run.error)
    assert side.handle(event) == [Send(Want(alice.peer_id, 0, 1))]
    run = bob.follow(alice, alice.batches(1))
    assert (run.error, run.incomplete_from) == (None, None)


def test_a_gap_is_asked_for(alice, bob):
    side = Side(bob, alice)
    event = Stored(alice.peer_id, None, -1, more=False, error=Gap("missing"))
    assert sent(side.handle(event), Want) == [Want(alice.peer_id, 0, 0)]


def test_a_hole_that_nothing_justifies_is_refused_and_asked_for_again(alice, bob):
    first, second = alice.batches()
    holed = replace(first, entries=(hole(first.entries[0]),))
    run = bob.follow(alice, [holed, second])
    side = Side(bob, alice)
    event = Stored(alice.peer_id, run.head, run.through, False, run.incomplete_from)
    assert refused(side.handle(event)) == [Incomplete.code]
    later = side.handle(Tick(), NOW + EXCHANGE_S)
    assert sent(later, Want) == [Want(alice.peer_id, 0, 0)]
    run = bob.follow(alice, alice.batches())
    assert run.error is None
    assert run.incomplete_from is None
    assert bob.live(alice) == alice.live(alice)


def test_a_hole_from_before_the_link_is_asked_for(alice, bob):
    first = alice.batches()[0]
    bob.follow(alice, [replace(first, entries=(hole(first.entries[0]),))])
    side = Side(bob, alice)
    assert sent(side.handle(Tick()), Want) == [Want(alice.peer_id, 0, 0)]


def test_a_partner_that_errs_is_asked_less_and_less_often(alice, bob):
    side = Side(bob, alice)
    side.handle(Received(have_of(alice, bob)))
    pauses, now = [], NOW
    for _ in range(8):
        event = Stored(alice.peer_id, None, -1, False, error=WrongContent("altered"))
        assert refused(side.handle(event, now)) == [WrongContent.code]
        start = now
        while not sent(side.handle(Tick(), now), Want):
            now += 1
        pauses.append(now - start)
    assert pauses == sorted(pauses)
    assert pauses[0] == EXCHANGE_S
    assert pauses[-1] == BACK_OFF_MOST_S


def test_a_replay_is_refused_without_a_pause(alice, bob):
    side = Side(bob, alice)
    event = Stored(alice.peer_id, None, -1, False, error=Replayed("held"))
    assert refused(side.handle(event)) == [Replayed.code]
    assert sent(side.handle(Received(have_of(alice, bob))), Want)


def test_a_refused_question_is_not_repeated_at_once(alice, bob):
    side = Side(bob, alice)
    side.handle(Received(have_of(alice, bob)))
    side.handle(Received(Refused("busy", "", "")), NOW + EXCHANGE_S - 1)
    assert sent(side.handle(Tick(), NOW + WANT_S), Want) == []


@pytest.mark.parametrize("code", ["expired", "bad-signature", "unknown-message"])
def test_a_refusal_of_something_else_is_no_reason_to_pause(alice, bob, code):
    """Of a membership that was shown with a question for a third journal, say."""
    side = Side(bob, alice)
    side.handle(Received(have_of(alice, bob)))
    side.handle(Received(Refused(code, "", "")), NOW + EXCHANGE_S - 1)
    assert sent(side.handle(Tick(), NOW + WANT_S), Want)


# -- answering ------------------------------------------------------------------------------------


def test_a_want_is_answered_from_the_askers_cursor(alice, bob):
    side = Side(alice, bob)
    assert side.handle(Received(Want(alice.peer_id, 0, 1))) == [Load(alice.peer_id, 1)]
    batches = alice.batches(1)
    effects = side.handle(Loaded(alice.peer_id, batches, 1, more=False))
    assert sent(effects, Batches) == [Batches(alice.peer_id, batches, more=False)]


def test_what_is_not_there_is_not_answered(alice, bob):
    side = Side(alice, bob)
    assert side.handle(Received(Want(alice.peer_id, 0, 2))) == []
    assert side.handle(Received(Want(bob.peer_id, 0, 0))) == []
    assert refused(side.handle(Received(Want(alice.peer_id, 1, 0)))) == ["gap"]
    assert refused(side.handle(Received(Want(bytes(32), 0, 0)))) == ["wrong-addressee"]
    assert side.handle(Loaded(alice.peer_id, (), 1, more=False)) == []


def test_a_new_head_is_pushed_to_a_partner_in_step(alice, bob):
    bob.follow(alice, alice.batches())
    side = Side(alice, bob)
    side.handle(Connected())
    side.handle(Received(have_of(bob, alice)))
    assert side.handle(Appended(alice.append(publish(3)))) == [Load(alice.peer_id, 2)]


def test_a_partner_that_is_catching_up_is_told_instead(alice, bob):
    side = Side(alice, bob)
    side.handle(Connected())
    side.handle(Received(have_of(bob, alice)))
    side.handle(Received(Want(alice.peer_id, 0, 0)))
    side.handle(Loaded(alice.peer_id, alice.batches()[:1], 0, more=True))
    effects = side.handle(Appended(alice.append(publish(3))))
    assert sent(effects, Have)
    assert len(effects) == 1


def test_a_head_that_is_reported_late_changes_nothing(alice, bob):
    side = Side(alice, bob)
    side.handle(Connected())
    old, new = alice.append(publish(3)), alice.append(publish(4))
    side.handle(Appended(new))
    assert side.handle(Appended(old)) == []
    assert side.exchange.own == new


# -- faults ---------------------------------------------------------------------------------------


def test_a_fork_freezes_the_origin(alice, bob):
    side = Side(bob, alice)
    header = alice.batches()[0].signed_header
    proof = ForkProof(header, header)
    effects = side.handle(Stored(alice.peer_id, None, -1, more=False, error=ForkFound(proof)))
    assert Freeze(alice.peer_id, proof) in effects
    assert refused(effects) == ["forked"]
    assert side.handle(Received(Batches(alice.peer_id, alice.batches(), more=False))) == []
    assert sent(side.handle(Received(have_of(alice, bob))), Want) == []


def test_a_facility_that_is_behind_its_own_word_takes_back_what_it_lacks(alice, bob):
    bob.follow(alice, alice.batches())
    restored = Facility("alice")
    restored.append(publish(1))
    side = Side(restored, bob)
    effects = side.handle(Received(have_of(bob, alice)))
    assert sent(effects, Want) == [Want(alice.peer_id, 0, 1)]
    lost = alice.batches()[1:]
    (regain,) = side.handle(Received(Batches(alice.peer_id, lost, more=True)))
    assert regain == Regain(lost, more=True)
    done = Stored(alice.peer_id, alice.head(), 1, more=True)
    assert sent(side.handle(done), Want) == [Want(alice.peer_id, 0, 2)]
    assert side.handle(replace(done, more=False)) == []
    assert side.exchange.own == alice.head()


def test_what_another_partner_gave_back_is_announced(alice, bob):
    restored = Facility("alice")
    restored.append(publish(1))
    side = Side(restored, bob)
    (have,) = sent(side.handle(Stored(alice.peer_id, alice.head(), 1, more=False)), Have)
    body = from_bytes(HaveBody, have.statement.payload, HAVE_BYTES)
    assert claimed(body, alice.peer_id).batch == 1


def test_a_body_that_is_lacking_of_our_own_journal_is_asked_for(alice, bob):
    bob.follow(alice, alice.batches())
    side = Side(alice, bob)
    side.handle(Stored(alice.peer_id, alice.head(), 1, more=False, incomplete_from=0))
    assert sent(side.handle(Received(have_of(bob, alice))), Want) == [Want(alice.peer_id, 0, 0)]
    answer = Batches(alice.peer_id, alice.batches(), more=False)
    assert side.handle(Received(answer)) == [Regain(alice.batches(), more=False)]


def test_another_history_of_our_own_is_not_held_against_the_partner(alice, bob):
    side = Side(alice, bob)
    header = alice.batches()[0].signed_header
    found = ForkFound(ForkProof(header, header))
    event = Stored(alice.peer_id, alice.head(), 0, more=True, error=found)
    assert sent(side.handle(event), Want) == [Want(alice.peer_id, 0, 0)], "where do they part?"
    assert side.handle(event) == [], "asked once"


# -- epochs ---------------------------------------------------------------------------------------


def test_an_epoch_is_told_before_its_batches_and_taken_note_of_first(alice, bob):
    signed = (SignedEpoch(b"record", bytes(64)),)
    side = Side(alice, bob)
    loaded = Loaded(alice.peer_id, alice.batches(), 1, more=False, epochs=signed)
    assert side.handle(loaded) == [
        Send(Epochs(alice.peer_id, signed)),
        Send(Batches(alice.peer_id, alice.batches(), more=False)),
    ]
    other = Side(bob, alice)
    told = other.handle(Received(Epochs(alice.peer_id, signed)))
    assert told == [Begin(alice.peer_id, signed)]
    other.handle(Begun(alice.peer_id, alice.head(), 0))
    assert other.exchange.theirs == alice.head()
    assert sent(other.handle(Tick(), NOW + 1), Want) == [Want(alice.peer_id, 0, 0)]


def test_whoever_is_behind_an_epoch_is_told_of_it_wherever_it_stands(alice, bob):
    newer = replace(alice.head(), epoch=1, batch=1)
    side = Side(alice, bob)
    side.handle(Begun(alice.peer_id, newer))
    (load,) = side.handle(Received(Want(alice.peer_id, 0, 9)))
    assert load == Load(alice.peer_id, 9, 0), "it holds batches that are void"
    assert side.handle(Received(Want(alice.peer_id, 1, 2))) == []
    assert refused(side.handle(Received(Want(alice.peer_id, 2, 0)))) == ["gap"]


def test_a_later_epoch_thaws_a_forked_journal(alice, bob):
    side = Side(bob, alice)
    header = alice.batches()[0].signed_header
    found = ForkFound(ForkProof(header, header))
    side.handle(Stored(alice.peer_id, None, -1, more=False, error=found))
    claim = OriginHead(alice.peer_id, 1, 5, bytes(32), 9)
    body = HaveBody(alice.peer_id, bob.peer_id, NOW, (claim,))
    have = Have(sign_statement(alice.node_seed, HAVE_DOMAIN, body))
    assert sent(side.handle(Received(have)), Want) == [Want(alice.peer_id, 0, 0)]
    side.handle(Begun(alice.peer_id, None))
    answer = Batches(alice.peer_id, alice.batches(), more=False)
    assert side.handle(Received(answer)) == [Store(alice.peer_id, alice.batches(), more=False)]


def test_epochs_of_a_third_facility_are_not_taken_note_of(alice, bob):
    told = Epochs(bytes(32), (SignedEpoch(b"record", bytes(64)),))
    assert refused(Side(bob, alice).handle(Received(told))) == ["wrong-addressee"]


def test_nobody_gives_back_what_we_never_signed(alice, bob):
    ahead = OriginHead(alice.peer_id, 0, 9, bytes(32), 99)
    lie = HaveBody(bob.peer_id, alice.peer_id, NOW, (ahead,))
    side = Side(alice, bob)
    effects = side.handle(Received(Have(sign_statement(bob.node_seed, HAVE_DOMAIN, lie))))
    assert not any(isinstance(effect, Regain) for effect in effects)
    forged = Batches(alice.peer_id, bob_signs(bob), more=False)
    assert refused(side.handle(Received(forged))) == ["bad-signature"]
    given_back = Batches(alice.peer_id, alice.batches(), more=False)
    assert side.handle(Received(given_back)) == []


def bob_signs(bob):
    bob.append(publish(7))
    return bob.batches()


# -- frontier -------------------------------------------------------------------------------------


def test_a_head_is_fresh_until_its_lease_ends(alice):
    head = alice.append(now=NOW, lease_s=100)
    assert is_fresh(head, NOW)
    assert is_fresh(head, NOW + 99)
    assert not is_fresh(head, NOW + 100)
    assert not is_fresh(None, NOW)


def test_a_head_from_the_future_vouches_for_nothing(alice):
    head = alice.append(now=NOW + CLOCK_SKEW_S + 1)
    assert not is_fresh(head, NOW)
    assert is_fresh(head, NOW + 1)


def head(batch=3, epoch=0, header_hash=b"\1" * 32):
    return Head(epoch, batch, 9, 1, header_hash, 9, bytes(32), NOW, NOW + 1)


@pytest.mark.parametrize(
    ("claim", "held", "ahead", "ask_from"),
    [
        (OriginHead(b"", 0, 3, b"\1" * 32, 9), head(), False, 3),
        (OriginHead(b"", 0, 2, b"\2" * 32, 8), head(), False, 2),
        (OriginHead(b"", 0, 4, b"\2" * 32, 9), head(), True, 4),
        (OriginHead(b"", 0, 9, b"\2" * 32, 9), head(), True, 4),
        (OriginHead(b"", 0, 3, b"\2" * 32, 9), head(), True, 3),
        (OriginHead(b"", 1, 2, b"\2" * 32, 9), head(), True, 2),
        (OriginHead(b"", 0, 0, b"\1" * 32, 0), None, True, 0),
    ],
)
def test_what_a_claim_is_to_a_head(claim, held, ahead, ask_from):
    assert is_ahead(claim, held) is ahead
    assert next_batch(claim, held) == ask_from


def test_a_withdrawal_erases_at_the_partner(alice, bob):
    bob.follow(alice, alice.batches())
    alice.append(withdraw(1))
    run = bob.follow(alice, alice.batches(2))
    assert run.withdrawn == (withdraw(1).entry_id,)
    assert run.erased
