"""Alice keeps the digest, the handle and even a living grant after the patient has revoked.

What she could do without the defence: go on fetching because she was once allowed to.
"""

from __future__ import annotations

import pytest

from peer.retrieve.leave import Promise, ask_leave
from protocol.errors import Refusal
from tests.facilities import CLINICIAN, OFFICER, everyone_shares
from tests.transfers import STUDY, hospitals


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as opened:
        yield opened


def promise(prior):
    digest = prior.digest
    return Promise(digest.retrieve_handle, digest.manifest_root, digest.manifest_version)


async def asked(alice, bob, prior):
    partner = next(p for p in alice.partners if p.peer_id == bob.peer_id)
    return await ask_leave(
        alice.links,
        alice.reciprocity,
        alice.keys,
        alice.clock,
        partner=partner,
        promise=promise(prior),
        actor=CLINICIAN,
        within_s=30,
    )


async def consented(alice, bob):
    await bob.scan(count=1)
    directive = await bob.consent()
    await everyone_shares(alice, bob)
    await alice.finds()
    return directive, await alice.search.prior(bob.peer_id, STUDY)


async def test_a_kept_handle_is_worthless_and_the_reason_is_told(pair):
    alice, bob = pair
    directive, prior = await consented(alice, bob)
    assert await asked(alice, bob, prior)
    await bob.consents.revoke(directive.directive_id, "changed her mind", OFFICER)

    with pytest.raises(Refusal) as caught:
        await asked(alice, bob, prior)
    assert caught.value.code == "revoked"
    assert "revoked" in caught.value.reason
    assert caught.value.remedy
    (record,) = await bob.actions("grant-refused")
    assert record["detail"]["code"] == "revoked"
    assert record["study_instance_uid"] == STUDY


async def test_a_handle_that_was_never_used_is_refused_too(pair):
    alice, bob = pair
    directive, prior = await consented(alice, bob)
    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    with pytest.raises(Refusal) as caught:
        await asked(alice, bob, prior)
    assert caught.value.code == "revoked"
    (record,) = await bob.actions("grant-refused")
    assert record["study_instance_uid"] == STUDY


async def test_a_living_grant_ends_with_the_consent(pair):
    alice, bob = pair
    directive, prior = await consented(alice, bob)
    leave = await asked(alice, bob, prior)
    me = next(p for p in bob.partners if p.peer_id == alice.peer_id)
    arguments = (me, leave.grant.grant_id, leave.manifest.packs[0], 0, 100)
    assert await bob.retrieve.origin.read_range(*arguments)
    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    for _ in range(2):
        with pytest.raises(Refusal) as caught:
            await bob.retrieve.origin.read_range(*arguments)
        assert caught.value.code == "revoked"
    assert len(await bob.actions("release")) == 1, "the end of a grant is recorded once"


async def test_a_grant_ends_by_time_even_when_nothing_is_revoked(pair):
    alice, bob = pair
    _, prior = await consented(alice, bob)
    leave = await asked(alice, bob, prior)
    me = next(p for p in bob.partners if p.peer_id == alice.peer_id)
    bob.clock.advance(15 * 60)
    with pytest.raises(Refusal) as caught:
        await bob.retrieve.origin.read_range(
            me, leave.grant.grant_id, leave.manifest.packs[0], 0, 100
        )
    assert caught.value.code == "grant-expired"


async def test_a_consent_that_expires_refuses_without_anyone_acting(pair):
    alice, bob = pair
    await bob.scan(count=1)
    ends = bob.clock.now() + 3600
    await bob.consent(expires_at=ends, shorter_period_requested=True)
    await everyone_shares(alice, bob)
    await alice.finds()
    prior = await alice.search.prior(bob.peer_id, STUDY)
    bob.clock.advance(3600)
    with pytest.raises(Refusal) as caught:
        await asked(alice, bob, prior)
    assert caught.value.code == "expired"


async def test_no_keys_leave_after_a_revocation_that_comes_between_decision_and_grant(pair):
    alice, bob = pair
    directive, prior = await consented(alice, bob)
    write, granted = bob.db.write, "SELECT count(*) FROM grants"
    at_revocation = []

    async def revoke_after_the_first(work):
        answer = await write(work)
        if not at_revocation:
            at_revocation.append(await bob.db.read(lambda tx: tx.execute(granted).fetchone()[0]))
            await bob.consents.revoke(directive.directive_id, "changed her mind", OFFICER)
        return answer

    bob.db.write = revoke_after_the_first
    with pytest.raises(Refusal) as caught:
        await asked(alice, bob, prior)
    assert caught.value.code == "revoked"
    at_end = await bob.db.read(lambda tx: tx.execute(granted).fetchone()[0])
    assert [at_end] == at_revocation, "a grant was written after consent had ended"
    assert (await bob.actions("grant-refused"))[-1]["detail"]["code"] == "revoked"
    assert not await bob.actions("grant"), "a disclosure is accounted for that did not happen"


async def test_every_grant_and_its_record_are_written_together(pair):
    alice, bob = pair
    _, prior = await consented(alice, bob)
    write = bob.db.write

    async def count(tx_or_actions):
        return await bob.db.read(lambda tx: tx.execute(tx_or_actions).fetchone()[0])

    async def and_compare(work):
        answer = await write(work)
        recorded = len(await bob.actions("grant"))
        assert recorded == await count("SELECT count(*) FROM grants")
        return answer

    bob.db.write = and_compare
    leave = await asked(alice, bob, prior)
    (record,) = await bob.actions("grant")
    assert record["detail"]["grant"] == leave.grant.grant_id.hex()


async def test_a_study_without_a_manifest_is_no_disclosure(pair):
    alice, bob = pair
    _, prior = await consented(alice, bob)
    await bob.db.write(lambda tx: tx.execute("DELETE FROM manifests").rowcount)
    with pytest.raises(Refusal) as caught:
        await asked(alice, bob, prior)
    assert caught.value.code == "not-settled"
    assert not await bob.actions("grant")
    (record,) = await bob.actions("grant-refused")
    assert record["detail"]["code"] == "not-settled"
