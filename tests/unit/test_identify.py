"""Weak keys hint at a record; the one facility that holds it is asked, and answers or looks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from peer.errors import NotFound
from peer.index import opened
from peer.index.frontiers import Frontier
from peer.search import Question
from protocol import identify as rules
from protocol.errors import BadSignature, Expired, Malformed, Refusal, WrongAddressee
from protocol.identifiers import EntryId
from protocol.identify import Outcome
from protocol.messages import Identify
from protocol.reciprocity import Progress
from protocol.records import from_bytes
from protocol.sealing import exchange_public_key, unseal
from protocol.signing import public_key, sign
from protocol.statements import Statement
from tests.facilities import CLINICIAN, JANE, OFFICER, everyone_shares, facilities, named

STUDY = "1.2.3.1"
LATER = "1.2.3.2"
CHANGED_SURNAME = Question("Olsen^Jane", "19800517", "F")
WRONG_DAY = Question("Mueller^Jane", "19800518", "F")
TWIN = Question("Mueller^Peter", "19800517", "M")


@pytest.fixture
async def hospitals(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob", "Carol") as opened_ones:
        yield opened_ones


@pytest.fixture
async def asked(hospitals):
    """Bob has published Jane; Alice can ask."""
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)
    return alice, bob


async def hint(facility, question):
    (found,) = (await facility.find(question)).hints
    return found


async def ask(facility, question):
    found = await hint(facility, question)
    return await facility.identifying.ask(question, found.facility.peer_id, found.record, CLINICIAN)


async def actions(facility):
    return [json.loads(line)["action"] async for line in facility.audit.export(None, None)]


# -- hints ------------------------------------------------------------------------------------


async def test_a_changed_surname_is_hinted_at_and_shows_nothing_of_the_record(asked):
    alice, bob = asked
    answer = await alice.find(CHANGED_SURNAME)
    assert answer.results == ()
    shown = answer.to_json()
    (one,) = shown["hints"]
    assert one["facility"]["name"] == "Bob"
    assert set(one) == {"facility", "record", "sentence"}
    assert "Mueller" not in json.dumps(shown)
    assert await alice.db.read(lambda tx: opened.count(tx, bob.peer_id)) == 0


async def test_who_was_found_is_not_hinted_at_too(asked):
    alice, _ = asked
    answer = await alice.find()
    assert (len(answer.results), answer.hints) == (1, ())


async def test_a_stranger_who_was_opened_is_not_hinted_at(asked):
    """The name is alike, so the card opens; but all that is in it says that it is somebody else."""
    alice, _ = asked
    namesake = Question("Mueller^Jane", "19800517", "M", ())
    answer = await alice.find(namesake)
    assert all(each.facility.name == "Bob" for each in answer.hints)
    assert len(answer.hints) <= 1


async def test_many_of_one_birth_date_do_not_hide_who_has_another_year_of_birth(hospitals):
    alice, bob, _ = hospitals
    for number in range(12):
        other = replace(JANE, names=(f"{chr(98 + number) * 5}^Jane",), patient_id=f"B-1000{number}")
        await bob.acquire(f"1.2.4.{number}", other)
        await bob.consent(other)
    meant = replace(JANE, birth_date="19700517", patient_id="B-20000")
    await bob.acquire(STUDY, meant)
    await bob.consent(meant)
    await everyone_shares(*hospitals)
    question = Question("Mueller^Jane", "19800517", "F")
    hints = (await alice.find(question)).hints
    assert len(hints) == alice.settings.search.max_hints
    asked = [
        await alice.identifying.ask(question, bob.peer_id, each.record, CLINICIAN) for each in hints
    ]
    assert Outcome.SAME in {each.outcome for each in asked}


async def test_a_patient_restricted_to_another_partner_is_not_even_hinted_at(hospitals):
    alice, bob, carol = hospitals
    await bob.acquire(STUDY)
    await bob.consent(recipients=named(carol))
    await everyone_shares(*hospitals)
    assert (await alice.find(CHANGED_SURNAME)).hints == ()
    assert len((await carol.find(CHANGED_SURNAME)).hints) == 1


# -- the matcher answers ------------------------------------------------------------------------


async def test_the_holder_opens_the_record_and_it_is_found_from_then_on(asked):
    alice, bob = asked
    said = await ask(alice, WRONG_DAY)
    assert said.outcome is Outcome.SAME
    assert await alice.finds(WRONG_DAY) == {("Bob", STUDY)}
    (result,) = (await alice.find(WRONG_DAY)).results
    assert result.confirmed
    assert (await alice.find(WRONG_DAY)).hints == ()
    # New studies appear by themselves, and without Bob's being there.
    await bob.acquire(LATER)
    await everyone_shares(bob, alice)
    alice.links.offline = {bob.peer_id}
    assert await alice.finds(WRONG_DAY) == {("Bob", STUDY), ("Bob", LATER)}


async def test_a_confirmation_is_for_the_person_asked_for_alone(asked):
    alice, _ = asked
    await ask(alice, WRONG_DAY)
    answer = await alice.find(Question("Mueller^Peter", "19800518", "M"))
    assert answer.results == ()


async def test_a_withdrawn_record_is_forgotten_with_its_confirmation(asked):
    alice, bob = asked
    await ask(alice, WRONG_DAY)
    (recorded,) = await bob.consents.list()
    await bob.consents.revoke(recorded.directive.directive_id, "the patient asked", OFFICER)
    await everyone_shares(bob, alice)
    answer = await alice.find(WRONG_DAY)
    assert (answer.results, answer.hints) == ((), ())
    left = await alice.db.read(
        lambda tx: tx.execute("SELECT count(*) FROM opened_confirmed").fetchone()[0]
    )
    assert left == 0


async def test_somebody_else_is_said_so(asked):
    alice, _ = asked
    said = await ask(alice, TWIN)
    assert said.outcome is Outcome.OTHER
    assert await alice.finds(TWIN) == set()


# -- a person answers ---------------------------------------------------------------------------


async def test_a_doubtful_record_waits_for_a_person_whose_answer_stands(asked):
    alice, bob = asked
    assert (await ask(alice, CHANGED_SURNAME)).outcome is Outcome.PENDING
    (waiting,) = await bob.identities.waiting()
    assert waiting.facility == "Alice"
    assert waiting.theirs.names == ("Olsen^Jane",)
    assert waiting.ours.names == JANE.names

    await bob.identities.decide(waiting.asked.question, OFFICER, same=True)
    assert await bob.identities.waiting() == []
    assert (await ask(alice, CHANGED_SURNAME)).outcome is Outcome.SAME
    assert await alice.finds(CHANGED_SURNAME) == {("Bob", STUDY)}


async def test_a_person_may_say_no_and_is_not_asked_again(asked):
    alice, bob = asked
    await ask(alice, CHANGED_SURNAME)
    (waiting,) = await bob.identities.waiting()
    await bob.identities.decide(waiting.asked.question, OFFICER, same=False)
    assert (await ask(alice, CHANGED_SURNAME)).outcome is Outcome.OTHER
    assert await bob.identities.waiting() == []


async def test_whom_a_partner_has_named_is_not_kept_once_it_is_answered(asked):
    alice, bob = asked
    await ask(alice, CHANGED_SURNAME)
    (waiting,) = await bob.identities.waiting()
    await bob.identities.decide(waiting.asked.question, OFFICER, same=False)
    with pytest.raises(NotFound):
        await bob.identities.decide(waiting.asked.question, OFFICER, same=True)
    rows = await bob.db.read(
        lambda tx: [tuple(row) for row in tx.execute("SELECT * FROM identity_questions")]
    )
    assert len(rows) == 1
    assert b"Olsen" not in b"".join(each for each in rows[0] if isinstance(each, bytes))


# -- refusals -----------------------------------------------------------------------------------


async def test_consent_decides_before_anything_is_compared(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent(purposes=frozenset({"TREAT"}))
    await everyone_shares(*hospitals)
    found = await hint(alice, WRONG_DAY)
    researcher = replace(CLINICIAN, purpose="HRESCH")
    with pytest.raises(Refusal) as refused:
        await alice.identifying.ask(WRONG_DAY, bob.peer_id, found.record, researcher)
    assert refused.value.code == "purpose"


async def test_a_record_for_another_partner_cannot_be_asked_about(hospitals):
    alice, bob, carol = hospitals
    await bob.acquire(STUDY)
    await bob.consent(recipients=named(carol))
    await everyone_shares(*hospitals)
    found = await hint(carol, WRONG_DAY)
    with pytest.raises(Refusal) as refused:
        await alice.identifying.ask(WRONG_DAY, bob.peer_id, found.record, CLINICIAN)
    assert refused.value.code == "not-published"
    refusals = [
        json.loads(line)
        async for line in bob.audit.export(None, None)
        if json.loads(line)["action"] == "identify"
    ]
    assert [each["outcome"] for each in refusals] == ["refused"]


async def test_a_record_that_is_gone_is_named_as_such_and_nobody_is_named(asked):
    alice, bob = asked
    with pytest.raises(NotFound):
        await alice.identifying.ask(WRONG_DAY, bob.peer_id, EntryId(bytes(16)), CLINICIAN)
    assert "identify" not in await actions(alice)


async def test_trying_out_names_runs_into_the_limit(asked):
    alice, bob = asked
    bob.identities._per_hour = 3
    found = await hint(alice, WRONG_DAY)
    for day in range(1, 4):
        question = Question("Mueller^Jane", f"198005{day:02}", "F")
        await alice.identifying.ask(question, bob.peer_id, found.record, CLINICIAN)
    with pytest.raises(Refusal) as refused:
        await alice.identifying.ask(WRONG_DAY, bob.peer_id, found.record, CLINICIAN)
    assert refused.value.code == "quota"
    bob.clock.advance(3601)
    assert await alice.identifying.ask(WRONG_DAY, bob.peer_id, found.record, CLINICIAN)


async def test_a_facility_that_wants_an_exchange_first_gets_it_and_answers(asked):
    alice, bob = asked
    found = await hint(alice, WRONG_DAY)
    bob.frontiers[alice.peer_id] = Frontier(progress=Progress())

    async def exchange(peer_id):
        assert peer_id == bob.peer_id
        bob.frontiers.pop(alice.peer_id)

    alice.exchange_now = exchange
    said = await alice.identifying.ask(WRONG_DAY, bob.peer_id, found.record, CLINICIAN)
    assert said.outcome is Outcome.SAME
    outcomes = [
        each["outcome"]
        for each in [json.loads(line) async for line in bob.audit.export(None, None)]
        if each["action"] == "identify"
    ]
    assert outcomes == ["refused", "success"]


async def test_asking_in_an_emergency_passes_the_gate_and_alerts_both_sides(asked):
    alice, bob = asked
    found = await hint(alice, WRONG_DAY)
    bob.frontiers[alice.peer_id] = Frontier(progress=Progress())
    emergency = replace(CLINICIAN, purpose="BTG")
    with pytest.raises(Refusal) as refused:
        await alice.identifying.ask(WRONG_DAY, bob.peer_id, found.record, emergency)
    assert refused.value.code == "reason-needed"
    assert "identify" not in await actions(alice), "a patient was named without a reason"
    said = await alice.identifying.ask(
        WRONG_DAY, bob.peer_id, found.record, emergency, "unconscious"
    )
    assert said.outcome is Outcome.SAME
    (here,) = await alice.alerts.list(open_only=True)
    (there,) = await bob.alerts.list(open_only=True)
    assert (here["reason"], there["reason"]) == ("unconscious", "")
    assert not any(b"unconscious" in frame for frame in alice.links.sent)


async def test_both_sides_have_the_question_on_record(asked):
    alice, bob = asked
    await ask(alice, WRONG_DAY)
    assert (await actions(alice))[-2:] == ["identify", "identify-answered"]
    last = [json.loads(line) async for line in bob.audit.export(None, None)][-1]
    assert (last["action"], last["outcome"]) == ("identify", "success")
    assert last["patient"], "the accounting of disclosures would not name the patient"


# -- the wire -----------------------------------------------------------------------------------

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/identify.json").read_text("utf-8"))
ASKER, HOLDER, ASKER_SEAL, HOLDER_SEAL, EPHEMERAL = (
    bytes.fromhex(VECTORS[name])
    for name in (
        "asker_seed",
        "holder_seed",
        "asker_seal_secret",
        "holder_seal_secret",
        "ephemeral_secret",
    )
)
NOW = VECTORS["now"]


def open_box(box, *, me=HOLDER, author=ASKER, now=NOW):
    return rules.open_question(
        HOLDER_SEAL,
        box,
        key=public_key(author),
        author=public_key(author),
        me=public_key(me),
        now=now,
    )


def test_the_golden_vectors_read_and_write_back():
    box = bytes.fromhex(VECTORS["question_box"])
    body = open_box(box)
    statement = from_bytes(Statement, unseal(HOLDER_SEAL, box, b"openpriors/1 identify"), 65536)
    assert statement.payload.hex() == VECTORS["question"]
    again = rules.seal_question(
        exchange_public_key(HOLDER_SEAL),
        EPHEMERAL,
        body,
        lambda payload: sign(ASKER, rules.IDENTIFY_DOMAIN, payload),
    )
    assert again == box
    assert rules.person_hash(rules.demographics_of(body.person)).hex() == VECTORS["person_hash"]
    for name, outcome in (("same", Outcome.SAME), ("other", Outcome.OTHER)):
        answer = rules.open_answer(ASKER_SEAL, bytes.fromhex(VECTORS[name]), body)
        assert answer.outcome is outcome
        sealed = rules.seal_answer(exchange_public_key(ASKER_SEAL), EPHEMERAL, body, answer)
        assert sealed.hex() == VECTORS[name]
    assert len(VECTORS["same"]) == len(VECTORS["other"]), "the length tells the outcome"


def test_an_old_or_misdirected_question_is_refused():
    box = bytes.fromhex(VECTORS["question_box"])
    with pytest.raises(Expired):
        open_box(box, now=NOW + 601)
    with pytest.raises(WrongAddressee):
        open_box(box, me=ASKER)
    with pytest.raises((BadSignature, WrongAddressee)):
        open_box(box, author=HOLDER)


def test_an_answer_opens_for_its_question_alone():
    body = open_box(bytes.fromhex(VECTORS["question_box"]))
    with pytest.raises(BadSignature):
        rules.open_answer(
            ASKER_SEAL, bytes.fromhex(VECTORS["same"]), replace(body, entry_id=bytes(16))
        )


async def test_nothing_of_the_person_travels_unsealed(asked):
    alice, _ = asked
    await ask(alice, WRONG_DAY)
    assert not any(b"Mueller" in frame or b"19800518" in frame for frame in alice.links.sent)


async def test_a_box_that_is_not_sealed_to_us_is_refused(asked):
    _, bob = asked
    (alice,) = (each for each in bob.partners if each.name == "Alice")
    with pytest.raises((BadSignature, Malformed)):
        await bob.identities.identify(Identify(bytes(100)), alice)
