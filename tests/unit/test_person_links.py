"""People say of records that they are one person's, or two people's: signed, kept, undone."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import pytest

from peer.errors import NotFound
from peer.index import person_links
from peer.search import Question
from protocol.errors import BadSignature, Malformed
from protocol.person_links import LinkBody, Verdict, ordered, own_ref, read_link, sign_link
from protocol.signing import public_key
from protocol.statements import Statement
from tests.facilities import CLINICIAN, JANE, OFFICER, everyone_shares, facilities

OURS, THEIRS, SEED = "1.2.3.1", "1.2.3.2", bytes([7]) * 32
THERE = replace(JANE, issuer="1.2.40.0.13.2", patient_id="B-12345")
SWAPPED = replace(THERE, birth_date="19801705")
"""Probable for Jane, no match: day and month are swapped."""
RENAMED = replace(THERE, names=("Olsen^Jane Ann",))
ASK = Question("Mueller^Jane", "19800517", "F")


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as opened_ones:
        yield opened_ones


async def meet(hospitals, *theirs, ours=JANE):
    """Let Alice have a study of `ours`, and Bob one of each of `theirs`, which all are shared."""
    alice, bob = hospitals
    if ours is not None:
        await alice.acquire(OURS, ours)
    for number, patient in enumerate(theirs):
        await bob.acquire(f"{THEIRS}.{number}", patient)
        await bob.consent(patient)
    await everyone_shares(alice, bob)
    return alice, bob


async def groups(facility, question=ASK):
    """Return the studies of each person that a search lists, and of each doubtful record."""
    answer = await facility.find(question)
    found = defaultdict(set)
    for each in answer.results:
        found[each.person].add(each.study_instance_uid)
    for each in answer.doubtful:
        found[each.ref].add(each.study_instance_uid)
    return answer, list(found.values())


def at(answer, name):
    found = (*answer.results, *answer.doubtful)
    return next(each for each in found if each.facility.name == name)


# -- what a link does -----------------------------------------------------------------------------


async def test_two_records_are_one_person_once_someone_says_so_until_it_is_undone(hospitals):
    alice, _ = await meet(hospitals, SWAPPED)
    answer, before = await groups(alice)
    assert sorted(map(sorted, before)) == [[OURS], [f"{THEIRS}.0"]], "merged without a word"
    said = await alice.person_links.say(
        at(answer, "Alice").ref, at(answer, "Bob").ref, CLINICIAN, same=True
    )
    assert said.sentence == "Records at Alice and Bob: one person."
    answer, after = await groups(alice)
    assert after == [{OURS, f"{THEIRS}.0"}]
    assert all(each.linked for each in answer.results)
    assert [each.link for each in answer.links] == [said.link]
    await alice.person_links.undo(said.link, OFFICER)
    answer, undone = await groups(alice)
    assert sorted(map(sorted, undone)) == sorted(map(sorted, before))
    assert (answer.links, await alice.person_links.list()) == ((), [])


async def test_whoever_is_said_to_be_somebody_else_is_listed_no_more(hospitals):
    alice, _ = await meet(hospitals, THERE)
    answer, before = await groups(alice)
    assert before == [{OURS, f"{THEIRS}.0"}], "a match is one person until someone says no"
    said = await alice.person_links.say(answer.ref, at(answer, "Bob").ref, CLINICIAN, same=False)
    answer, after = await groups(alice)
    assert after == [{OURS}]
    assert [each.same for each in answer.links] == [False], "nothing says that something is hidden"
    await alice.person_links.undo(said.link, CLINICIAN)
    assert (await groups(alice))[1] == before


async def test_a_linked_record_is_found_whatever_is_asked_for_its_other_half(hospitals):
    """Bob writes Jane's former name; a link found with that name holds for questions without it."""
    alice, bob = await meet(hospitals, RENAMED)
    theirs = at(await alice.find(Question("Olsen^Jane", "19800517", "F")), "Bob")
    assert await alice.finds(ASK) == set()
    ours = at(await alice.find(ASK), "Alice")
    await alice.person_links.say(ours.ref, theirs.ref, CLINICIAN, same=True)
    assert await alice.finds(ASK) == {("Bob", f"{THEIRS}.0")}
    assert (await groups(alice))[1] == [{OURS, f"{THEIRS}.0"}]
    alice.links.offline = {bob.peer_id}
    assert ("Bob", f"{THEIRS}.0") in await alice.finds(ASK)


async def test_without_a_patient_of_ones_own_a_link_is_with_what_was_asked_for(hospitals):
    alice, _ = await meet(hospitals, SWAPPED, ours=None)
    answer = await alice.find(ASK)
    (result,) = answer.likely
    assert result.score.tier == "probable"
    said = await alice.person_links.say(answer.ref, result.ref, CLINICIAN, same=False)
    assert said.sentence == "A record at Bob and the person asked for: different people."
    assert await alice.finds(ASK) == set()
    assert len(await alice.finds(Question("Mueller^Jane Ann", "19800517", "F"))) == 1


