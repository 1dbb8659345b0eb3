"""Labels stand in a small table or in the great one; a search does not notice."""

from __future__ import annotations

import pytest

from peer.index import labels
from peer.index.batches import purge
from tests.simulation.memory import Facility, publish, withdraw


def body(label, number):
    return label.ljust(16, b".") + b"%08d" % number


@pytest.fixture(params=[1, 3, 1000], ids="merged after {} labels".format)
def apart(request, monkeypatch):
    monkeypatch.setattr(labels, "LABELS_APART", request.param)


@pytest.fixture
def alice():
    return Facility("alice")


@pytest.fixture
def bob():
    return Facility("bob")


def found(bob, label, origin=None):
    hits = labels.find(bob.partners, label.ljust(16, b"."), origin)
    return sorted(hit.body for hit in hits)


def test_every_live_entry_is_found_wherever_its_label_stands(apart, alice, bob):
    for number in range(1, 8):
        alice.append(publish(number, body(b"shared" if number % 2 else b"other", number)))
        bob.catch_up(alice)
    assert found(bob, b"shared") == [body(b"shared", n) for n in (1, 3, 5, 7)]
    assert found(bob, b"other", alice.peer_id) == [body(b"other", n) for n in (2, 4, 6)]
    assert found(bob, b"other", bob.peer_id) == []


def test_many_labels_are_looked_up_at_once(apart, monkeypatch, alice, bob):
    monkeypatch.setattr(labels, "LABELS_AT_A_TIME", 3)
    for number in range(1, 8):
        alice.append(publish(number, body(b"shared" if number % 2 else b"%d" % number, number)))
        bob.catch_up(alice)
    asked = [each.ljust(16, b".") for each in (b"2", b"4", b"5", b"shared", b"6", b"none")]
    hits = labels.first_of_each(bob.partners, asked, alice.peer_id)
    expected = {b"2": 2, b"4": 4, b"6": 6, b"shared": 1}
    assert {label.rstrip(b"."): hit.seq for label, hit in hits.items()} == expected
    assert all(hit.body.startswith(label) for label, hit in hits.items())
    assert labels.first_of_each(bob.partners, asked, bob.peer_id) == {}


def test_labels_that_begin_alike_are_told_apart(apart, alice, bob):
    alike = [b"alike" + bytes([number]) * 11 for number in range(4)]
    for number, label in enumerate(alike[:3]):
        alice.append(publish(number, body(label, number)))
    bob.catch_up(alice)
    assert [found(bob, label) for label in alike] == [
        *([body(label, number)] for number, label in enumerate(alike[:3])),
        [],
    ]
    hits = labels.first_of_each(bob.partners, alike, alice.peer_id)
    assert {label: hit.body for label, hit in hits.items()} == {
        label: body(label, number) for number, label in enumerate(alike[:3])
    }
    alice.append(withdraw(1))
    bob.catch_up(alice)
    assert [len(found(bob, label)) for label in alike] == [1, 0, 1, 0]


def test_what_is_withdrawn_or_replaced_is_found_no_more(apart, alice, bob):
    for number in (1, 2, 3, 4):
        alice.append(publish(number, body(b"shared", number)))
        bob.catch_up(alice)
    alice.append(withdraw(2), publish(3, body(b"new", 3)))
    bob.catch_up(alice)
    assert found(bob, b"shared") == [body(b"shared", 1), body(b"shared", 4)]
    assert found(bob, b"new") == [body(b"new", 3)]


def test_what_is_withdrawn_in_the_run_that_brought_it_leaves_no_label(apart, alice, bob):
    alice.append(publish(1, body(b"one", 1)), publish(2, body(b"two", 2)))
    alice.append(publish(1, body(b"late", 1)), withdraw(2))
    bob.catch_up(alice)
    rows = bob.partners.execute(
        "SELECT prefix, seq FROM journal_labels UNION SELECT prefix, seq FROM journal_new_labels"
    )
    assert [tuple(row) for row in rows] == [(b"late.", 3)]


def test_a_merge_takes_labels_of_every_beginning(monkeypatch, alice, bob):
    monkeypatch.setattr(labels, "LABELS_APART", 1)
    ends = [bytes([first]) + bytes([rest]) * 15 for first in range(256) for rest in (0, 255)]
    for number, label in enumerate(ends):
        alice.append(publish(number, body(label, number)))
    bob.catch_up(alice)
    assert bob.partners.execute("SELECT count(*) FROM journal_labels").fetchone()[0] == len(ends)
    assert all(found(bob, label) == [body(label, n)] for n, label in enumerate(ends))


def test_labels_of_a_removed_partner_are_gone(apart, alice, bob):
    for number in range(1, 5):
        alice.append(publish(number, body(b"shared", number)))
        bob.catch_up(alice)
    purge(bob.partners, alice.peer_id)
    assert found(bob, b"shared") == []
    rows = bob.partners.execute(
        "SELECT prefix FROM journal_labels UNION SELECT prefix FROM journal_new_labels"
    )
    assert rows.fetchall() == []
