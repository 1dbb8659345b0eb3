"""Consent ends while a notice waits for a partner that is away: it must not be delivered then."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.facilities import CLINICIAN, JANE, OFFICER
from tests.transfers import STUDY, hospitals


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as opened:
        yield opened


async def settled(bob):
    """Return the one notice of the outbox once it does not wait any more."""
    async with asyncio.timeout(60):
        while True:
            (row,) = await bob.notify.outbox()
            if row.refusal or row.delivered_at:
                return row
            await asyncio.sleep(0.01)


async def test_a_notice_that_waits_while_consent_ends_is_given_up_on_record(pair):
    alice, bob = pair
    await bob.scan(count=1)
    directive = await bob.consent()
    bob.links.cut(alice)
    await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN)
    await bob.consents.revoke(directive.directive_id, "the patient asked", OFFICER)

    bob.links.connect(alice)
    row = await settled(bob)
    assert row.delivered_at is None
    assert row.to_json()["refusal"] == "The patient's directive was revoked."
    assert await alice.notify.inbox() == []
    outcomes = [record["outcome"] for record in await bob.actions("notify")]
    assert outcomes == ["success", "refused"]

    await bob.consent()  # A new consent is a new decision, not leave for what was given up.
    bob.links.connect(alice)
    await asyncio.sleep(0.1)
    assert await alice.notify.inbox() == []


async def test_a_header_with_overlong_texts_does_not_stop_the_outbox(pair):
    alice, bob = pair
    patient = replace(JANE, sex="FEMALE")
    await bob.scan(count=1, patient=patient)
    await bob.consent(patient)
    await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN)
    assert (await settled(bob)).delivered_at is not None
    (notice,) = await alice.notify.inbox()
    assert notice.content.sex == "F"
