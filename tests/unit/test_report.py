"""The report says what the record supports, and what is lacking otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from peer.errors import NotFound
from peer.index import studies
from peer.index.held import Held
from peer.report import Report
from peer.report.days import performed_before
from peer.retention import lock_of
from tests.facilities import ASK_JANE, CLINICIAN, OFFICER, everyone_shares, named
from tests.transfers import STUDY, Trust, hospitals, ready

DAY = 24 * 3600
EVE_OF_THE_STUDY = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())


def report_of(facility):
    """Return the report of a facility whose partners acknowledge what they hold of its journal."""

    async def lock(uid):
        study = await facility.db.read(lambda tx: studies.get(tx, uid))
        return lock_of(study, 12, facility.clock.now())

    async def acknowledged(seq):
        since = {}
        for partner in facility.active:
            other = facility.knows[partner.peer_id]
            head = await other.partners_db.read(lambda tx: Held(tx, facility.peer_id).head())
            applied = head is not None and head.last_seq >= seq
            since[partner.peer_id] = head.issued_at if applied else None
        return since

    return Report(
        db=facility.db,
        me=facility.peer_id,
        partners=Trust(facility),
        clock=facility.clock,
        lock=lock,
        acknowledged=acknowledged,
        settings=facility.settings.report,
    )


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as opened:
        yield opened


async def availability(facility):
    return (await report_of(facility).sentence(STUDY))["data_availability"]


async def search(facility):
    return (await report_of(facility).sentence(STUDY))["data_search"]


async def test_available_with_all_of_its_evidence(pair):
    alice, bob = pair
    await ready(alice, bob)
    await alice.fetch(bob)
    section = await availability(bob)
    assert section["met"]
    assert section["code"] == "G9340"
    assert section["sentence"].startswith("DICOM format image data available to non-affiliated")
    assert section["lacking"] == []
    told = "\n".join(section["evidence"])
    for piece in (
        "Alice has held its searchable record since 2026-11-18.",
        "AES-256-GCM",
        "All studies may go to all partners for treatment",
        "Retention: Kept for 12 months since Study Date 2026-11-02: until 2027-11-02.",
        "Alice fetched it on 2026-11-18: 3/3 instances verified.",
    ):
        assert piece in told


async def test_without_consent_it_is_not_available_and_says_why(pair):
    _, bob = pair
    await bob.scan(count=1)
    section = await availability(bob)
    assert not section["met"]
    assert section["code"] == "G9329"
    assert "not documented" in section["sentence"]
    assert "The study is not published to any partner." in section["lacking"]
    assert any("No directive of the patient" in each for each in section["lacking"])
    assert f"Lacking: {section['lacking'][0]}" in section["evidence"]


async def test_until_a_partner_confirms_it_is_not_available(pair):
    alice, bob = pair
    await bob.scan(count=1)
    await bob.consent()
    section = await availability(bob)
    assert section["lacking"] == [
        "No partner has confirmed yet that it holds the study's searchable record."
    ]
    await everyone_shares(alice, bob)
    assert (await availability(bob))["met"]


async def test_after_revocation_it_is_no_longer_available(pair):
    alice, bob = pair
    await bob.scan(count=1)
    directive = await bob.consent()
    await everyone_shares(alice, bob)
    assert (await availability(bob))["met"]
    await bob.consents.revoke(directive.directive_id, "", OFFICER)
    section = await availability(bob)
    assert not section["met"]
    assert any("revoked" in each for each in section["lacking"])


async def test_a_consent_that_ends_before_twelve_months_is_not_enough(pair):
    alice, bob = pair
    await bob.scan(count=1)
    end = bob.clock.now() + 30 * DAY
    short = await bob.consent(expires_at=end, shorter_period_requested=True)
    await everyone_shares(alice, bob)
    section = await availability(bob)
    assert section["lacking"] == [
        "The patient's authorization ends within twelve months after the study."
    ]
    await bob.consents.revoke(short.directive_id, "", OFFICER)
    await bob.consent(expires_at=end)
    await everyone_shares(alice, bob)
    assert (await availability(bob))["met"], "unless the patient says so, it lasts twelve months"


async def test_a_study_for_one_partner_counts_for_that_partner_alone(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob", "Carol") as (alice, bob, carol):
        await bob.scan(count=1)
        await bob.consent(recipients=named(alice))
        await bob.share(carol)
        assert not (await availability(bob))["met"], "Carol cannot open it"
        await bob.share(alice)
        section = await availability(bob)
        assert section["met"]
        assert not any("Carol" in each for each in section["evidence"])


async def test_a_copy_is_not_reported_as_ours(pair):
    alice, bob = pair
    await ready(alice, bob)
    await alice.fetch(bob)
    section = await availability(alice)
    assert not section["met"]
    assert any("copy" in each for each in section["lacking"])


async def test_a_study_without_a_date_is_not_reported_as_available(pair):
    alice, bob = pair
    await ready(alice, bob)
    await bob.db.write(lambda tx: tx.execute("UPDATE studies SET study_date = ''"))
    report = await report_of(bob).sentence(STUDY)
    assert not report["data_availability"]["met"]
    assert report["data_search"]["code"] == "G9342"
    assert any("no Study Date" in each for each in report["data_availability"]["lacking"])


@pytest.mark.parametrize("known", [False, True], ids=["new patient", "patient known here"])
async def test_a_search_before_the_study_is_found_by_patient_or_by_name(tmp_path, known):
    morning = int(datetime(2026, 11, 2, 6, tzinfo=UTC).timestamp())
    async with hospitals(tmp_path, "Alice", "Bob", start=morning) as (_, bob):
        if known:
            await bob.scan("1.2.3.4", count=1)
        await bob.find()
        bob.clock.advance(6 * 3600)
        await bob.scan(count=1)
        section = await search(bob)
    assert section["met"]
    assert section["code"] == "G9341"
    assert "Searched 2 of 2 facilities." in section["evidence"][0]


async def test_a_search_after_the_study_does_not_count(pair):
    alice, bob = pair
    await bob.scan(count=1)
    assert (await search(bob))["lacking"] == [
        "No search for this patient is on record in the 30 days before the study."
    ]
    await everyone_shares(alice, bob)
    await bob.find()
    section = await search(bob)
    assert section["code"] == "G9342"
    assert "came after the study" in section["lacking"][0]


async def test_a_search_that_reached_nobody_is_a_system_reason(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob", start=EVE_OF_THE_STUDY) as (alice, bob):
        bob.links.cut(alice)
        await bob.find()
        bob.clock.advance(2 * DAY)
        await bob.scan(count=1)
        section = await search(bob)
    assert (section["met"], section["code"]) == (False, "G9344")
    assert section["evidence"][0].startswith("On 2026-11-01")


async def test_a_facility_without_partners_had_nobody_to_search(tmp_path):
    async with hospitals(tmp_path, "Bob") as (bob,):
        await bob.scan(count=1)
        assert (await search(bob))["code"] == "G9344"


async def test_another_patients_search_does_not_count(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob", start=EVE_OF_THE_STUDY) as (_, bob):
        await bob.find(replace(ASK_JANE, name="Doe^John"))
        bob.clock.advance(DAY)
        await bob.scan(count=1)
        assert (await search(bob))["code"] == "G9342"


async def test_a_report_is_on_record_and_an_unknown_study_is_not_found(pair):
    _, bob = pair
    await bob.scan(count=1)
    await report_of(bob).sentence(STUDY, CLINICIAN)
    (record,) = await bob.actions("report")
    assert record["detail"] == {"data_availability": "G9329", "data_search": "G9342"}
    with pytest.raises(NotFound):
        await report_of(bob).sentence("1.2.3")


@pytest.mark.parametrize(
    ("date", "time", "zone", "expected"),
    [
        ("20261102", "101500", "+0100", "2026-11-02T09:15:00"),
        ("20261102", "101500.5", "-0530", "2026-11-02T15:45:00"),
        ("20261102", "235960", "+0000", "2026-11-02T23:59:59"),
        ("20261102", "101500", "", "2026-11-03T12:00:00"),
        ("20261102", "10", "+0100", "2026-11-03T12:00:00"),
        ("20261102", "991500", "+0100", "2026-11-03T12:00:00"),
        ("20261302", "101500", "+0100", None),
        ("", "101500", "+0100", None),
    ],
)
async def test_when_a_study_was_performed(pair, date, time, zone, expected):
    _, bob = pair
    await bob.scan(count=1)
    study = await bob.db.read(lambda tx: studies.get(tx, STUDY))
    found = performed_before(replace(study, study_date=date, study_time=time, timezone=zone))
    shown = None if found is None else datetime.fromtimestamp(found, UTC).strftime("%FT%T")
    assert shown == expected
