"""You can only find whom you already know: attacks on what travels and on who may open it."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from peer.index import labels, publications
from peer.index.held import Held
from peer.search import Question
from protocol import digest, evaluation, oprf
from protocol.entries import EntryKind
from protocol.errors import Refusal, RemoteProtocolError
from protocol.evaluation import EVERYONE, Tier
from protocol.limits import EVALUATION_BYTES
from protocol.messages import Evaluate
from tests.facilities import OFFICER, START, everyone_shares, facilities, named

STUDY = "1.2.3.1"
DAY = 24 * 3600


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob", "Eve") as opened:
        yield opened


async def entries_held(eve, origin):
    """Everything that Eve has of patients and studies in a journal: bodies and salts."""

    def work(tx):
        held = Held(tx, origin.peer_id)
        live = [entry for entry in held.entries(0, 2**40) if entry.kind == EntryKind.PUBLISHED]
        return [entry for entry in live if entry.payload[1] != digest.BodyKind.KEYS]

    return await eve.partners_db.read(work)


def opens(entry, outputs):
    """Whether any of the outputs opens any slot of the entry, at any early position."""
    for output in outputs:
        for position in range(20):
            if digest.slot_label(output, position) in digest.labels(entry.payload):
                return digest.open_slot(entry.payload, output, position, entry.salt)
    return None


async def evaluated(asker, origin, text):
    """The outputs of one match key in the two audiences, by an honest evaluation."""
    question = evaluation.ask([text], secrets.token_bytes(evaluation.QUESTION_RANDOM_BYTES))
    message = Evaluate(bytes(16), "eve", "clinician", "TREAT", question.points, question.points)
    answer = await asker.links.request(origin.peer_id, message, 5)
    return [evaluation.outputs(question, each.strong)[0] for each in answer.answers]


async def test_what_travels_holds_no_attribute_of_the_patient(hospitals):
    alice, bob, eve = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(alice, bob, eve)
    entries = await entries_held(eve, bob)
    assert len(entries) == 2
    for entry in entries:
        for attribute in (b"Mueller", b"mueller", b"19800517", b"MRN-00017", STUDY.encode()):
            assert attribute not in entry.payload


async def test_an_entry_cannot_be_opened_without_naming_the_patient(hospitals):
    alice, bob, eve = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(alice, bob, eve)
    entries = await entries_held(eve, bob)

    # She knows the name of everybody but Jane, and has an evaluation for each.
    strangers = ["1|S1|latin|doe|john|19610203", "1|S1|latin|jane|mueller|19800518"]
    guesses = [y for text in strangers for y in await evaluated(eve, bob, text)]
    # Nor does it help to hash the right name herself, under her own keys or under none.
    right = "1|S1|latin|jane|mueller|19800517"
    own = evaluation.evaluation_key(eve.keys.search_master, Tier.STRONG, EVERYONE, 1)
    guesses += [evaluation.output(own, right), oprf.hash_to_group(right.encode()) * 2]
    assert not any(opens(entry, guesses) for entry in entries if entry.payload[1] == 1)
    assert await eve.finds(Question("Mueller^Jane", "19800518", "M")) == set()

    # The very same entry opens for whoever names her: the guesses above were real ones.
    named_her = await evaluated(eve, bob, right)
    assert any(opens(entry, named_her) for entry in entries if entry.payload[1] == 1)


async def test_a_record_for_one_partner_cannot_be_opened_by_another(hospitals):
    alice, bob, eve = hospitals
    await bob.acquire(STUDY)
    await bob.consent(recipients=named(alice))
    await everyone_shares(alice, bob, eve)
    assert await alice.finds() == {("Bob", STUDY)}

    entries = [entry for entry in await entries_held(eve, bob) if entry.payload[1] == 1]
    assert entries, "Eve holds the ciphertext like everyone"
    right = "1|S1|latin|jane|mueller|19800517"
    hers, his = await evaluated(eve, bob, right), await evaluated(alice, bob, right)
    assert not any(opens(entry, hers) for entry in entries)
    assert any(opens(entry, his) for entry in entries)
    assert await eve.finds() == set()


async def test_a_stranger_and_a_removed_partner_get_no_evaluation(hospitals):
    alice, bob, eve = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(alice, bob, eve)
    bob.partners = [replace(p, active=False) if p.name == "Eve" else p for p in bob.partners]
    with pytest.raises(Refusal) as refused:
        await evaluated(eve, bob, "1|S1|latin|jane|mueller|19800517")
    assert refused.value.code == "not-a-partner"
    assert refused.value.remedy


async def test_nothing_published_after_a_removal_opens_with_what_the_removed_one_learned(hospitals):
    alice, bob, eve = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(alice, bob, eve)
    right = "1|S1|latin|jane|mueller|19800517"
    learned = await evaluated(eve, bob, right)
    assert await eve.finds() == {("Bob", STUDY)}
    old = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])

    bob.remove(eve)
    await bob.publish.partner_changed(eve.peer_id, "removed")
    await bob.publish.look_at_all()
    await bob.acquire("1.2.3.9")
    await bob.share(eve)  # by whatever way she gets the new batches
    entries = await entries_held(eve, bob)
    assert len(entries) == 3
    for entry in entries:
        if entry.payload[1] == 1:
            assert opens(entry, learned) is None
        else:
            with pytest.raises(RemoteProtocolError):
                digest.open_study(entry.payload, old.patient_key, 0, entry.salt)


@pytest.mark.parametrize("points", [bytes(EVALUATION_BYTES), b"\xff" * EVALUATION_BYTES])
async def test_points_off_the_group_are_refused(hospitals, points):
    alice, bob, _ = hospitals
    good = evaluation.ask([], secrets.token_bytes(evaluation.QUESTION_RANDOM_BYTES)).points
    for strong, weak in ((points, good), (good, points)):
        message = Evaluate(bytes(16), "eve", "clinician", "TREAT", strong, weak)
        with pytest.raises(Refusal) as refused:
            await alice.links.request(bob.peer_id, message, 5)
        assert refused.value.code == "malformed"


async def test_an_unknown_purpose_is_refused(hospitals):
    alice, bob, _ = hospitals
    points = evaluation.ask([], secrets.token_bytes(evaluation.QUESTION_RANDOM_BYTES)).points
    with pytest.raises(Refusal) as refused:
        await alice.links.request(
            bob.peer_id, Evaluate(bytes(16), "eve", "clinician", "CURIOSITY", points, points), 5
        )
    assert refused.value.code == "unknown-purpose"


async def test_a_withdrawn_entry_cannot_be_found_or_opened_again(hospitals):
    alice, bob, eve = hospitals
    await bob.acquire(STUDY)
    directive = await bob.consent()
    await everyone_shares(alice, bob, eve)
    right = "1|S1|latin|jane|mueller|19800517"
    (output, _) = await evaluated(eve, bob, right)
    label = digest.slot_label(output, 0)
    assert await eve.partners_db.read(lambda tx: labels.find(tx, label, bob.peer_id))

    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    await everyone_shares(alice, bob, eve)
    assert await entries_held(eve, bob) == []
    assert await eve.partners_db.read(lambda tx: labels.find(tx, label, bob.peer_id)) == []


async def test_an_entry_that_was_kept_past_consent_opens_to_no_new_evaluation(hospitals):
    alice, bob, eve = hospitals
    ends = START + 40 * DAY
    await bob.acquire(STUDY)
    await bob.consent(recipients=named(eve), expires_at=ends, shorter_period_requested=True)
    await everyone_shares(alice, bob, eve)
    kept = [entry for entry in await entries_held(eve, bob) if entry.payload[1] == 1]
    right = "1|S1|latin|jane|mueller|19800517"
    bob.clock.time_s = ends - 1
    in_time = await evaluated(eve, bob, right)
    assert any(opens(entry, in_time) for entry in kept)

    # Bob has not come to withdraw it; consent is asked all the same.
    bob.clock.time_s = ends
    assert await bob.db.read(publications.patients) != []
    too_late = await evaluated(eve, bob, right)
    assert not any(opens(entry, too_late) for entry in kept)


async def test_only_a_clinician_is_answered(hospitals):
    alice, bob, _ = hospitals
    points = evaluation.ask([], secrets.token_bytes(evaluation.QUESTION_RANDOM_BYTES)).points
    with pytest.raises(Refusal) as refused:
        await alice.links.request(
            bob.peer_id, Evaluate(bytes(16), "eve", "auditor", "TREAT", points, points), 5
        )
    assert refused.value.code == "role"
