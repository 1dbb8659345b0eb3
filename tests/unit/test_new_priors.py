"""New studies of patients who were searched for appear by themselves, each once, for who asked."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from peer.actors import Actor
from peer.config import People as PeopleSettings
from peer.index import new_priors
from peer.notify import Notify
from peer.notify.webhook import NotTaken
from peer.people import People
from peer.search import Question
from peer.search.new_priors import NewPriors
from tests.facilities import ASK_JANE, CLINICIAN, JANE, OFFICER, everyone_shares, facilities

STUDY, LATER, THIRD = "1.2.3.1", "1.2.3.2", "1.2.3.3"
DAY = 24 * 3600
COLLEAGUE = replace(CLINICIAN, name="dr.yang")


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as (alice, bob):
        await bob.acquire(STUDY)
        await bob.consent()
        await everyone_shares(alice, bob)
        yield alice, bob


async def publishes(bob, alice, uid, patient=JANE):
    await bob.acquire(uid, patient)
    await everyone_shares(bob, alice)


async def news(facility, actor=CLINICIAN):
    found = await facility.search.new_priors.listed(actor)
    return [(each.study.study_instance_uid, each.row.seen_at is not None) for each in found]


async def test_a_study_that_comes_later_is_found_without_asking_and_once(hospitals):
    alice, bob = hospitals
    await alice.find()
    assert await alice.search.new_priors.look() == 0, "what the search has listed is no news"
    await publishes(bob, alice, LATER)
    asked = len(alice.links.sent)
    assert await alice.search.new_priors.look() == 1
    assert len(alice.links.sent) == asked, "somebody was asked"
    assert await alice.search.new_priors.look() == 0
    (prior,) = await alice.search.new_priors.listed(CLINICIAN)
    assert prior.facility.name == "Bob"
    assert prior.row.opened.person.names == JANE.names
    assert await alice.search.new_priors.seen([prior.row.prior], CLINICIAN) == 1
    assert await alice.search.new_priors.seen([prior.row.prior], CLINICIAN) == 0
    assert await news(alice) == [(LATER, True)]
    assert await alice.search.new_priors.waiting(CLINICIAN) == 0
    # It can be retrieved: a search would have listed it.
    assert await alice.search.prior(bob.peer_id, LATER) is not None
    records = [json.loads(each) async for each in alice.audit.export(None, None)]
    (found,) = [each for each in records if each["action"] == "new-priors"]
    assert found["detail"] == {"studies": 1}


async def test_what_comes_while_the_search_runs_is_news_too(hospitals):
    alice, bob = hospitals

    async def hear(heard):
        if heard.facility.name == "Bob":
            await publishes(bob, alice, LATER)
            assert await alice.search.new_priors.look() == 0, "nobody watches yet"

    answer = await alice.search.search(ASK_JANE, CLINICIAN, hear=hear)
    assert [each.study_instance_uid for each in answer.results] == [STUDY]
    assert await alice.search.new_priors.look() == 1
    assert await news(alice) == [(LATER, False)]


async def test_it_is_told_once_across_a_restart_and_a_change_of_the_study(hospitals):
    alice, bob = hospitals
    await alice.find()
    await publishes(bob, alice, LATER)
    assert await alice.search.new_priors.look() == 1
    # What is told of the study changes: it is published anew, at another position.
    await bob.db.write(lambda tx: tx.execute("UPDATE studies SET description = 'corrected'"))
    await bob.publish.study_changed(LATER)
    await everyone_shares(bob, alice)
    again = NewPriors(
        alice.db,
        alice.partners_db,
        alice.keys,
        alice.clock,
        alice.settings.search,
        partners=lambda: alice.active,
        coverage=lambda: alice.freshness,
    )
    assert await again.look() == 0
    (prior,) = await again.listed(CLINICIAN)
    assert prior.study.description == "corrected"
    assert await news(alice) == [(LATER, False)]


async def test_it_is_news_for_who_has_searched_and_for_nobody_else(hospitals):
    alice, bob = hospitals
    await alice.find()
    await alice.search.search(ASK_JANE, COLLEAGUE)
    await publishes(bob, alice, LATER)
    await alice.search.new_priors.look()
    assert await news(alice) == await news(alice, COLLEAGUE) == [(LATER, False)]
    assert await news(alice, OFFICER) == []
    (prior,) = await alice.search.new_priors.listed(CLINICIAN)
    await alice.search.new_priors.seen([prior.row.prior], CLINICIAN)
    assert await news(alice, COLLEAGUE) == [(LATER, False)], "seen by one is seen by one"


async def test_what_a_colleagues_search_lists_first_is_news_all_the_same(hospitals):
    alice, bob = hospitals
    await alice.find()
    await publishes(bob, alice, LATER)
    await alice.search.search(ASK_JANE, COLLEAGUE)
    assert await news(alice) == [(LATER, False)]
    assert await news(alice, COLLEAGUE) == [], "it stood in the answer"
    await publishes(bob, alice, THIRD)
    await alice.find()
    assert await news(alice) == [(LATER, False), (THIRD, True)], "the latter stood in the answer"
    assert await news(alice, COLLEAGUE) == [(THIRD, False)]
    assert await alice.search.new_priors.look() == 0


async def test_of_a_record_that_is_only_likely_the_patients_nothing_is_told(hospitals):
    alice, bob = hospitals
    asked = Question("Mueller^Jane", "19801705", "F")
    answer = await alice.find(asked)
    assert (answer.results, len(answer.likely)) == ((), 1)
    await publishes(bob, alice, LATER)
    assert await alice.search.new_priors.look() == 0
    await alice.person_links.say(answer.ref, answer.likely[0].ref, CLINICIAN, same=True)
    assert len((await alice.find(asked)).results) == 2
    await publishes(bob, alice, THIRD)
    assert await alice.search.new_priors.look() == 1


async def test_of_a_record_whose_link_was_undone_nothing_is_told_any_more(hospitals):
    alice, bob = hospitals
    asked = Question("Mueller^Jane", "19801705", "F")
    answer = await alice.find(asked)
    (likely,) = answer.likely
    said = await alice.person_links.say(answer.ref, likely.ref, CLINICIAN, same=True)
    assert [each.study_instance_uid for each in (await alice.find(asked)).results] == [STUDY]
    await publishes(bob, alice, LATER)
    assert await alice.search.new_priors.look() == 1
    assert await news(alice) == [(LATER, False)]
    await alice.person_links.undo(said.link, CLINICIAN)
    assert await news(alice) == []
    await publishes(bob, alice, THIRD)
    assert await alice.search.new_priors.look() == 0
    assert await news(alice) == []


async def test_what_is_withdrawn_expires_or_may_not_be_listed_is_no_news(hospitals):
    alice, bob = hospitals
    await alice.find()
    await publishes(bob, alice, LATER)
    await alice.search.new_priors.look()
    alice.freshness[bob.peer_id].lease_over = True
    assert await news(alice) == []
    alice.freshness[bob.peer_id].lease_over = False
    assert await news(alice) == [(LATER, False)]
    (recorded,) = await bob.consents.list()
    await bob.consents.revoke(recorded.directive.directive_id, "the patient asked", OFFICER)
    await everyone_shares(bob, alice)
    assert await news(alice) == []
    assert await alice.search.new_priors.waiting(CLINICIAN) == 0
    assert await alice.db.read(new_priors.unposted) == []


async def test_nobody_is_told_after_the_time_or_once_they_are_locked_out(hospitals):
    alice, bob = hospitals
    people = People(alice.db, alice.clock, PeopleSettings(), alice.keys.pseudonym_key)
    root = Actor("root", "os-user", frozenset({"clinician", "operator"}))
    secret, row = await people.make_token(root, "ris", ["clinician"], "TREAT")
    program = await people.by_token(secret)
    await alice.find()
    await alice.search.search(ASK_JANE, program)
    await publishes(bob, alice, LATER)
    assert await alice.search.new_priors.look() == 1
    assert await news(alice, program) == [(LATER, False)]
    await people.revoke_token(root, row.token)
    assert await news(alice, program) == []
    alice.clock.advance(alice.settings.search.watch_s + 1)
    await bob.publish.renew()
    await publishes(bob, alice, THIRD)
    assert await alice.search.new_priors.look() == 0
    assert await news(alice) == [], "what was found so long ago is kept"


async def test_the_webhook_is_told_once_and_again_only_if_it_did_not_take_it(hospitals):
    alice, bob = hospitals
    await alice.find()
    await publishes(bob, alice, LATER)
    woken = []
    alice.search.new_priors.on_found(lambda: woken.append(1))
    await alice.search.new_priors.look()
    assert woken == [1]
    notify = Notify.__new__(Notify)
    notify._db, notify._clock = alice.db, alice.clock
    posts = []

    async def refuse(*post):
        posts.append(post)
        raise NotTaken("no", 500)

    async def take(*post):
        posts.append(post)

    with pytest.raises(NotTaken):
        await notify._post(SimpleNamespace(post=refuse))
    await notify._post(SimpleNamespace(post=take))
    await notify._post(SimpleNamespace(post=take))
    assert len(posts) == 2
    assert posts[0] == posts[1]
    kind, _, _, data = posts[0]
    assert (kind, data["peer_id"], data["studies"]) == ("prior.found", bob.peer_id.hex(), 1)
    assert set(data) == {"prior", "peer_id", "studies"}, "more than a number leaves the node"


async def test_with_no_time_to_watch_nobody_is_told(hospitals):
    alice, bob = hospitals
    alice.search.new_priors._watch_s = 0
    await alice.find()
    await publishes(bob, alice, LATER)
    assert await alice.search.new_priors.look() == 0
