"""A thief has copied the database of partners' journals: counting and comparing finds nobody."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from peer.index import opened
from peer.search import Question
from protocol import digest, limits
from tests.facilities import CLINICIAN, JANE, everyone_shares, facilities
from tests.security.test_sealed_digests import entries_held, opens

NAMESAKES = 12
"""Twelve patients of one name, date and sex, as like as two can be, beside Jane and a rare name."""


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as (alice, bob):
        for number in range(NAMESAKES):
            twin = replace(JANE, patient_id=f"MRN-1{number:04}")
            await bob.acquire(f"1.2.3.{number}", twin)
            await bob.consent(twin)
        other = replace(JANE, patient_id="MRN-77777", names=("Xylander^Quirin",), sex="M")
        await bob.acquire("1.2.4.1", replace(other, birth_date="19330211"))
        await bob.consent(other)
        await everyone_shares(alice, bob)
        yield alice, bob


def pieces_of(entries, size=8):
    """Yield the aligned pieces of all that is sealed: equal ones would tell of equal contents."""
    for entry in entries:
        sealed = entry.payload[3:]
        yield from (sealed[at : at + size] for at in range(0, len(sealed) - size + 1, size))


async def test_no_two_labels_and_no_two_pieces_are_equal(hospitals):
    alice, bob = hospitals
    entries = await entries_held(alice, bob)
    labels = [label for entry in entries for label in digest.labels(entry.payload)]
    assert len(labels) == len(set(labels)), "namesakes share a label"
    assert max(Counter(pieces_of(entries)).values()) == 1, "namesakes share what is sealed"


async def test_the_bytes_are_as_even_as_random_ones(hospitals):
    """Frequencies: a chi-square statistic within six standard deviations of what chance makes."""
    alice, bob = hospitals
    data = b"".join(entry.payload[3:] for entry in await entries_held(alice, bob))
    expected = len(data) / 256
    counts = Counter(data)
    statistic = sum((counts[byte] - expected) ** 2 / expected for byte in range(256))
    assert abs(statistic - 255) < 6 * math.sqrt(2 * 255)


async def test_namesakes_and_a_rare_name_have_the_same_form(hospitals):
    alice, bob = hospitals
    entries = await entries_held(alice, bob)
    patients = [e for e in entries if e.payload[1] == digest.BodyKind.PATIENT]
    assert {len(e.payload) for e in patients} == {limits.DIGEST_SIZES[-1]}
    assert {len(digest.labels(e.payload)) for e in patients} == {limits.SLOT_BLOCK}
    studies = [e for e in entries if e.payload[1] == digest.BodyKind.STUDY]
    assert {len(e.payload) for e in studies} <= set(limits.DIGEST_SIZES)


async def test_with_the_thiefs_keys_too_only_who_was_opened_there_is_open(hospitals):
    """The thief has all that is in Alice's index: she has searched for Jane's namesake Xylander."""
    alice, bob = hospitals
    question = Question("Xylander^Quirin", "19330211", "M")
    assert len((await alice.search.search(question, CLINICIAN)).results) == 1
    stolen = await alice.db.read(
        lambda tx: [row["patient_key"] for row in tx.execute("SELECT * FROM opened_patients")]
    )
    assert len(stolen) == await alice.db.read(lambda tx: opened.count(tx, bob.peer_id)) == 1
    entries = await entries_held(alice, bob)
    open_labels = {digest.study_label(key, position) for key in stolen for position in range(64)}
    found = [e for e in entries if open_labels & set(digest.labels(e.payload))]
    assert len(found) == 1
    # Alice's own search keys open nothing of Bob's.
    own = [alice.keys.search_master, alice.keys.pseudonym_key, alice.keys.node_seed]
    assert all(opens(entry, [key * 2 for key in own]) is None for entry in entries)
