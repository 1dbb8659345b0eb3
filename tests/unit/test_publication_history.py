"""After any history of consents, studies and partners, a search finds what is permitted, and only
that: the whole of publishing and searching against a model of three lines."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from peer.index import packs, studies
from tests.facilities import ASK_JANE, JANE, OFFICER, everyone_shares, facilities, named

STEPS = 60
PATIENTS = 3


class History:
    """Random events at Bob, and what Alice and Carol may find by them."""

    def __init__(self, seed, alice, bob, carol):
        self.random = random.Random(seed)
        self.alice, self.bob, self.carol = alice, bob, carol
        self.patients = [replace(JANE, patient_id=f"MRN-{n:05}") for n in range(PATIENTS)]
        self.studies = {}  # uid -> [patient, held_back]
        self.directives = {}  # id -> (patient, names of who may find)

    def expected(self, name):
        allowed = {patient for patient, who in self.directives.values() if name in who}
        return {
            ("Bob", uid)
            for uid, (patient, held_back) in self.studies.items()
            if patient in allowed and not held_back
        }

    async def step(self):
        events = [self.acquire, self.grant, self.revoke, self.hold, self.purge, self.regroup]
        await self.random.choice(events)()

    async def acquire(self):
        uid = f"1.2.3.{len(self.studies)}.{self.random.randrange(10**6)}"
        patient = self.random.randrange(PATIENTS)
        self.studies[uid] = [patient, False]
        await self.bob.acquire(uid, self.patients[patient])

    async def grant(self):
        patient = self.random.randrange(PATIENTS)
        choices = {
            ("Alice", "Carol"): {},
            ("Alice",): {"recipients": named(self.alice)},
            ("Carol",): {"recipients": named(self.carol)},
        }
        who = self.random.choice(list(choices))
        directive = await self.bob.consent(self.patients[patient], **choices[who])
        self.directives[directive.directive_id] = (patient, who)

    async def revoke(self):
        if self.directives:
            directive_id = self.random.choice(sorted(self.directives))
            del self.directives[directive_id]
            await self.bob.consents.revoke(directive_id, "", OFFICER)

    async def hold(self):
        if self.studies:
            uid = self.random.choice(sorted(self.studies))
            held_back = self.studies[uid][1] = not self.studies[uid][1]
            await self.bob.db.write(lambda tx: studies.hold(tx, uid, held_back=held_back))
            await self.bob.publish.study_changed(uid)

    async def purge(self):
        if self.studies:
            uid = self.random.choice(sorted(self.studies))
            del self.studies[uid]

            def work(tx):
                self.bob.publish.withdraw_in(tx, uid)
                packs.remove_study(tx, uid)

            await self.bob.db.write(work)
            await self.bob.publish.written()

    async def regroup(self):
        """A fourth facility joins and leaves again: the keys of everyone change."""
        everyone = self.bob.partners
        self.bob.partners = [*everyone, replace(everyone[0], peer_id=b"D" * 32, name="Dave")]
        await self.bob.publish.partner_changed(b"D" * 32, "active")
        await self.bob.publish.look_at_all()
        self.bob.partners = everyone
        await self.bob.publish.partner_changed(b"D" * 32, "removed")
        await self.bob.publish.look_at_all()


@pytest.mark.parametrize("seed", range(4))
async def test_a_search_finds_exactly_what_is_permitted(tmp_path, seed):
    async with facilities(tmp_path, "Alice", "Bob", "Carol") as (alice, bob, carol):
        history = History(seed, alice, bob, carol)
        for step in range(STEPS):
            await history.step()
            if step % 4 == 3:
                await everyone_shares(bob, alice, carol)
                for searcher in (alice, carol):
                    found = await searcher.finds(ASK_JANE)
                    assert found == history.expected(searcher.name), f"seed {seed}, step {step}"
        assert (await bob.audit.verify()).ok
