"""An origin moves its live entries to the tail and raises the floor; everyone ends at one state."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from peer.index import batches, bodies, journal
from peer.index.frontiers import read
from peer.index.journal import Halt
from protocol.compaction import dead, is_due
from protocol.entries import EntryKind, Header, SignedHeader
from protocol.errors import BadSignature, LocalProtocolError, Refusal, WrongContent
from protocol.events import HeldJournal, Received, Send, Store, Stored
from protocol.exchange import Exchange
from protocol.frontier import claimed
from protocol.journal import append
from protocol.limits import HAVE_BYTES
from protocol.messages import Batches, Have, HaveBody, Holding
from protocol.records import from_bytes
from tests.simulation.memory import LEASE_S, Facility, live_entries, publish, withdraw

NOW = 1_800_000_000


@pytest.fixture
def alice():
    return Facility("alice")


@pytest.fixture
def bob():
    return Facility("bob")


def compact(facility, least=1):
    """Take steps of compaction until none is due; return how many it took."""
    steps = 0
    while journal.compact(facility.index, facility, NOW, LEASE_S, least):
        steps += 1
    return steps


def join(reader, origin, max_bytes=3_000):
    """Follow `origin` to its end, answer by answer; yield each run."""
    while (head := reader.held(origin).head()) != origin.head():
        start = head.batch + 1 if head else 0
        loaded = batches.load(origin.index, origin.peer_id, start, max_bytes)
        run = take(reader, origin, loaded)
        assert run.error is None
        yield run


def take(reader, origin, loaded):
    return batches.store(
        reader.partners, origin.peer_id, origin.node_keys, loaded.batches, labels, loaded.newest
    )


def labels(body):
    return [body[:16]]


def names(live):
    """A live map without the positions."""
    return {entry_id: rest for entry_id, (_, *rest) in live.items()}


def grown(facility, count=40, keep=4):
    """A journal of `count` entries of which every `keep`-th is live."""
    for start in range(0, count, 10):
        facility.append(*[publish(n) for n in range(start, start + 10)])
    for start in range(0, count, 10):
        facility.append(*[withdraw(n) for n in range(start, start + 10) if n % keep])


# -- the rule -------------------------------------------------------------------------------------


def test_it_is_due_when_more_is_dead_than_alive_and_enough(alice):
    alice.append(*[publish(n) for n in range(10)])
    alice.append(*[withdraw(n) for n in range(3)])
    head = alice.head()
    assert (head.live_count, dead(head)) == (7, 6)
    assert not is_due(head, 1), "moving seven would cost more than the six that died"
    alice.append(withdraw(3))
    head = alice.head()
    assert (head.live_count, dead(head)) == (6, 8)
    assert is_due(head, 8)
    assert not is_due(head, 9)
    assert not is_due(Facility("bob").append(), 1), "an empty journal has nothing to let go of"


def test_a_turn_moves_fewer_entries_than_have_died(alice):
    chance = random.Random(3)
    number, live, moved = 0, [], 0
    for _ in range(300):
        entries = [publish(number + n) for n in range(5)]
        live += range(number, number + 5)
        number += 5
        while len(live) > 60:
            entries.append(withdraw(live.pop(chance.randrange(len(live)))))
        before = alice.append(*entries).last_seq
        compact(alice, least=20)
        moved += alice.head().last_seq - before
    written = alice.head().last_seq - moved
    assert 0 < moved < written
    kept = alice.index.execute("SELECT count(*) FROM journal_entries").fetchone()[0]
    assert kept < 4 * 60, "the table is as large as what lives, whatever was ever written"


# -- moving ---------------------------------------------------------------------------------------


def test_a_moved_entry_keeps_its_id_salt_and_body(alice, bob):
    grown(alice)
    bob.catch_up(alice)
    before = alice.live(alice)
    assert compact(alice)
    after = alice.live(alice)
    assert names(after) == names(before)
    assert all(after[key][0] > before[key][0] for key in before)
    assert alice.head().floor == min(seq for seq, _, _ in after.values())
    runs = list(join(bob, alice))
    assert bob.live(alice) == after
    assert all(run.withdrawn == () and not run.joining for run in runs), "nothing has ended"
    body = publish(0).body
    assert [e.seq for e in batches_found(bob, body)] == [after[publish(0).entry_id][0]]


def batches_found(facility, body):
    from peer.index.labels import find

    return find(facility.partners, body[:16])


def test_what_lies_below_goes_and_the_headers_stay(alice, bob):
    grown(alice)
    bob.catch_up(alice)
    last = alice.head().batch
    compact(alice)
    list(join(bob, alice))
    for held in (alice.held(alice), bob.held(alice)):
        floor = held.head().floor
        whole = min(b.first_seq for b in headers(held) if b.last_seq >= floor)
        assert held.entries(1, whole - 1) == []
        assert [b.batch for b in headers(held)] == list(range(held.head().batch + 1))
        assert held.find(withdraw(1).entry_id) is None, "its withdrawal is forgotten by everyone"
    assert alice.head().batch > last


def headers(held):
    rows = held.tx.execute("SELECT header FROM journal_batches ORDER BY batch").fetchall()
    return [from_bytes(Header, row["header"], 512) for row in rows]


def test_nothing_lives_any_more(alice, bob):
    alice.append(publish(1), publish(2))
    alice.append(withdraw(1), withdraw(2))
    assert compact(alice) == 1
    assert (alice.head().floor, alice.head().live_count) == (5, 0)
    list(join(bob, alice))
    assert bob.held(alice).entries(1, 99) == []
    alice.append(publish(3))
    list(join(bob, alice))
    assert bob.live(alice) == alice.live(alice)


def test_one_step_is_one_batch_and_needs_no_other(alice, monkeypatch):
    monkeypatch.setattr(journal, "MOVED_AT_A_TIME", 2)
    grown(alice)
    head = alice.head()
    for step in range(1, 4):
        moved = journal.compact(alice.index, alice, NOW, LEASE_S, 1)
        assert (moved.batch, moved.last_seq) == (head.batch + step, head.last_seq + 2 * step)
    alice.append(publish(99), withdraw(0))
    compact(alice)
    assert publish(99).entry_id in alice.live(alice)
    assert withdraw(0).entry_id not in alice.live(alice)


def test_a_halted_journal_is_not_compacted(alice):
    grown(alice)
    journal.halt(alice.index, Halt.BEHIND)
    with pytest.raises(Refusal):
        compact(alice)


def test_an_origin_raises_no_floor_above_a_live_entry(alice):
    alice.append(publish(1))
    for floor in (0, 2, 4):
        with pytest.raises(LocalProtocolError, match="floor"):
            append(
                alice.head(),
                alice.peer_id,
                [publish(2)],
                alice.held(alice),
                now=NOW,
                lease_s=LEASE_S,
                sign=lambda _: bytes(64),
                floor=floor,
            )


# -- joining --------------------------------------------------------------------------------------


def test_a_newcomer_gets_headers_below_the_floor_and_ends_where_all_are(alice, bob):
    grown(alice, count=200, keep=10)
    compact(alice)
    runs = list(join(bob, alice))
    assert runs[0].joining
    assert not runs[-1].joining
    assert bob.live(alice) == alice.live(alice)
    assert bob.held(alice).head() == alice.head()
    whole = Facility("carol")
    grown_again = Facility("alice")
    grown(grown_again, count=200, keep=10)
    whole.catch_up(grown_again)
    assert names(bob.live(alice)) == names(whole.live(grown_again))


def test_whoever_was_away_lets_go_of_what_ended_meanwhile(alice, bob):
    grown(alice, count=40, keep=1)
    bob.catch_up(alice)
    for start in range(0, 40, 10):
        alice.append(*[withdraw(n) for n in range(start, start + 10) if n % 4])
    compact(alice)
    gone = [each.entry_id for n in range(40) if n % 4 for each in [withdraw(n)]]
    runs = list(join(bob, alice))
    assert {key for run in runs for key in run.withdrawn} == set(gone), "listeners must learn of it"
    assert bob.live(alice) == alice.live(alice)
    for number in (1, 2, 3):
        assert publish(number).body not in bob.images()
        assert publish(number).salt not in bob.images()


@pytest.mark.parametrize("seed", range(6))
def test_everyone_ends_at_one_state_whenever_they_came(seed, alice, monkeypatch):
    monkeypatch.setattr(journal, "MOVED_AT_A_TIME", 3)
    chance = random.Random(seed)
    readers = [Facility(f"reader{n}") for n in range(4)]
    number, live = 0, []
    for _ in range(60):
        entries = []
        for _ in range(chance.randrange(6)):
            if live and chance.random() < 0.55:
                entries.append(withdraw(live.pop(chance.randrange(len(live)))))
            else:
                number += 1
                live.append(number)
                entries.append(publish(number))
        alice.append(*entries)
        if chance.random() < 0.7:
            journal.compact(alice.index, alice, NOW, LEASE_S, 4)
        for reader in readers:
            if chance.random() < 0.07:
                list(join(reader, alice, max_bytes=chance.choice([1, 800, 10**6])))
                assert reader.live(alice) == alice.live(alice)
                assert not read(reader.partners)[alice.peer_id].joining
                gone = set(range(1, number + 1)) - set(live)
                image = reader.images()
                assert not any(publish(n).salt in image for n in gone), "a withdrawn salt"
    assert alice.head().floor > 1, "otherwise nothing was tried"
    for reader in (*readers, Facility("latecomer")):
        list(join(reader, alice))
        assert reader.live(alice) == alice.live(alice)


def test_a_copy_is_passed_on_as_it_is_held(alice, bob):
    grown(alice)
    bob.catch_up(alice)
    compact(alice)
    list(join(bob, alice))
    carol = Facility("carol")
    run = take(carol, alice, batches.load(bob.partners, alice.peer_id, 0))
    assert (run.error, run.joining) == (None, False)
    assert carol.live(alice) == alice.live(alice)


def test_whoever_is_joining_passes_nothing_bare_on(alice, bob):
    grown(alice, count=200, keep=10)
    compact(alice)
    next(join(bob, alice))
    assert read(bob.partners)[alice.peer_id].joining
    assert batches.load(bob.partners, alice.peer_id, 0).batches == ()


def test_entries_are_lacking_only_below_a_signed_floor(alice, bob):
    """Else anyone in between could hide whatever is live."""
    grown(alice)
    first, *rest = alice.batches()
    bare = replace(first, entries=())
    assert isinstance(bob.follow(alice, [bare]).error, WrongContent)
    compact(alice)
    loaded = batches.load(alice.index, alice.peer_id, 0)
    assert loaded.newest is not None
    assert isinstance(take(bob, alice, replace(loaded, newest=None)).error, WrongContent)
    forged = SignedHeader(loaded.newest.header, bytes(64))
    run = take(bob, alice, replace(loaded, newest=forged))
    assert isinstance(run.error, BadSignature)
    assert run.head is None
    hidden = tuple(replace(batch, entries=()) for batch in loaded.batches)
    run = take(bob, alice, replace(loaded, batches=hidden))
    assert isinstance(run.error, WrongContent)
    assert run.joining, "what came until then is not listed"
    assert len(rest) == 7


def test_who_is_joining_acknowledges_nothing(alice, bob):
    grown(alice, count=200, keep=10)
    compact(alice)
    exchange = Exchange(
        bob.peer_id,
        alice.peer_id,
        HeldJournal(None, bob.node_keys),
        HeldJournal(None, alice.node_keys),
        lambda _: bytes(64),
    )
    runs = join(bob, alice)
    for run in runs:
        exchange.handle(stored(alice, run), NOW)
        asked = exchange.handle(Received(Holding(bytes(32), asks=True)), NOW)
        (have,) = [each for each in asked if is_have(each)]
        body = from_bytes(HaveBody, have.message.statement.payload, HAVE_BYTES)
        said = claimed(body, alice.peer_id)
        assert (said.last_seq == 0) == run.joining
        applied = journal.applied(alice.index, alice.peer_id, said)
        assert (applied is None) == run.joining
        assert journal.holds(alice.index, alice.peer_id, said), "yet the origin learns of it"
    assert said.last_seq == alice.head().last_seq


def is_have(effect):
    return isinstance(effect, Send) and isinstance(effect.message, Have)


def stored(origin, run):
    return Stored(
        origin.peer_id, run.head, run.through, more=False, error=run.error, joining=run.joining
    )


def test_the_newest_header_travels_with_what_lacks_its_entries(alice, bob):
    grown(alice)
    compact(alice)
    loaded = batches.load(alice.index, alice.peer_id, 0)
    exchange = Exchange(
        bob.peer_id,
        alice.peer_id,
        HeldJournal(None, bob.node_keys),
        HeldJournal(None, alice.node_keys),
        lambda _: bytes(64),
    )
    message = Batches(alice.peer_id, loaded.batches, loaded.more, loaded.newest)
    (effect,) = exchange.handle(Received(message), NOW)
    assert effect == Store(alice.peer_id, loaded.batches, loaded.more, loaded.newest)
    assert batches.load(alice.index, alice.peer_id, alice.head().batch).newest is None


# -- the rows of bodies ---------------------------------------------------------------------------


def test_room_is_given_back_and_no_byte_of_what_ended_stays(alice, bob, monkeypatch):
    """Rows of bodies are deleted where long runs of them are erased; a live one never moves."""
    monkeypatch.setattr(journal, "MOVED_AT_A_TIME", 64)
    order = random.Random(1)
    gone, live, number = [], [], 0
    for _ in range(110):
        fresh = range(number, number + 60)
        number += 60
        live += fresh
        alice.append(
            *[
                publish(n, b"label%011d" % n + order.randbytes(order.randrange(24, 700)))
                for n in fresh
            ]
        )
        ends = [live.pop(order.randrange(len(live))) for _ in range(max(0, len(live) - 500))]
        gone += ends
        bob.catch_up(alice)
        lived = bob.live(alice)
        traces = [lived[publish(n).entry_id] for n in ends[:3]]
        alice.append(*[withdraw(n) for n in ends])
        compact(alice, least=200)
        list(join(bob, alice, max_bytes=10**6))
        for image in (alice.images(), bob.images()):
            for _, salt, body in traces:
                assert salt not in image
                assert body[16:40] not in image
    assert bob.live(alice) == alice.live(alice)
    assert len(live) == 500
    for tx in (alice.index, bob.partners):
        rows = tx.execute("SELECT count(*) FROM journal_bodies").fetchone()[0]
        assert rows < bodies.RUN + 2 * 500 + 2 * 300, f"{rows} rows for 500 live of {number}"
        orphans = "SELECT count(*) FROM journal_entries e WHERE body IS NOT NULL AND NOT EXISTS"
        orphans += " (SELECT 1 FROM journal_bodies b WHERE b.id = e.body)"
        assert tx.execute(orphans).fetchone()[0] == 0


def label(number):
    return b"label%011d" % number


def test_only_the_middle_of_a_long_run_goes(alice):
    alice.append(*[publish(n) for n in range(bodies.RUN + 20)])
    alice.append(*[withdraw(n) for n in range(10, bodies.RUN + 9)])
    assert bodies.give_back(alice.index) == 0, "one too few"
    alice.append(withdraw(bodies.RUN + 9))
    assert bodies.give_back(alice.index) == bodies.RUN - 2 * bodies.MARGIN
    assert bodies.give_back(alice.index) == 0
    left = alice.index.execute("SELECT id FROM journal_bodies ORDER BY id").fetchall()
    assert [row["id"] for row in left] == [
        *range(1, 11 + bodies.MARGIN),
        *range(11 + bodies.RUN - bodies.MARGIN, bodies.RUN + 21),
    ]
    assert {e.entry_id for e in live_entries(alice.held(alice))} == alice.live(alice).keys()
    assert all(e.kind == EntryKind.PUBLISHED for e in live_entries(alice.held(alice)))
