"""The gate: who is let in, who is not and why, and what stands on record before the first byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.access import Permit
from peer.actors import Actor
from peer.errors import NotFound
from peer.index import studies
from protocol.agreement import Terms
from protocol.errors import LocalProtocolError, Refusal
from tests.facilities import CLINICIAN, OFFICER, named
from tests.transfers import STUDY, hospitals

UNKNOWN = b"unknown handle.."


@pytest.fixture
async def trio(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob", "Carol") as opened:
        yield opened


async def handle(bob, audience=b""):
    def work(tx):
        row = tx.execute(
            "SELECT retrieve_handle FROM published_studies s JOIN published_patients p"
            " ON p.published = s.published WHERE study_instance_uid = ? AND audience = ?",
            (STUDY, audience),
        ).fetchone()
        return None if row is None else row["retrieve_handle"]

    return await bob.db.read(work)


def partner(bob, other, **change):
    return replace(next(p for p in bob.partners if p.peer_id == other.peer_id), **change)


async def ask(bob, other, retrieve_handle, *, purpose="TREAT", role="clinician", **change):
    return await bob.access.permit_partner(
        partner(bob, other, **change), retrieve_handle, purpose=purpose, role=role, person="p-17"
    )


async def refused(bob, *args, **kwargs):
    with pytest.raises(Refusal) as caught:
        await ask(bob, *args, **kwargs)
    record = (await bob.actions("grant-refused"))[-1]
    assert record["detail"]["code"] == caught.value.code, "the refusal is not on record"
    assert caught.value.reason
    assert caught.value.remedy
    return caught.value.code


def test_nobody_else_makes_a_permit():
    with pytest.raises(LocalProtocolError):
        Permit(bytes(16), STUDY, 1, CLINICIAN, None, "", 0, object())


async def test_a_permit_is_on_record_when_it_is_handed_out(trio):
    alice, bob, _ = trio
    await bob.scan(count=1)
    directive = await bob.consent()
    permit = await ask(bob, alice, await handle(bob))
    assert permit.study_instance_uid == STUDY
    assert permit.directive_id == directive.directive_id
    assert not await bob.actions("grant"), "it may come to nothing yet"
    await bob.db.write(lambda tx: bob.access.record_grant(tx, permit))
    (record,) = await bob.actions("grant")
    assert record["detail"] == {
        "grant": permit.permit_id.hex(),
        "directive": directive.directive_id,
    }
    assert record["actor"]["pseudonym"] == "p-17"
    assert record["partner"] == alice.peer_id.hex()


async def test_every_reason_to_refuse_is_told_apart(trio):
    alice, bob, carol = trio
    await bob.scan(count=1)
    assert await refused(bob, alice, UNKNOWN) == "not-published"
    await bob.consent(recipients=named(alice))
    for_alice = await handle(bob, bytes(alice.peer_id))
    assert for_alice is not None
    assert await ask(bob, alice, for_alice)
    assert await refused(bob, carol, for_alice) == "recipient"
    assert await refused(bob, alice, for_alice, role="operator") == "role"
    assert await refused(bob, alice, for_alice, purpose="HRESCH") == "purpose"
    assert await refused(bob, alice, for_alice, purpose="curiosity") == "purpose"
    await bob.db.write(lambda tx: studies.hold(tx, STUDY, held_back=True, reason="sensitive"))
    assert await refused(bob, alice, for_alice) == "held-back"


@pytest.mark.parametrize(
    ("terms", "allowed"),
    [
        (Terms(modalities=("CT", "MR")), True),
        (Terms(modalities=("MR",)), False),
        (Terms(studies_from="20261101"), True),
        (Terms(studies_from="20261103"), False),
        (Terms(studies_until="20261102"), True),
        (Terms(studies_until="20261101"), False),
        (Terms(purposes=("TREAT",)), True),
        (Terms(purposes=("HRESCH",)), False),
        (Terms(purposes=("ETREAT",)), False),
    ],
)
async def test_the_peering_agreement_is_kept_at_release(trio, terms, allowed):
    alice, bob, _ = trio
    await bob.scan(count=1)
    await bob.consent()
    retrieve_handle = await handle(bob)
    if allowed:
        assert await ask(bob, alice, retrieve_handle, our_terms=terms)
    else:
        assert await refused(bob, alice, retrieve_handle, our_terms=terms) == "agreement"


async def test_emergency_is_treatment_for_the_patient_and_for_the_agreement(trio):
    alice, bob, _ = trio
    await bob.scan(count=1)
    await bob.consent()
    terms = Terms(purposes=("TREAT",))
    assert await ask(bob, alice, await handle(bob), purpose="ETREAT", our_terms=terms)


async def test_local_eyes_need_the_role_and_a_purpose_and_are_recorded(trio):
    _, bob, _ = trio
    await bob.scan(count=1)
    permit = await bob.access.permit_local(STUDY, CLINICIAN, "view")
    assert permit.recipient is None
    with pytest.raises(Refusal) as caught:
        await bob.access.permit_local(STUDY, OFFICER, "view")
    assert caught.value.code == "role"
    idle = Actor("dr.grey", "person", frozenset({"clinician"}), "curiosity")
    with pytest.raises(Refusal) as caught:
        await bob.access.permit_local(STUDY, idle, "view")
    assert caught.value.code == "purpose"
    with pytest.raises(NotFound):
        await bob.access.permit_local("1.2.3", CLINICIAN, "view")
    outcomes = [record["outcome"] for record in await bob.actions("view")]
    assert outcomes == ["success", "refused", "refused"]


async def test_a_viewer_fills_no_ledger_but_every_person_and_act_is_in_it(trio):
    _, bob, _ = trio
    await bob.scan(count=1)
    other = replace(CLINICIAN, name="dr.yang")
    for actor, what in [(CLINICIAN, "view"), (CLINICIAN, "view"), (other, "view")]:
        await bob.access.permit_local(STUDY, actor, what)
    await bob.access.permit_local(STUDY, CLINICIAN, "export")
    seen = [(r["actor"]["name"], r["detail"]["what"]) for r in await bob.actions("view")]
    assert seen == [("dr.grey", "view"), ("dr.yang", "view"), ("dr.grey", "export")]
    bob.clock.advance(bob.settings.audit.view_s)
    await bob.access.permit_local(STUDY, CLINICIAN, "view")
    assert len(await bob.actions("view")) == 4


async def test_a_yes_to_a_range_holds_until_the_second_or_anything_on_record_is_another(trio):
    alice, bob, _ = trio
    await bob.scan(count=1)
    directive = await bob.consent()
    read, decided = bob.db.read, []

    async def noted(work):
        decided.append(work)
        return await read(work)

    async def confirm(who):
        decided.clear()
        await bob.access.confirm(who, STUDY, purpose="TREAT", role="clinician")
        return len(decided)

    bob.db.read = noted
    her = partner(bob, alice)
    assert await confirm(her) == 1
    assert await confirm(her) == 0
    bob.clock.advance(1)
    assert await confirm(her) == 1, "another second"
    await bob.db.write(lambda tx: None)
    assert await confirm(her) == 1, "something was written"
    with pytest.raises(Refusal):
        await confirm(replace(her, our_terms=Terms(modalities=("MR",))))
    assert await confirm(her) == 1
    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    with pytest.raises(Refusal, match="revoked"):
        await confirm(her)
