"""What is published and withdrawn, seen through what partners find."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from peer.errors import StorageFull
from peer.index import announced, journal, opened, packs, publications, studies
from peer.index.journal import Halt
from protocol.agreement import Terms
from protocol.consent import Scope
from tests.facilities import (
    JANE,
    OFFICER,
    START,
    everyone_shares,
    facilities,
    named,
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


async def test_a_consented_study_is_found_with_facility_reason_and_coverage(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    await everyone_shares(*hospitals)

    answer = (await alice.find()).to_json()
    (result,) = answer["results"]
    assert result["facility"] == {"peer_id": bob.peer_id.hex(), "name": "Bob"}
    assert result["study_instance_uid"] == STUDY
    assert result["modalities"] == ["CT"]
    assert result["local"] is False
    assert result["held_here"] is False
    assert result["match"]["tier"] == "match"
    assert "Birth date: same" in result["match"]["reasons"]
    assert answer["coverage"]["sentence"] == "Searched 3 of 3 facilities."
    assert answer["persons"][result["person"]]["name"] == "Mueller^Jane Ann"


async def test_without_consent_nothing_is_found(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await everyone_shares(*hospitals)
    assert await alice.finds() == set()
    assert await published(bob) == []


async def test_consent_before_the_study_and_after_it_lead_to_the_same(hospitals):
    alice, bob, carol = hospitals
    await bob.consent()
    await bob.acquire(STUDY)
    await carol.acquire(LATER)
    await carol.consent()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY), ("Carol", LATER)}


async def test_a_study_restricted_to_one_partner_is_not_found_by_another(hospitals):
    alice, bob, carol = hospitals
    await alice.acquire(STUDY)
    await alice.consent(recipients=named(bob))
    await everyone_shares(*hospitals)

    assert await bob.finds() == {("Alice", STUDY)}
    assert await carol.finds() == set()
    coverage = (await carol.find()).coverage
    assert alice.peer_id in {each.peer_id for each in coverage.searched}, "Carol was answered"


async def test_revocation_withdraws_everything_in_its_own_transaction(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.acquire(LATER)
    directive = await bob.consent()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY), ("Bob", LATER)}
    assert await alice.db.read(lambda tx: opened.count(tx, bob.peer_id)) == 1

    recorded = await bob.consents.revoke(directive.directive_id, "changed her mind", OFFICER)
    assert recorded.withdrawn_seq is not None
    assert await published(bob) == []
    await everyone_shares(*hospitals)
    assert await alice.db.read(lambda tx: opened.count(tx, bob.peer_id)) == 0, "the key is kept"
    assert await alice.finds() == set()
    assert await alice.search.prior(bob.peer_id, STUDY), "the list may stand on a screen still"
    alice.clock.advance(alice.settings.search.shown_s + 1)
    assert await alice.search.prior(bob.peer_id, STUDY) is None
    assert (await bob.audit.verify()).ok


async def test_a_new_grant_uses_a_new_patient_key_and_new_entries(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    first = await bob.consent()
    before = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])
    await bob.consents.revoke(first.directive_id, "", OFFICER)
    await bob.consent()
    after = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])
    assert after.patient_key != before.patient_key
    assert after.entry_id != before.entry_id
    chains = await bob.db.read(
        lambda tx: [(c.state, p) for c, p in publications.slots_of(tx, after.published)]
    )
    assert {position for _, position in chains} == {1}, "a counter ran backwards"
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}


async def test_withdrawing_one_study_withdraws_its_entry_only(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.acquire(LATER)
    await bob.consent()
    before = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])
    await bob.db.write(lambda tx: studies.hold(tx, STUDY, held_back=True))
    await bob.publish.study_changed(STUDY)
    after = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])
    assert after == before
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", LATER)}

    await bob.db.write(lambda tx: studies.hold(tx, STUDY, held_back=False))
    await bob.publish.study_changed(STUDY)
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY), ("Bob", LATER)}


async def test_many_changes_of_one_study_leave_it_findable(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.acquire(LATER)
    await bob.consent()
    for _ in range(12):
        for held_back in (True, False):
            await bob.db.write(lambda tx, h=held_back: studies.hold(tx, STUDY, held_back=h))
            await bob.publish.study_changed(STUDY)
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY), ("Bob", LATER)}


async def test_many_patients_under_one_match_key_come_and_go(hospitals):
    alice, bob, _ = hospitals
    twins = [replace(JANE, patient_id=f"MRN-{n:05}") for n in range(100, 122)]
    directives = []
    for n, twin in enumerate(twins):
        await bob.acquire(f"1.2.9.{n}", twin)
        directives.append(await bob.consent(twin))
    for directive in directives[:-1]:
        await bob.consents.revoke(directive.directive_id, "", OFFICER)
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", "1.2.9.21")}


async def test_reconciling_again_changes_nothing(hospitals):
    _, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    told = bob.told
    await bob.publish.study_changed(STUDY)
    await bob.publish.look_at_all()
    assert bob.told == told


async def test_what_could_not_be_erased_is_erased_later(hospitals, monkeypatch):
    _, bob, _ = hospitals
    await bob.acquire(STUDY)
    consent = await bob.consent()
    erased = []

    async def erase(error=None):
        erased.append(error)
        if error:
            raise error

    with monkeypatch.context() as broken:
        broken.setattr(bob.db, "checkpoint_truncate", lambda: erase(StorageFull("No room.")))
        with pytest.raises(StorageFull):
            await bob.consents.revoke(consent.directive_id, "changed her mind", OFFICER)
    monkeypatch.setattr(bob.db, "checkpoint_truncate", erase)
    await bob.publish.written()
    await bob.publish.written()
    assert erased[-2] is not None
    assert erased[-1] is None, "once it was erased nothing is left to erase"
    assert erased.count(None) == 1


async def test_an_expired_consent_is_hidden_by_the_receivers_clock_and_then_withdrawn(hospitals):
    alice, bob, _ = hospitals
    ends = START + 40 * DAY
    await bob.acquire(STUDY)
    await bob.consent(expires_at=ends, shorter_period_requested=True)
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}

    bob.clock.time_s = ends - 1
    await bob.publish.renew()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}
    bob.clock.time_s = ends
    assert await alice.finds() == set(), "the receiver trusts its own clock"
    assert await published(bob) != []
    await bob.publish.apply_due()
    assert await published(bob) == []


async def test_a_clock_that_was_ahead_once_does_not_silence_the_node_till_then(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    bob.clock.time_s = START + 300 * DAY
    await bob.publish.renew()
    bob.clock.time_s = START + 60
    await bob.share(alice)
    assert await alice.finds() == set(), "a head from the future vouches for nothing"
    await bob.publish.renew()
    await bob.share(alice)
    assert await alice.finds() == {("Bob", STUDY)}


async def test_a_consent_that_begins_later_is_published_then(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent(effective_from=START + DAY)
    assert await published(bob) == []
    bob.clock.advance(DAY)
    await bob.publish.apply_due()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}


async def test_a_study_outside_one_partners_terms_goes_to_the_others_alone(hospitals):
    alice, bob, carol = hospitals
    bob.partners = [
        replace(p, our_terms=Terms(modalities=("MR",))) if p.name == "Carol" else p
        for p in bob.partners
    ]
    await bob.acquire(STUDY)
    await bob.acquire(LATER, modality="MR")
    await bob.consent()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY), ("Bob", LATER)}
    assert await carol.finds() == {("Bob", LATER)}


async def test_removing_a_partner_changes_the_keys_of_everyone(hospitals):
    alice, bob, carol = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    before = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])
    bob.remove(carol)
    await bob.publish.partner_changed(carol.peer_id, "removed")
    await bob.publish.look_at_all()
    after = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])
    assert after.key_epoch == before.key_epoch + 1
    assert after.patient_key != before.patient_key
    await bob.share(alice)
    assert await alice.finds() == {("Bob", STUDY)}


async def test_a_change_of_keys_that_fails_is_begun_anew(hospitals, monkeypatch):
    _, bob, carol = hospitals
    await bob.acquire(STUDY)
    await bob.consent()
    before = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])
    bob.remove(carol)
    await bob.publish.partner_changed(carol.peer_id, "removed")
    with monkeypatch.context() as patched:

        async def full(_):
            raise StorageFull("No room.")

        patched.setattr(bob.db, "write", full)
        with pytest.raises(StorageFull):
            await bob.publish.look_at_all()
    await bob.publish.look_at_all()
    after = await bob.db.read(lambda tx: publications.of_patient(tx, 1)[b""])
    assert after.key_epoch == before.key_epoch + 1


async def test_a_directive_that_names_a_partner_takes_effect_when_it_joins(hospitals):
    alice, bob, carol = hospitals
    bob.partners, waiting = [p for p in bob.partners if p.name != "Alice"], bob.partners
    await bob.acquire(STUDY)
    await bob.consent(recipients=named(alice))
    assert await published(bob) == []
    bob.partners = waiting
    await bob.publish.partner_changed(alice.peer_id, "active")
    await bob.publish.look_at_all()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", STUDY)}
    assert await carol.finds() == set()


async def test_a_purge_withdraws_in_the_transaction_that_removes_the_study(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.acquire(LATER)
    await bob.consent()

    def purge(tx):
        bob.publish.withdraw_in(tx, STUDY)
        packs.remove_study(tx, STUDY)

    await bob.db.write(purge)
    told = bob.told
    await bob.publish.written()
    assert bob.told == told + 1
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", LATER)}
    await bob.publish.look_at_all()
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", LATER)}


async def test_run_makes_good_what_was_missed_while_the_node_was_off(hospitals):
    _, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent(expires_at=START + DAY, shorter_period_requested=True)
    bob.clock.advance(7 * DAY)
    withdrawn = asyncio.Event()

    async def look():
        if not await published(bob):
            withdrawn.set()

    bob.on_appended = look
    running = asyncio.create_task(bob.publish.run())
    await withdrawn.wait()
    running.cancel()
    head = await bob.db.read(lambda tx: journal.head(tx, bob.peer_id))
    assert head.issued_at == bob.clock.now()


async def test_what_changes_while_the_journal_is_halted_follows_after_it(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    directive = await bob.consent()
    await bob.db.write(lambda tx: journal.halt(tx, Halt.BEHIND))
    recorded = await bob.consents.revoke(directive.directive_id, "", OFFICER)
    assert recorded.directive.status == "revoked"
    assert recorded.withdrawn_seq is None
    await bob.db.write(journal.resume)
    await bob.publish.apply_due()
    await everyone_shares(*hospitals)
    assert await published(bob) == []
    assert await alice.finds() == set()


async def test_fillers_of_a_past_key_epoch_are_withdrawn_with_it(hospitals):
    _, bob, carol = hospitals
    twins = [replace(JANE, patient_id=f"MRN-{n:05}") for n in range(100, 112)]
    for n, twin in enumerate(twins):
        await bob.acquire(f"1.2.9.{n}", twin)
        directive = await bob.consent(twin)
        if n < 11:
            await bob.consents.revoke(directive.directive_id, "", OFFICER)
    filler_entries = "SELECT count(*) AS number FROM slot_filler_entries"
    assert await bob.db.read(lambda tx: tx.execute(filler_entries).fetchone()["number"]) > 0
    bob.remove(carol)
    await bob.publish.partner_changed(carol.peer_id, "removed")
    await bob.publish.look_at_all()
    left = await bob.db.read(lambda tx: tx.execute(filler_entries).fetchone()["number"])
    assert left == 1, "the announcement of the new key"
    head = await bob.db.read(lambda tx: journal.head(tx, bob.peer_id))
    assert head.live_count == 3, "and card and study of the one patient who is left"


async def test_scope_decides_which_studies_are_published(hospitals):
    alice, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.acquire(LATER, modality="MR")
    await bob.consent(scope=Scope("matching", modalities=frozenset({"MR"})))
    await everyone_shares(*hospitals)
    assert await alice.finds() == {("Bob", LATER)}


async def test_a_key_that_was_never_announced_is_announced_at_the_next_start(hospitals):
    """As for what was published before there were announcements."""
    _, bob, _ = hospitals
    await bob.acquire(STUDY)
    await bob.consent()

    def forget(tx):
        tx.execute("DELETE FROM announced_keys")

    await bob.db.write(forget)
    live = (await bob.db.read(lambda tx: journal.head(tx, bob.peer_id))).live_count
    for _ in range(2):
        await bob.publish.look_at_all()
        bob.publish._look_at_all = True
    assert await bob.db.read(lambda tx: announced.is_live(tx, 1))
    head = await bob.db.read(lambda tx: journal.head(tx, bob.peer_id))
    assert head.live_count == live + 1


async def test_compaction_changes_nothing_that_anyone_finds_or_asks_with(hospitals):
    alice, bob, carol = hospitals
    for number in range(6):
        await bob.acquire(f"{STUDY}.{number}")
    directive = await bob.consent()
    await everyone_shares(*hospitals)
    await alice.find()
    for _ in range(3):
        await bob.consents.revoke(directive.directive_id, "changed her mind", OFFICER)
        directive = await bob.consent()
    await alice.share(bob)
    await bob.share(alice)
    before = (await alice.find()).to_json()["results"]

    def handles(tx):
        rows = tx.execute("SELECT retrieve_handle FROM published_studies ORDER BY 1").fetchall()
        return [row["retrieve_handle"] for row in rows]

    published_before = await bob.db.read(handles)
    bob.publish._compaction_entries = 5
    told, floors = bob.told, []
    for _ in range(4):
        await bob.publish.compact()
        floors.append((await bob.db.read(lambda tx: journal.head(tx, bob.peer_id))).floor)
    assert floors[0] > 1
    assert len(set(floors)) == 1, "one step moves them all, and then it is not due"
    assert bob.told == told + 1, "partners are told of the new head"
    assert await bob.db.read(handles) == published_before
    await everyone_shares(*hospitals)
    assert (await alice.find()).to_json()["results"] == before
    assert await carol.finds() == {("Bob", f"{STUDY}.{n}") for n in range(6)}
    await bob.consents.revoke(directive.directive_id, "for good", OFFICER)
    await bob.share(alice)
    assert await alice.finds() == set()
