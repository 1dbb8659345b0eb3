"""Twelve months from the study, on every calendar and in every time zone."""

from __future__ import annotations

import datetime as dt
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.actors import Actor, Role
from peer.errors import NotFound
from peer.index import studies
from peer.retention import Retention, is_over, locked_until
from protocol.errors import Refusal
from tests.dicom_samples import instance
from tests.intake import NOW, open_intake

OPERATOR = Actor("Olga", "person", frozenset({Role.OPERATOR}))
OFFICER = Actor("Pia", "person", frozenset({Role.PRIVACY_OFFICER}))
STUDY = "1.2.3"


def utc(*when) -> int:
    return int(dt.datetime(*when, tzinfo=dt.UTC).timestamp())


@pytest.mark.parametrize(
    ("start", "months", "expected"),
    [
        ((2024, 1, 15), 12, (2025, 1, 15)),
        ((2024, 2, 29), 12, (2025, 3, 1)),
        ((2023, 2, 28), 12, (2024, 2, 28)),
        ((2024, 2, 29), 48, (2028, 2, 29)),
        ((2024, 12, 31), 12, (2025, 12, 31)),
        ((2024, 8, 31), 18, (2026, 3, 1)),
        ((2024, 10, 31), 13, (2025, 12, 1)),
        ((2024, 11, 30), 15, (2026, 3, 1)),
        ((9999, 12, 31), 12, (9998, 12, 31)),
    ],
)
def test_the_last_day_of_the_period(start, months, expected):
    assert locked_until(dt.date(*start), months) == dt.date(*expected)


@given(st.dates(dt.date(1990, 1, 1), dt.date(2100, 1, 1)), st.integers(12, 240))
def test_no_period_is_shorter_than_its_months(start, months):
    until = locked_until(start, months)
    years = until.year - start.year
    elapsed = years * 12 + until.month - start.month
    assert elapsed > months or (elapsed == months and until.day >= start.day)
    assert until - start <= dt.timedelta(days=31 * months)


def test_a_day_ends_when_it_has_ended_everywhere():
    day = dt.date(2025, 1, 15)
    assert not is_over(day, utc(2025, 1, 15, 23, 59, 59))
    assert not is_over(day, utc(2025, 1, 16, 11, 59, 59))
    assert is_over(day, utc(2025, 1, 16, 12))


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12", "America/New_York"])
def test_the_zone_of_the_machine_plays_no_part(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert is_over(dt.date(2025, 1, 15), utc(2025, 1, 16, 12))
        assert not is_over(dt.date(2025, 1, 15), utc(2025, 1, 16, 12) - 1)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.fixture
async def intake(tmp_path):
    async with open_intake(tmp_path / "data") as opened:
        yield opened


def retention(intake, withdrawn=None):
    def withdraw_in(_tx, uid):
        if withdrawn is not None:
            withdrawn.append(uid)

    return Retention(intake.db, intake.ingest, intake.clock, intake.settings, withdraw_in)


async def store(intake, date, study=STUDY):
    outcome = await intake.take(instance(1, study=study, StudyDate=date, PatientID=study))
    assert outcome.status == "accepted"


async def test_a_locked_study_cannot_be_purged(intake):
    await store(intake, "20250102")
    withdrawn = []
    kept = retention(intake, withdrawn)
    lock = await kept.check(STUDY)
    assert (lock.locked, lock.until) == (True, dt.date(2026, 1, 2))
    with pytest.raises(Refusal) as caught:
        await kept.purge(STUDY, OPERATOR)
    assert caught.value.code == "retention-lock"
    assert "2026-01-02" in caught.value.reason
    with pytest.raises(Refusal):
        await kept.purge(STUDY, OFFICER)
    with pytest.raises(Refusal):
        await kept.purge(STUDY, OPERATOR, "I want to")
    assert withdrawn == []
    assert await intake.read("1.2.3.1.1")
    lines = [line async for line in intake.audit.export(None, None)]
    assert sum("purge-refused" in line for line in lines) == 3


async def test_the_lock_ends_with_the_last_second_of_the_last_day(intake):
    await store(intake, "20240229")
    kept = retention(intake)
    intake.clock.advance(utc(2025, 3, 2, 12) - 1 - NOW)
    assert (await kept.check(STUDY)).locked
    intake.clock.advance(1)
    assert not (await kept.check(STUDY)).locked


async def test_a_free_study_is_destroyed_and_withdrawn(intake):
    await store(intake, "20200102")
    await store(intake, "20200103", "1.2.4")
    withdrawn = []
    purged = []

    async def listener(uid):
        purged.append((uid, list(withdrawn)))

    kept = retention(intake, withdrawn)
    kept.on_purged(listener)
    assert [lock.study_instance_uid for lock in await kept.list()] == ["1.2.4", STUDY]
    await kept.purge(STUDY, OPERATOR)
    assert withdrawn == [STUDY]
    assert purged == [(STUDY, [STUDY])]
    assert len(intake.store.sizes()) == 1
    assert await intake.db.read(lambda tx: studies.get(tx, STUDY)) is None
    with pytest.raises(NotFound):
        await kept.check(STUDY)
    with pytest.raises(NotFound):
        await kept.purge(STUDY, OPERATOR)


async def test_a_privacy_officer_releases_with_a_reason_on_record(intake):
    await store(intake, "20250102")
    await retention(intake).purge(STUDY, OFFICER, "court order 17/25")
    lines = [line async for line in intake.audit.export(None, None)]
    assert "court order 17/25" in lines[-1]
    assert intake.store.sizes() == {}


async def test_without_a_study_date_the_receipt_counts(intake):
    await store(intake, None)
    lock = await retention(intake).check(STUDY)
    received = dt.datetime.fromtimestamp(NOW, dt.UTC).date()
    assert lock.until == locked_until(received, 12)
    assert "no Study Date" in lock.reason


async def test_no_setting_makes_it_shorter_than_twelve_months(intake):
    await store(intake, "20250102")
    kept = retention(intake)
    kept._settings = intake.settings.model_copy(
        update={"retention": intake.settings.retention.model_copy(update={"months": 1})}
    )
    assert (await kept.check(STUDY)).until == dt.date(2026, 1, 2)


async def test_the_lock_survives_a_restart(tmp_path):
    async with open_intake(tmp_path / "data") as intake:
        await store(intake, "20250102")
    async with open_intake(tmp_path / "data") as intake:
        with pytest.raises(Refusal, match="locked"):
            await retention(intake).purge(STUDY, OPERATOR)
