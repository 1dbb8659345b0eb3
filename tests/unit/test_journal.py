"""The rules of the journal: what an origin can write, everyone can follow, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.entries import (
    HEADER_DOMAIN,
    Entry,
    EntryKind,
    Header,
    SignedBatch,
    SignedHeader,
    check_entries,
    commitment,
    hole,
    leaf,
)
from protocol.errors import (
    BadSignature,
    Gap,
    LocalProtocolError,
    Malformed,
    ProtocolError,
    RemoteProtocolError,
    Replayed,
    WrongContent,
)
from protocol.forks import ForkFound, ForkProof, verify_fork
from protocol.hashing import plain_hash
from protocol.journal import Standing, append, follow, portions, refill
from protocol.limits import BATCH_BYTES, BATCH_ENTRIES, ENTRY_BODY_BYTES, LEASE_MOST_S
from protocol.nodekeys import only_key
from protocol.records import from_bytes, to_bytes
from protocol.signing import public_key, sign
from tests.simulation.memory import publish, withdraw

SEED = b"alice".ljust(32, b".")
KEYS = only_key(public_key(SEED))
ALICE = public_key(b"root".ljust(32, b"."))
NOW = 1_800_000_000
LEASE_S = 72 * 3600


class Reader:
    """One copy of Alice's journal, kept by hand: the Holding, and the test's own bookkeeping."""

    def __init__(self):
        self.head = None
        self.standings = {}
        self.batches = []
        self.bare = 0

    def find(self, entry_id):
        return self.standings.get(entry_id)

    def epoch(self, number):
        return None

    def live_below(self, seq):
        return sum(1 for s in self.standings.values() if s.leaf is not None and s.seq < seq)

    def live(self):
        return [(key, s) for key, s in self.standings.items() if s.leaf is not None]

    def bare_through(self):
        return self.bare

    def header(self, batch):
        return self.batches[batch].signed_header if 0 <= batch < len(self.batches) else None

    def take(self, advance):
        self.head = advance.head
        self.standings.update(advance.standings)
        self.batches.append(advance.batch)
        if advance.bare:
            self.bare = advance.head.last_seq
        return advance

    def append(self, *entries, now=NOW, lease_s=LEASE_S, floor=None):
        return self.take(write(self, *entries, now=now, lease_s=lease_s, floor=floor))

    def follow(self, batch, floor=0):
        return self.take(follow(self.head, batch, ALICE, KEYS, self, floor))


def write(reader, *entries, now=NOW, lease_s=LEASE_S, floor=None):
    return append(
        reader.head,
        ALICE,
        entries,
        reader,
        now=now,
        lease_s=lease_s,
        sign=lambda header: sign(SEED, HEADER_DOMAIN, header),
        floor=floor,
    )


def resign(batch, **changes):
    """Return the batch with a changed header, validly signed: an origin that breaks the rules."""
    header = replace(from_bytes(Header, batch.header, 512), **changes)
    signed = to_bytes(header)
    return replace(batch, header=signed, signature=sign(SEED, HEADER_DOMAIN, signed))


@pytest.fixture
def alice():
    return Reader()


@pytest.fixture
def bob():
    return Reader()


# -- histories ------------------------------------------------------------------------------------

histories = st.lists(
    st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=5), min_size=1, max_size=8
)


def play(history, alice):
    """Write a random history: publish, publish again, withdraw; yield (batch, live map after)."""
    live, ended = {}, set()
    for number, steps in enumerate(history):
        entries = []
        for step, (publishes, which) in enumerate(steps):
            if publishes and which not in ended:
                entry = publish(which, b"%d-%d-%d" % (number, step, which))
                live[entry.entry_id] = entry.body
                entries.append(entry)
            elif not publishes and withdraw(which).entry_id in live:
                entries.append(withdraw(which))
                del live[withdraw(which).entry_id]
                ended.add(which)
        yield alice.append(*entries).batch, dict(live)


@given(histories)
def test_whoever_follows_agrees_with_the_origin(history):
    alice, bob = Reader(), Reader()
    bodies = {}
    for batch, live in play(history, alice):
        advance = bob.follow(batch)
        for entry in advance.published:
            bodies[entry.entry_id] = entry.payload
        for entry_id in advance.withdrawn:
            bodies.pop(entry_id, None)
        assert bodies == live
        assert bob.head == alice.head
        assert bob.standings == alice.standings
        assert bob.head.live_count == len(live)


@given(histories)
def test_the_state_digest_is_the_sum_over_the_live_entries(history):
    alice = Reader()
    for _ in play(history, alice):
        total = sum(
            int.from_bytes(plain_hash(each.leaf + each.seq.to_bytes(8, "big")), "big")
            for each in alice.standings.values()
            if each.leaf is not None
        )
        assert int.from_bytes(alice.head.state_digest, "big") == total % 2**256


@given(histories, st.data())
def test_no_altered_byte_is_accepted(history, data):
    alice, bob = Reader(), Reader()
    batches = [batch for batch, _ in play(history, alice)]
    target = data.draw(st.integers(0, len(batches) - 1), label="batch")
    for batch in batches[:target]:
        bob.follow(batch)
    encoded = bytearray(to_bytes(batches[target]))
    position = data.draw(st.integers(0, len(encoded) - 1), label="byte")
    encoded[position] ^= data.draw(st.integers(1, 255), label="change")
    try:
        altered = from_bytes(SignedBatch, bytes(encoded), BATCH_BYTES)
    except RemoteProtocolError:
        return
    if altered == batches[target]:
        return  # MessagePack writes one value in several ways; what was signed is unchanged.
    with pytest.raises(RemoteProtocolError):
        follow(bob.head, altered, ALICE, KEYS, bob)


@given(histories, st.data())
def test_only_the_next_batch_is_accepted(history, data):
    alice, bob = Reader(), Reader()
    batches = [batch for batch, _ in play(history, alice)]
    held = data.draw(st.integers(0, len(batches)), label="held")
    for batch in batches[:held]:
        bob.follow(batch)
    for number, batch in enumerate(batches):
        if number < held:
            with pytest.raises(Replayed):
                follow(bob.head, batch, ALICE, KEYS, bob)
        elif number > held:
            with pytest.raises(Gap):
                follow(bob.head, batch, ALICE, KEYS, bob)


@given(histories)
def test_holes_of_ended_entries_are_followed_to_the_same_head(history):
    alice, bob = Reader(), Reader()
    batches = [batch for batch, _ in play(history, alice)]
    live_at = {s.seq for s in alice.standings.values() if s.leaf is not None}
    open_holes = {}
    for batch in batches:
        entries = tuple(e if e.seq in live_at else hole(e) for e in batch.entries)
        advance = bob.follow(replace(batch, entries=entries))
        open_holes.update((entry.seq, entry) for entry in advance.holes)
        for seq in advance.erased:
            open_holes.pop(seq, None)
    assert bob.head == alice.head
    assert not open_holes, "a hole of an ended entry was left without its justification"


# -- writing --------------------------------------------------------------------------------------


def test_batch_zero_of_an_empty_journal(alice, bob):
    advance = alice.append()
    assert advance.head.batch == 0
    assert advance.head.last_seq == 0
    assert advance.header.first_seq == 1
    assert advance.header.previous == bytes(32)
    assert bob.follow(advance.batch).head == alice.head


def test_an_empty_batch_renews_the_lease_and_changes_nothing_else(alice, bob):
    first = alice.append(publish(1))
    renewal = alice.append(now=NOW + 21_600)
    bob.follow(first.batch)
    assert bob.follow(renewal.batch).published == ()
    assert bob.head.fresh_until == NOW + 21_600 + LEASE_S
    assert bob.head.state_digest == first.head.state_digest
    assert bob.head.last_seq == first.head.last_seq


def test_publishing_a_live_id_again_replaces_the_older_entry(alice, bob):
    bob.follow(alice.append(publish(1, b"old"), publish(2)).batch)
    advance = bob.follow(alice.append(publish(1, b"new")).batch)
    assert advance.erased == {1}
    assert advance.head.live_count == 2
    assert bob.standings[publish(1).entry_id].seq == 3


def test_an_entry_that_is_withdrawn_in_its_own_batch_is_never_announced(alice, bob):
    advance = bob.follow(alice.append(publish(1), withdraw(1)).batch)
    assert advance.published == ()
    assert advance.withdrawn == (publish(1).entry_id,)
    assert advance.erased == {1}, "its body must not be kept"


def test_a_withdrawn_id_never_returns(alice):
    alice.append(publish(1), withdraw(1))
    with pytest.raises(LocalProtocolError, match="used again"):
        write(alice, publish(1))


def test_only_a_live_entry_can_be_withdrawn(alice):
    with pytest.raises(LocalProtocolError, match="not live"):
        write(alice, withdraw(1))
    alice.append(publish(1), withdraw(1))
    with pytest.raises(LocalProtocolError):
        write(alice, withdraw(1))


@pytest.mark.parametrize(
    ("salt", "body"),
    [(b"short", b"body"), (bytes(16), b""), (bytes(16), bytes(ENTRY_BODY_BYTES + 1))],
)
def test_an_entry_without_its_salt_or_body_is_not_written(alice, salt, body):
    with pytest.raises(LocalProtocolError):
        write(alice, replace(publish(1), salt=salt, body=body))


@pytest.mark.parametrize("lease_s", [0, -1, LEASE_MOST_S + 1])
def test_a_lease_has_bounds(alice, lease_s):
    with pytest.raises(LocalProtocolError, match="lease"):
        write(alice, lease_s=lease_s)


def test_entries_are_cut_into_batches_that_may_travel():
    many = [publish(n, b".") for n in range(BATCH_ENTRIES + 1)]
    assert [len(run) for run in portions(many)] == [BATCH_ENTRIES, 1]
    large = [publish(n, bytes(ENTRY_BODY_BYTES)) for n in range(200)]
    runs = portions(large)
    assert [entry for run in runs for entry in run] == large
    assert len(runs) == 2
    assert len(to_bytes(write(Reader(), *runs[0]).batch)) <= BATCH_BYTES
    with pytest.raises(LocalProtocolError, match="portions"):
        write(Reader(), *large)


# -- reading --------------------------------------------------------------------------------------


def test_a_batch_signed_by_another_key_is_refused(alice, bob):
    batch = alice.append(publish(1)).batch
    with pytest.raises(BadSignature):
        follow(None, batch, ALICE, only_key(public_key(bytes(32))), bob)


def test_a_batch_of_another_origin_is_refused(alice, bob):
    batch = resign(alice.append(publish(1)).batch, origin=bytes(32))
    with pytest.raises(Malformed, match="another origin"):
        bob.follow(batch)


def test_a_header_signed_as_something_else_is_refused(alice, bob):
    batch = alice.append().batch
    with pytest.raises(BadSignature):
        bob.follow(replace(batch, signature=sign(SEED, "have", batch.header)))


def test_published_bodies_cannot_be_passed_off_as_withdrawals(alice, bob):
    batch = alice.append(publish(1), publish(2)).batch
    ended = Entry(1, publish(1).entry_id, EntryKind.WITHDRAWAL, b"", b"")
    with pytest.raises(WrongContent, match="altered"):
        bob.follow(replace(batch, entries=(ended, batch.entries[1])))


@pytest.mark.parametrize(
    "changes",
    [
        {"live_count": 2},
        {"state_digest": bytes(32)},
        {"first_seq": 2, "last_seq": 2},
        {"floor": 0},
        {"floor": 3},
        {"fresh_until": NOW},
        {"fresh_until": NOW + LEASE_MOST_S + 1},
        {"previous": b"\1" * 32},
        {"version": 2},
    ],
    ids=str,
)
def test_a_header_that_breaks_the_rules_is_refused_though_it_is_signed(alice, bob, changes):
    batch = resign(alice.append(publish(1)).batch, **changes)
    with pytest.raises(ProtocolError):
        bob.follow(batch)
    assert bob.head is None


def test_another_epoch_is_not_followed_without_its_record(alice, bob):
    batch = resign(alice.append().batch, epoch=1)
    with pytest.raises(Gap, match="epoch"):
        bob.follow(batch)


def test_an_origin_cannot_reuse_a_withdrawn_id(alice, bob):
    bob.follow(alice.append(publish(1), withdraw(1)).batch)
    alice.standings.clear()  # Alice's memory fails her.
    batch = alice.append(publish(1)).batch
    with pytest.raises(Malformed, match="used again"):
        bob.follow(batch)


def test_an_origin_cannot_withdraw_what_is_not_live(alice, bob):
    bob.follow(alice.append(publish(2)).batch)
    alice.standings[publish(1).entry_id] = Standing(0, bytes(32))
    batch = alice.append(withdraw(1)).batch
    with pytest.raises(Malformed, match="not live"):
        bob.follow(batch)


def test_the_floor_rises_only_below_all_that_is_live(alice, bob):
    bob.follow(alice.append(publish(1), publish(2), publish(3), withdraw(2)).batch)
    tail = alice.append(publish(1, b"moved"))
    for floor in (4, 5, 6):
        with pytest.raises(Malformed, match="live"):
            bob.follow(resign(tail.batch, floor=floor))
    bob.follow(tail.batch)
    moved = write(alice, publish(3, b"moved"))
    with pytest.raises(Malformed, match="live"):
        bob.follow(resign(moved.batch, floor=6))
    advance = bob.follow(resign(moved.batch, floor=5))
    assert advance.head.floor == 5
    alice.take(advance)
    lowered = resign(write(alice).batch, floor=4)
    with pytest.raises(Malformed, match="floor"):
        bob.follow(lowered)


def test_what_was_withdrawn_below_the_floor_is_forgotten_by_all(alice, bob):
    bob.follow(alice.append(publish(1), withdraw(1)).batch)
    raised = resign(write(alice).batch, floor=3)
    bob.follow(raised)
    alice.take(follow(alice.head, raised, ALICE, KEYS, alice))
    forgetful = Reader()
    forgetful.head, forgetful.batches = bob.head, list(bob.batches)
    again = alice.append(publish(1)).batch
    assert bob.follow(again).head == forgetful.follow(again).head


def test_a_batch_that_raises_the_floor_is_judged_by_the_floor_before(alice, bob):
    bob.follow(alice.append(publish(1), withdraw(1)).batch)
    honest = alice.append(publish(2)).batch
    again = replace(honest.entries[0], entry_id=publish(1).entry_id)
    batch = resign(replace(honest, entries=(again,)), floor=3, entries_root=leaf(again))
    with pytest.raises(Malformed, match="withdrawn is used again"):
        bob.follow(batch)


def test_a_hole_is_open_until_its_withdrawal_comes(alice, bob):
    first = alice.append(publish(1), publish(2)).batch
    second = alice.append(withdraw(1)).batch
    with_hole = replace(first, entries=(hole(first.entries[0]), first.entries[1]))
    advance = bob.follow(with_hole)
    assert [entry.seq for entry in advance.holes] == [1]
    assert bob.follow(second).erased == {1}


def test_a_hole_with_another_commitment_is_refused(alice, bob):
    batch = alice.append(publish(1)).batch
    forged = replace(hole(batch.entries[0]), payload=commitment(bytes(16), b"other"))
    with pytest.raises(WrongContent):
        bob.follow(replace(batch, entries=(forged,)))


def test_a_held_batch_fills_what_is_missing(alice, bob):
    batch = alice.append(publish(1)).batch
    bob.follow(replace(batch, entries=(hole(batch.entries[0]),)))
    assert refill(bob.header(0), batch) == batch.entries
    forged = replace(batch, entries=(replace(batch.entries[0], payload=b"forged"),))
    with pytest.raises(WrongContent):
        refill(bob.header(0), forged)
    with pytest.raises(Replayed):
        refill(bob.header(0), alice.append().batch)


def test_a_hole_has_the_leaf_of_what_it_was():
    entry = Entry(7, bytes(16), EntryKind.PUBLISHED, b"s" * 16, b"body")
    assert leaf(hole(entry)) == leaf(entry)
    assert hole(hole(entry)) == hole(entry)
    assert hole(entry).payload == commitment(b"s" * 16, b"body")


@pytest.mark.parametrize(
    "entry",
    [
        Entry(1, bytes(16), EntryKind.PUBLISHED, b"", b"body"),
        Entry(1, bytes(16), EntryKind.PUBLISHED, bytes(16), b""),
        Entry(1, bytes(16), EntryKind.WITHDRAWAL, bytes(16), b""),
        Entry(1, bytes(16), EntryKind.WITHDRAWAL, b"", b"why"),
        Entry(1, bytes(16), EntryKind.HOLE, bytes(16), bytes(32)),
        Entry(1, bytes(16), EntryKind.HOLE, b"", bytes(31)),
    ],
)
def test_salt_and_payload_must_fit_the_kind(alice, entry):
    header = from_bytes(Header, alice.append(publish(1)).batch.header, 512)
    with pytest.raises(Malformed, match="kind"):
        check_entries(header, (entry,))


# -- forks ----------------------------------------------------------------------------------------


def test_two_batches_in_one_place_are_a_fork(alice, bob):
    mallory = Reader()
    for each in (alice, mallory):
        each.append(publish(1))
    bob.follow(alice.batches[0])
    bob.follow(alice.append(publish(2)).batch)
    with pytest.raises(ForkFound) as found:
        bob.follow(mallory.append(publish(3)).batch)
    assert verify_fork(found.value.proof, ALICE, KEYS) == (0, 1)


def test_a_batch_that_continues_another_history_is_a_fork(alice, bob):
    mallory = Reader()
    bob.follow(alice.append(publish(1)).batch)
    mallory.append(publish(2))
    with pytest.raises(ForkFound) as found:
        bob.follow(mallory.append().batch)
    assert verify_fork(found.value.proof, ALICE, KEYS) == (0, 0)


def test_one_history_proves_no_fork(alice):
    for number in range(3):
        alice.append(publish(number))
    headers = [batch.signed_header for batch in alice.batches]
    for first in headers:
        for second in headers:
            with pytest.raises(Malformed, match="no fork"):
                verify_fork(ForkProof(first, second), ALICE, KEYS)


def test_a_forged_header_proves_nothing(alice):
    signed = alice.append().batch.signed_header
    forged = SignedHeader(signed.header[:-1] + b"\1", signed.signature)
    with pytest.raises(BadSignature):
        verify_fork(ForkProof(signed, forged), ALICE, KEYS)
