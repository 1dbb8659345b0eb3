"""How often one person or program may search other facilities in an hour."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.facilities import ASK_JANE, CLINICIAN, Facility, facilities
from tests.unit.test_checks import DATE, UID

MOST = 3
HOUR_S = 3600
OTHER = replace(CLINICIAN, name="dr.bailey")
EMERGENCY = replace(CLINICIAN, purpose="BTG")


@pytest.fixture
async def pair(tmp_path, monkeypatch):
    monkeypatch.setattr(Facility, "more_settings", {"search": {"per_hour": MOST}})
    async with facilities(tmp_path, "Alice", "Bob") as (alice, bob):
        await bob.acquire(UID, date=DATE)
        await bob.consent()
        await bob.share(alice)
        yield alice, bob


async def search(one, actor=CLINICIAN, reason=""):
    """Return why the one partner was not searched, '' if it was."""
    coverage = (await one.search.search(ASK_JANE, actor, reason)).coverage
    return coverage.not_searched[0].reason if coverage.not_searched else ""


async def test_past_the_bound_nobody_is_asked_and_it_says_until_when(pair):
    alice, _ = pair
    for minute in range(MOST):
        assert await search(alice) == ""
        alice.clock.advance(60 * minute)
    sent = len(alice.links.sent)
    assert "searched 3 times in an hour" in await search(alice)
    assert "from 12:07 UTC on" in await search(alice)
    assert len(alice.links.sent) == sent


async def test_what_was_opened_before_is_found_all_the_same(pair):
    alice, _ = pair
    for _ in range(MOST):
        await search(alice)
    assert await alice.finds() == {("Bob", UID)}


async def test_it_opens_again_when_the_first_of_them_is_an_hour_old(pair):
    alice, _ = pair
    for _ in range(MOST):
        await search(alice)
        alice.clock.advance(600)
    alice.clock.advance(HOUR_S - 600 * MOST - 1)
    assert await search(alice) != ""
    alice.clock.advance(1)
    assert await search(alice) == ""
    assert await search(alice) != "", "the second is not an hour old"


async def test_another_person_is_not_held_up(pair):
    alice, _ = pair
    for _ in range(MOST + 1):
        await search(alice)
    assert await search(alice, OTHER) == ""


async def test_emergency_access_passes_and_counts(pair):
    alice, _ = pair
    for _ in range(MOST):
        await search(alice, EMERGENCY, "unconscious")
    assert await search(alice) != ""
    assert await search(alice, EMERGENCY, "unconscious") == ""


async def test_a_restart_forgets_nothing(pair, tmp_path):
    alice, bob = pair
    for _ in range(MOST):
        await search(alice)
    again = Facility("Alice", alice.clock)
    again.partners, again.knows = alice.partners, alice.knows
    await alice.db.close()
    await alice.partners_db.close()
    async with again.open(tmp_path / "Alice"):
        await bob.share(again)
        assert await search(again) != ""