async def test_saying_the_contrary_replaces_what_was_said(hospitals):
    alice, _ = await meet(hospitals, SWAPPED)
    answer = await alice.find(ASK)
    one, other = at(answer, "Alice").ref, at(answer, "Bob").ref
    await alice.person_links.say(one, other, CLINICIAN, same=True)
    await alice.person_links.say(other, one, CLINICIAN, same=False)
    (standing,) = await alice.person_links.list()
    assert not standing.same


# -- what it does not ----------------------------------------------------------------------------


async def test_a_link_goes_with_the_record_that_was_withdrawn(hospitals):
    alice, bob = await meet(hospitals, SWAPPED)
    answer = await alice.find(ASK)
    await alice.person_links.say(answer.ref, at(answer, "Bob").ref, CLINICIAN, same=True)
    (recorded,) = await bob.consents.list()
    await bob.consents.revoke(recorded.directive.directive_id, "the patient asked", OFFICER)
    await everyone_shares(bob, alice)
    assert await alice.finds(ASK) == set()
    assert await alice.person_links.list() == []


async def test_a_removed_partners_records_take_their_links_with_them(hospitals):
    alice, bob = await meet(hospitals, SWAPPED)
    answer = await alice.find(ASK)
    await alice.person_links.say(answer.ref, at(answer, "Bob").ref, CLINICIAN, same=True)
    await alice.search.forget_partner(bob.peer_id)
    assert await alice.person_links.list() == []


async def test_what_is_not_known_here_cannot_be_linked(hospitals):
    alice, bob = await meet(hospitals, SWAPPED)
    answer = await alice.find(ASK)
    for ref in (own_ref(alice.peer_id, 999), bob.peer_id + bytes(16)):
        with pytest.raises(NotFound):
            await alice.person_links.say(answer.ref, ref, CLINICIAN, same=True)
    with pytest.raises(Malformed):
        await alice.person_links.say(answer.ref, answer.ref, CLINICIAN, same=True)
    with pytest.raises(NotFound):
        await alice.person_links.undo(1, CLINICIAN)


async def test_nothing_of_a_link_leaves_the_facility(hospitals):
    alice, _ = await meet(hospitals, SWAPPED)
    answer = await alice.find(ASK)
    sent, told = len(alice.links.sent), alice.told
    await alice.person_links.say(answer.ref, at(answer, "Bob").ref, CLINICIAN, same=True)
    assert (len(alice.links.sent), alice.told) == (sent, told)


async def test_a_link_that_the_node_did_not_sign_is_not_applied(hospitals):
    """Whoever can write to the index cannot merge two patients."""
    alice, _ = await meet(hospitals, SWAPPED)
    answer, before = await groups(alice)
    one, other = ordered(at(answer, "Alice").ref, at(answer, "Bob").ref)
    body = LinkBody(1, alice.peer_id, 0, one, other, Verdict.SAME, "x")
    forged = sign_link(SEED, body)
    await alice.db.write(lambda tx: person_links.add(tx, one, other, "mallory", forged))
    answer, after = await groups(alice)
    assert after == before
    assert (answer.links, await alice.person_links.list()) == ((), [])


async def test_saying_and_undoing_are_on_record_with_the_patient(hospitals):
    alice, _ = await meet(hospitals, SWAPPED)
    answer = await alice.find(ASK)
    said = await alice.person_links.say(answer.ref, at(answer, "Bob").ref, CLINICIAN, same=True)
    await alice.person_links.undo(said.link, OFFICER)
    records = [json.loads(line) async for line in alice.audit.export(None, None)]
    made = [each for each in records if each["action"] == "person-link"]
    assert [each["detail"]["says"] for each in made] == ["SAME", "NOTHING"]
    assert all(each["patient"] for each in made)


# -- the statement --------------------------------------------------------------------------------

BODY = LinkBody(1, public_key(SEED), 1_800_000_000, bytes(32), bytes([1]) * 48, Verdict.SAME, "p")


def test_a_statement_reads_back_and_no_other_does():
    key = public_key(SEED)
    statement = sign_link(SEED, BODY)
    assert read_link(statement, key, [public_key(bytes(32)), key]) == BODY
    with pytest.raises(BadSignature):
        read_link(statement, key, [public_key(bytes(32))])
    with pytest.raises(BadSignature):
        read_link(Statement(statement.payload, bytes(64)), key, [key])
    with pytest.raises(Malformed):
        read_link(statement, bytes(32), [key])
    for wrong in ({"verdict": 9}, {"one": BODY.other, "other": BODY.one}, {"version": 2}):
        with pytest.raises(Malformed):
            read_link(sign_link(SEED, replace(BODY, **wrong)), key, [key])


def test_only_refs_make_a_pair():
    assert ordered(BODY.other, BODY.one) == (BODY.one, BODY.other)
    for one, other in ((bytes(32), bytes(32)), (bytes(31), bytes(32)), (bytes(40), bytes(32))):
        with pytest.raises(Malformed):
            ordered(one, other)
