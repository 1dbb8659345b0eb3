"""One question, every facility, one list: what is found, shown, remembered and recorded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.actors import known_as
from peer.index import opened, publications, studies
from peer.search import Question
from protocol.errors import Refusal
from protocol.identifiers import PatientIdentifier
from protocol.limits import EVALUATION_BYTES
from protocol.messages import AudienceAnswer, Evaluate, Evaluated
from tests.facilities import (
    ASK_JANE,
    CLINICIAN,
    JANE,
    everyone_shares,
    facilities,
)

STUDY = "1.2.3.1"
LATER = "1.2.3.2"
DAY = 24 * 3600


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob", "Carol") as opened_ones:
        yield opened_ones


async def published(facility):
    return await facility.db.read(publications.patients)


@pytest.mark.parametrize(
    "question",
    [
        Question("Müller^Jane", "19800517", "F"),
        Question("Muller^Jane", "19800517", "F"),
        Question("Jane Mueller", "19800517"),
        Question("Jane^Mueller", "19800517", "F"),
        Question("Mueller, Jane", "19801705", "F"),
        Question("", "", "", (PatientIdentifier("1.2.40.0.13.1", "MRN-00017"),)),
    ],
    ids=["umlaut", "misspelt", "free text", "swapped", "day and month swapped", "identifier"],
)
async def test_a_misspelt_or_reordered_question_finds_the_patient(hospitals, question):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)
    assert await alice.finds(question) == {("Bob", STUDY)}


async def test_somebody_else_finds_nothing_and_nothing_is_remembered(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)
    assert await alice.finds(Question("Doe^John", "19610203", "M")) == set()
    assert await alice.db.read(lambda tx: opened.count(tx, bob.peer_id)) == 0


async def test_a_study_appears_without_asking_again_and_while_its_origin_is_offline(hospitals):
    alice, bob, carol = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}

    await bob.acquire(LATER)
    await everyone_shares(*hospitals)
    alice.links.offline = {bob.peer_id}
    answer = await alice.find()
    assert {r.study_instance_uid for r in answer.results} == {STUDY, LATER}
    assert "Searched 2 of 3 facilities. Not searched: Bob (offline since" in (
        answer.coverage.sentence
    )
    # Carol has never asked for Jane: without Bob she finds nothing, and is told why.
    carol.links.offline = {bob.peer_id}
    assert await carol.finds() == set()
    assert (await carol.find()).coverage.not_searched[0].code == "offline"


async def test_own_studies_are_in_the_same_list_by_the_same_rules(hospitals):
    alice, bob, _ = hospitals
    at_alice = replace(JANE, issuer="1.2.3.4", patient_id="OTHER-1", names=("Müller^Jane",))
    await alice.acquire("1.2.7.1", at_alice)
    await bob.acquire(STUDY, date="20250101")
    await bob.consent()
    await everyone_shares(*hospitals)
    answer = await alice.find()
    assert [(r.study_instance_uid, r.local, r.held_here) for r in answer.results] == [
        ("1.2.7.1", True, True),
        (STUDY, False, False),
    ]
    assert len(answer.persons) == 1, "two descriptions of one person were not grouped"


async def test_a_retrieved_study_is_marked_and_never_published_again(hospitals):
    alice, bob, carol = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await alice.acquire(STUDY, origin=bob.peer_id)
    await alice.consent()
    await everyone_shares(*hospitals)
    (result,) = (await alice.find()).results
    assert (result.facility.name, result.held_here) == ("Bob", True)
    assert await carol.finds() == {("Bob", STUDY)}
    assert await published(alice) == []


async def test_what_retrieval_needs_is_known_after_the_search(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)
    assert await alice.search.prior(bob.peer_id, STUDY) is None, "nobody has searched yet"
    await alice.find()
    prior = await alice.search.prior(bob.peer_id, STUDY)
    manifest = await bob.db.read(lambda tx: studies.get(tx, STUDY))
    assert prior.digest.manifest_root == manifest.manifest_root
    assert prior.digest.manifest_version == 1
    assert prior.digest.instances == 1
    behind = await bob.db.read(lambda tx: publications.behind(tx, prior.retrieve_handle))
    assert behind == STUDY


async def test_a_question_without_date_and_identifier_is_refused_with_a_sentence(hospitals):
    alice, *_ = hospitals
    with pytest.raises(Refusal) as refused:
        await alice.find(Question("Mueller^Jane", ""))
    assert refused.value.code == "too-little"
    assert "birth date" in refused.value.reason
    assert alice.links.sent == []


async def test_every_partner_gets_the_same_bytes_whatever_is_asked(hospitals):
    alice, *_ = hospitals
    await alice.find()
    one, other = alice.links.sent
    assert one == other
    await alice.find(Question("Nguyen^Van An", "19910102", "M"))
    assert {len(each) for each in alice.links.sent} == {len(one)}
    assert len(one) > 2 * EVALUATION_BYTES


async def test_a_journal_past_its_lease_is_not_listed(hospitals):
    alice, bob, carol = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}
    alice.clock.advance(73 * 3600)
    await carol.publish.renew()
    await carol.share(alice)
    alice.freshness[bob.peer_id].lease_over = True
    assert await alice.finds() == set()
    (uncovered,) = (await alice.find()).coverage.not_searched
    assert (uncovered.facility.name, uncovered.code) == ("Bob", "lease-over")
    assert await alice.db.read(lambda tx: opened.count(tx, bob.peer_id)) == 1
    alice.clock.advance(30 * DAY)
    await alice.find()
    assert await alice.db.read(lambda tx: opened.count(tx, bob.peer_id)) == 0


async def test_a_refusal_and_a_deadline_are_named_in_the_coverage(hospitals):
    alice, bob, carol = hospitals
    bob.partners = [replace(p, active=False) for p in bob.partners]

    async def never(message, partner):
        raise TimeoutError

    carol.links.handlers[Evaluate] = never
    codes = {u.facility.name: u.code for u in (await alice.find()).coverage.not_searched}
    assert codes == {"Bob": "refused", "Carol": "timed-out"}


async def test_both_sides_have_the_search_on_record_and_the_origin_not_the_person(hospitals):
    alice, bob, _ = hospitals
    await alice.find()
    theirs = [line async for line in bob.audit.export(None, None)]
    evaluated = [line for line in theirs if '"evaluate"' in line]
    assert len(evaluated) == 1
    assert known_as(CLINICIAN, alice.keys.pseudonym_key) in evaluated[0]
    assert "ueller" not in evaluated[0]
    assert CLINICIAN.name not in evaluated[0]
    ours = [line async for line in alice.audit.export(None, None)]
    assert any('"search"' in line and ASK_JANE.name in line for line in ours)


async def test_a_partner_that_has_not_accepted_us_or_sent_nothing_yet_is_named(hospitals):
    alice, bob, carol = hospitals
    alice.links.offline = {bob.peer_id}
    alice.links.error_code = "not-accepted"
    del alice.freshness[carol.peer_id]
    coverage = (await alice.find()).coverage
    codes = {u.facility.name: u.code for u in coverage.not_searched}
    assert codes == {"Bob": "not-accepted", "Carol": "no-journal"}
    assert coverage.sentence.startswith("Searched 1 of 3 facilities. Not searched: ")
    assert coverage.to_json()["not_searched"][1]["reason"] == "has not sent its journal yet"


async def test_a_partner_that_answers_nonsense_is_named_and_harms_nobody(hospitals):
    alice, bob, carol = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)

    async def nonsense(message, partner):
        points = b"\xff" * EVALUATION_BYTES
        return Evaluated((AudienceAnswer(1, points, points),) * 2)

    carol.links.handlers[Evaluate] = nonsense
    answer = await alice.find()
    assert [u.code for u in answer.coverage.not_searched] == ["faulty"]
    assert [r.study_instance_uid for r in answer.results] == [STUDY]
