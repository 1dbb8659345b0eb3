"""Checking a partner with studies that are known to be there: by ordinary searches, each once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.errors import NotFound
from peer.index.frontiers import Frontier
from protocol.agreement import Terms
from protocol.completeness import Study
from protocol.errors import Refusal
from protocol.matching.keys import Demographics
from tests.facilities import CLINICIAN, JANE, OFFICER, facilities

UID = "1.2.840.1"
PERSON = Demographics(("Mueller^Jane",), "19800517", "F")
DATE = "20260702"
KNOWN = Study(study_date=DATE, accession_number="A1")
DAY_S = 86_400


@pytest.fixture
async def three(tmp_path):
    """Alice checks Bob, who has Jane's study, and Carol, who has none."""
    async with facilities(tmp_path, "Alice", "Bob", "Carol") as (alice, bob, carol):
        alice.reciprocity.completeness.look_with(alice.search.look)
        await bob.acquire(UID, date=DATE)
        await bob.consent()
        await share(bob, alice, carol)
        yield alice, bob, carol


async def share(one, *others):
    await one.share(*others)


async def check(one, other, known=KNOWN, person=PERSON):
    found = await one.reciprocity.completeness.check(other.peer_id, person, known, CLINICIAN)
    return found.to_json()


async def estimate(one, other):
    found = await one.reciprocity.completeness.estimate(other.peer_id)
    return found.found, found.missed, found.unchecked


async def test_a_study_that_is_there_is_found_and_one_that_is_not_is_missed(three):
    alice, bob, carol = three
    there, nowhere = await check(alice, bob), await check(alice, carol)
    assert (there["verdict"], there["found_study_instance_uid"]) == ("found", UID)
    assert (nowhere["verdict"], nowhere["found_study_instance_uid"]) == ("missed", "")
    assert await estimate(alice, bob) == (1, 0, 0)
    assert await estimate(alice, carol) == (0, 1, 0)


async def test_only_the_partner_is_asked_and_it_sees_a_search_like_any_other(three):
    alice, bob, carol = three
    bobs, carols = await evaluations(bob), await evaluations(carol)
    await alice.find()
    await check(alice, bob)
    assert await evaluations(bob) == bobs + 2
    assert await evaluations(carol) == carols + 1
    sent = [each for each in alice.links.sent if b"evaluate" in each]
    assert len({len(each) for each in sent}) == 1
    records = await bob.db.read(lambda tx: [r["record"] for r in _audit(tx)])
    assert not any("check" in each for each in records)


async def test_it_counts_against_the_quota_and_past_it_says_nothing(three):
    alice, bob, _ = three
    alice.partners[0] = replace(alice.partners[0], their_terms=Terms(daily_searches=1))
    assert alice.partners[0].peer_id == bob.peer_id
    await alice.find()
    said = await check(alice, bob)
    assert (said["verdict"], said["code"]) == ("unchecked", "quota")
    assert said["found_study_instance_uid"] == UID, "who was opened before is found all the same"
    assert await estimate(alice, bob) == (0, 0, 1)


@pytest.mark.parametrize("why", ["offline", "refused", "lease-over", "no-journal", "removed"])
async def test_a_partner_that_could_not_be_searched_has_missed_nothing(three, why):
    alice, _, carol = three
    match why:
        case "offline":
            alice.links.offline.add(carol.peer_id)
        case "refused":
            carol.frontiers[alice.peer_id] = Frontier()
        case "lease-over":
            alice.freshness[carol.peer_id].lease_over = True
        case "no-journal":
            del alice.freshness[carol.peer_id]
        case "removed":
            alice.remove(carol)
    assert (await check(alice, carol))["verdict"] == "unchecked"
    assert await estimate(alice, carol) == (0, 0, 1)


async def test_it_is_looked_for_again_and_found_when_it_has_come(three):
    alice, _, carol = three
    first = await check(alice, carol)
    await carol.acquire("1.2.840.2", date=DATE)
    await carol.consent()
    await share(carol, alice)
    again = await alice.reciprocity.completeness.again(carol.peer_id, first["check"], CLINICIAN)
    assert again.to_json()["verdict"] == "missed", "it has another accession number"
    assert (await check(alice, carol, Study(study_date=DATE)))["verdict"] == "found"
    assert await estimate(alice, carol) == (1, 1, 0)


async def test_a_study_that_was_withdrawn_was_found_once(three):
    """The check says what was so when it was made; a withdrawal is no miss."""
    alice, bob, _ = three
    await check(alice, bob)
    (directive,) = await bob.consents.list()
    await bob.consents.revoke(directive.directive.directive_id, "", OFFICER)
    await share(bob, alice)
    assert await estimate(alice, bob) == (1, 0, 0)


async def test_a_study_counts_once_however_it_is_named(three):
    alice, bob, _ = three
    for known in (KNOWN, KNOWN, Study(study_date=DATE), Study(UID, DATE)):
        await check(alice, bob, known)
    other = Demographics(("Mueller^Jane^Ann",), "19800517")
    await check(alice, bob, Study(study_date=DATE), other)
    assert await estimate(alice, bob) == (1, 0, 0)
    assert len(await alice.reciprocity.completeness.list(bob.peer_id, 10)) == 1


async def test_a_copy_that_is_held_here_shows_nothing(three):
    alice, _, carol = three
    await alice.acquire("1.2.840.3", JANE, date=DATE, origin=carol.peer_id)
    assert (await check(alice, carol, Study("1.2.840.3", DATE)))["verdict"] == "missed"


async def test_checks_of_more_than_a_year_ago_say_nothing_of_today(three):
    alice, _, carol = three
    await check(alice, carol)
    alice.clock.advance(366 * DAY_S)
    assert await estimate(alice, carol) == (0, 0, 0)


async def test_what_was_named_by_mistake_is_dropped_and_on_record(three):
    alice, bob, carol = three
    missed = await check(alice, carol)
    completeness = alice.reciprocity.completeness
    with pytest.raises(NotFound):
        await completeness.drop(bob.peer_id, missed["check"], "another partner's", CLINICIAN)
    await completeness.drop(carol.peer_id, missed["check"], "another clinic", CLINICIAN)
    assert await estimate(alice, carol) == (0, 0, 0)
    with pytest.raises(NotFound):
        await completeness.again(carol.peer_id, missed["check"], CLINICIAN)
    records = await alice.db.read(lambda tx: [r["record"] for r in _audit(tx)])
    assert any("another clinic" in each for each in records)


async def test_without_birth_date_or_identifier_nobody_is_asked(three):
    alice, bob, _ = three
    sent = len(alice.links.sent)
    with pytest.raises(Refusal) as refused:
        await check(alice, bob, person=Demographics(("Mueller^Jane",)))
    assert refused.value.code == "too-little"
    assert len(alice.links.sent) == sent
    assert await estimate(alice, bob) == (0, 0, 0)


async def evaluations(facility):
    found = await facility.db.read(
        lambda tx: [r for r in _audit(tx) if '"evaluate"' in r["record"]]
    )
    return len(found)


def _audit(tx):
    return tx.execute("SELECT record FROM audit ORDER BY number").fetchall()
