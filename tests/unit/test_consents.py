"""Directives on record: exactly as given, never altered, revoked once, all in one transaction."""

from __future__ import annotations

import pytest

from peer.consents import NewDirective, to_json
from peer.errors import Conflict, NotFound
from peer.index import consents, publications
from protocol.consent import Recipients, Scope
from protocol.errors import Refusal
from protocol.identifiers import PatientIdentifier
from tests.facilities import JANE, OFFICER, START, facilities

STUDY = "1.2.3.1"
JANE_ID = PatientIdentifier(JANE.issuer, JANE.patient_id)
FULL = NewDirective(
    patient=(JANE_ID, PatientIdentifier("1.2.3", "X-99999")),
    grantor="her daughter",
    scope=Scope(
        "matching",
        modalities=frozenset({"CT", "MR"}),
        study_date_from="20200101",
        study_date_to="20261231",
        body_parts=frozenset({"CHEST"}),
    ),
    recipients=Recipients(all_partners=True, excluded=frozenset({"ab" * 32})),
    purposes=frozenset({"TREAT", "ETREAT"}),
    effective_from=START,
    expires_at=START + 1000,
    evidence_hash="cd" * 32,
    shorter_period_requested=True,
)


@pytest.fixture
async def bob(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as (_, bob):
        yield bob


async def test_a_directive_comes_back_as_it_was_given(bob):
    directive = await bob.consents.grant(FULL, OFFICER)
    recorded = await bob.consents.get(directive.directive_id)
    assert set(recorded.directive.patient) == set(directive.patient)
    assert recorded.directive.scope == FULL.scope
    assert recorded.directive.recipients == FULL.recipients
    assert recorded.directive.purposes == FULL.purposes
    assert recorded.directive.evidence_hash == FULL.evidence_hash
    assert recorded.directive.shorter_period_requested
    assert recorded.directive.expires_at == FULL.expires_at
    assert await bob.consents.list(FULL.patient[1]) == [recorded]
    assert await bob.consents.list(PatientIdentifier("", JANE.patient_id)) == []


async def test_the_api_shows_a_directive_with_one_sentence(bob):
    directive = await bob.consents.grant(FULL, OFFICER)
    shown = to_json(await bob.consents.get(directive.directive_id))
    assert shown["status"] == "active"
    assert shown["recipients"] == "all"
    assert shown["excluded"] == ["ab" * 32]
    assert shown["scope"]["modalities"] == ["CT", "MR"]
    assert JANE.patient_id not in shown["sentence"]


async def test_a_directive_that_means_nothing_is_refused_with_what_is_missing(bob):
    nothing = NewDirective(patient=(), grantor="", purposes=frozenset())
    with pytest.raises(Refusal) as refused:
        await bob.consents.grant(nothing, OFFICER)
    assert refused.value.code == "invalid-directive"
    assert "identifier" in refused.value.remedy
    assert "purpose" in refused.value.remedy
    assert await bob.consents.list() == []


async def test_a_directive_is_revoked_once(bob):
    directive = await bob.consents.grant(FULL, OFFICER)
    revoked = await bob.consents.revoke(directive.directive_id, "moved away", OFFICER)
    assert (revoked.revoked_at, revoked.revoked_because) == (START, "moved away")
    assert revoked.directive.status == "revoked"
    with pytest.raises(Conflict):
        await bob.consents.revoke(directive.directive_id, "again", OFFICER)
    with pytest.raises(NotFound):
        await bob.consents.revoke("00" * 16, "unknown", OFFICER)


async def test_revocation_withdrawal_and_record_are_one_transaction(bob):
    await bob.acquire(STUDY)
    directive = await bob.consent()
    published = await bob.db.read(publications.patients)
    records = (await bob.audit.verify()).records

    def fails(tx, patient):
        bob.publish.apply_in(tx, patient)
        raise RuntimeError("power cut")

    bob.consents.apply_with(fails)
    with pytest.raises(RuntimeError):
        await bob.consents.revoke(directive.directive_id, "", OFFICER)
    assert (await bob.consents.get(directive.directive_id)).directive.status == "active"
    assert await bob.db.read(publications.patients) == published
    assert (await bob.audit.verify()).records == records

    bob.consents.apply_with(bob.publish.apply_in)
    revoked = await bob.consents.revoke(directive.directive_id, "", OFFICER)
    assert revoked.withdrawn_seq is not None
    assert await bob.db.read(publications.patients) == []
    lines = [line async for line in bob.audit.export(None, None)]
    assert any('"consent-revoke"' in line for line in lines)
    assert (await bob.audit.verify()).ok


async def test_only_the_patient_id_with_its_issuer_leads_to_directives(bob):
    await bob.acquire(STUDY)
    await bob.consent()
    found = await bob.db.read(lambda tx: consents.for_patient(tx, 1))
    assert [each.patient for each in found] == [(JANE_ID,)]
    other = NewDirective(patient=(PatientIdentifier("9.9", JANE.patient_id),), grantor="someone")
    await bob.consents.grant(other, OFFICER)
    assert await bob.db.read(lambda tx: consents.for_patient(tx, 1)) == found


async def test_listeners_hear_which_patients_are_concerned(bob):
    heard = []

    async def listen(patients):
        heard.append(patients)

    bob.consents.on_change(listen)
    await bob.acquire(STUDY)
    directive = await bob.consent()
    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    assert heard == [(1,), (1,)]
