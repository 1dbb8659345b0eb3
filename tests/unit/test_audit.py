"""The audit chain: every way to tamper with it is named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import sqlcipher3

from peer.actors import Actor, Role
from peer.audit import DISCLOSING, PAGE, Audit, AuditEvent, append
from peer.clock import ManualClock
from peer.errors import Conflict
from peer.index import INDEX_MIGRATIONS, Database
from protocol.hashing import keyed

KEY = bytes(range(32))
AUDIT_KEY = bytes(range(32, 64))
PARTNER = b"\xbb" * 32
ALICE = Actor("Alice Müller", "person", frozenset({Role.CLINICIAN, Role.AUDITOR}))
EVENT = AuditEvent("view", "success", ALICE, patient="7", study_instance_uid="1.2.3")

UNGUARD = ("DROP TRIGGER audit_is_never_altered", "DROP TRIGGER audit_is_never_deleted")


@pytest.fixture
async def db(tmp_path):
    opened = await Database.open(tmp_path / "index.db", KEY, INDEX_MIGRATIONS)
    yield opened
    await opened.close()


@pytest.fixture
def clock():
    return ManualClock(1_000)


@pytest.fixture
async def audit(db, clock):
    return await Audit.open(db, clock, AUDIT_KEY)


async def fill(audit, clock, count):
    for number in range(count):
        await audit.record(replace(EVENT, detail={"n": number}))
        clock.advance(10)


async def tamper(db, *statements):
    await db.write(lambda tx: [tx.execute(statement) for statement in (*UNGUARD, *statements)][:0])


async def test_records_are_numbered_and_the_trail_verifies(audit, clock):
    assert (await audit.verify()).ok, "an empty trail is whole"
    await fill(audit, clock, 5)
    verified = await audit.verify()
    assert (verified.ok, verified.records, verified.first_broken) == (True, 5, None)


async def test_a_trail_of_several_pages_verifies_and_is_exported_whole(audit, db, clock):
    count = PAGE * 2 + 1
    await db.write(lambda tx: [append(tx, EVENT, n) for n in range(count)])
    assert (await audit.verify()).records == count
    assert len([line async for line in audit.export(None, None)]) == count


async def test_append_is_part_of_the_callers_transaction(audit, db):
    def unit(tx):
        assert append(tx, EVENT, 5) == 1
        raise LookupError

    with pytest.raises(LookupError):
        await db.write(unit)
    assert (await audit.verify()).records == 0


async def test_nothing_is_recorded_without_the_key(db):
    with pytest.raises(sqlcipher3.OperationalError, match="audit_mac"):
        await db.write(lambda tx: append(tx, EVENT, 5))


async def test_the_chain_is_what_the_documentation_says(audit, db, clock):
    await fill(audit, clock, 2)
    rows = await db.read(lambda tx: tx.execute("SELECT record, hash FROM audit").fetchall())
    first = keyed(AUDIT_KEY, b"\x00" + bytes(32) + rows[0]["record"].encode())
    second = keyed(AUDIT_KEY, b"\x00" + first + rows[1]["record"].encode())
    assert [row["hash"] for row in rows] == [first, second]
    assert json.loads(rows[0]["record"]) == {
        "number": 1,
        "at": 1_000,
        "action": "view",
        "outcome": "success",
        "actor": {
            "name": "Alice Müller",
            "kind": "person",
            "roles": ["auditor", "clinician"],
            "purpose": "TREAT",
            "facility": None,
            "pseudonym": "",
        },
        "patient": "7",
        "study_instance_uid": "1.2.3",
        "partner": None,
        "detail": {"n": 0},
    }


@pytest.mark.parametrize(
    ("statements", "first_broken", "reason"),
    [
        (
            ["UPDATE audit SET record = replace(record, 'Alice', 'Mallo') WHERE number = 3"],
            3,
            "alt",
        ),
        (["UPDATE audit SET hash = zeroblob(32) WHERE number = 3"], 3, "altered"),
        (["DELETE FROM audit WHERE number = 3"], 3, "missing"),
        (
            [
                "UPDATE audit SET number = 99 WHERE number = 2",
                "UPDATE audit SET number = 2 WHERE number = 3",
                "UPDATE audit SET number = 3 WHERE number = 99",
            ],
            2,
            "another place",
        ),
        (
            [
                "DELETE FROM audit WHERE number = 3",
                "UPDATE audit SET number = number - 1 WHERE number > 3",
                "UPDATE audit_head SET records = 5",
            ],
            None,
            "head",
        ),
        (["DELETE FROM audit WHERE number > 4"], 5, "cut off"),
        (
            [
                "DELETE FROM audit WHERE number > 4",
                "UPDATE audit_head SET records = 4",
                "UPDATE audit_head SET hash = (SELECT hash FROM audit WHERE number = 4)",
            ],
            None,
            "head of the trail was altered",
        ),
        (["DELETE FROM audit_head"], None, "head of the trail is missing"),
        (["DELETE FROM audit"], 1, "missing"),
        (
            ["INSERT INTO audit (number, record, hash) SELECT 7, record, hash FROM audit LIMIT 1"],
            None,
            "Record 7 was added",
        ),
    ],
    ids=[
        "altered",
        "hash altered",
        "removed",
        "exchanged",
        "removed and renumbered",
        "tail cut",
        "tail cut and head rewritten",
        "head removed",
        "emptied",
        "added",
    ],
)
async def test_tampering_is_found_and_named(audit, db, clock, statements, first_broken, reason):
    await fill(audit, clock, 6)
    await tamper(db, *statements)
    verified = await audit.verify()
    assert not verified.ok
    assert verified.first_broken == first_broken
    assert reason in verified.reason


async def test_another_key_does_not_verify(audit, db, clock):
    await fill(audit, clock, 2)
    other = await Audit.open(db, clock, bytes(32))
    assert not (await other.verify()).ok


async def test_a_later_page_is_checked_against_the_earlier(audit, db):
    await db.write(lambda tx: [append(tx, EVENT, n) for n in range(PAGE + 5)])
    await tamper(
        db, "UPDATE audit SET record = '{}' WHERE number = (SELECT max(number) - 4 FROM audit)"
    )
    assert (await audit.verify()).first_broken == PAGE + 1


@pytest.mark.parametrize("statement", ["UPDATE audit SET hash = x'00'", "DELETE FROM audit"])
async def test_the_schema_itself_forbids_changing_a_record(audit, db, clock, statement):
    await fill(audit, clock, 1)
    with pytest.raises(Conflict, match="never"):
        await db.write(lambda tx: tx.execute(statement))
    assert (await audit.verify()).ok


async def test_export_is_lines_of_json_within_the_period(audit, clock):
    await fill(audit, clock, 5)
    lines = [json.loads(line) async for line in audit.export(1_010, 1_030)]
    assert [line["at"] for line in lines] == [1_010, 1_020]
    assert len(bytes.fromhex(lines[0]["hash"])) == 32
    assert len([line async for line in audit.export(None, None)]) == 5


async def test_an_exported_line_without_its_hash_is_what_was_hashed(audit, clock):
    await fill(audit, clock, 1)
    lines = [line async for line in audit.export(None, None)]
    record = lines[0][: lines[0].rindex(',"hash"')] + "}"
    assert keyed(AUDIT_KEY, b"\x00" + bytes(32) + record.encode()).hex() in lines[0]


async def test_disclosures_are_what_went_to_others(audit, clock):
    dr_bob = Actor("Dr. Bob", "partner", frozenset({Role.CLINICIAN}), "ETREAT", PARTNER, "ab12")
    grant = AuditEvent("grant", "success", dr_bob, "7", "1.2.3", PARTNER)
    for event in (
        EVENT,
        grant,
        replace(grant, outcome="refused"),
        replace(grant, patient="8", study_instance_uid="9.9"),
        replace(grant, patient="", detail={"what": "12 instances"}),
        replace(grant, action="release", partner=None, detail={"recipient": "PACS2"}),
    ):
        await audit.record(event)
        clock.advance(10)
    found = await audit.disclosures(["7"], ["1.2.3"])
    assert [(each.at, each.recipient, each.what) for each in found] == [
        (1_010, PARTNER.hex(), "the images of a study"),
        (1_040, PARTNER.hex(), "12 instances"),
        (1_050, "PACS2", "the images of a study"),
    ]
    assert (found[0].purpose, found[0].actor) == ("ETREAT", "Dr. Bob")
    assert [each.at for each in await audit.disclosures(["7"], (), 1_011)] == [1_050]
    assert await audit.disclosures([""], [""]) == [], "nobody's records are nobody's"


@pytest.mark.parametrize(
    "asked",
    [
        "SELECT number FROM audit WHERE patient = ? AND patient <> ''",
        "SELECT number FROM audit WHERE study_instance_uid = ? AND study_instance_uid <> ''",
    ],
)
async def test_look_ups_use_an_index(db, asked):
    plan = await db.read(lambda tx: tx.execute(f"EXPLAIN QUERY PLAN {asked}", ("7",)).fetchall())
    assert "USING INDEX audit_" in plan[0]["detail"]


def test_an_unknown_action_is_our_own_mistake():
    with pytest.raises(ValueError, match=r"audit\.ACTIONS"):
        AuditEvent("vieww", "success", ALICE)
    with pytest.raises(ValueError, match=r"audit\.OUTCOMES"):
        AuditEvent("view", "ok", ALICE)


def test_every_disclosing_action_says_what_it_disclosed():
    from peer.audit import _WHAT, ACTIONS

    assert set(_WHAT) == DISCLOSING
    assert DISCLOSING <= ACTIONS


async def test_an_index_of_the_first_schema_is_upgraded_with_its_trail(tmp_path, clock):
    old = tmp_path / "migrations"
    old.mkdir()
    first = "0001_meta_audit.sql"
    (old / first).write_text(INDEX_MIGRATIONS.joinpath(first).read_text(encoding="utf-8"))
    for migrations, records in ((old, 3), (INDEX_MIGRATIONS, 6)):
        index = await Database.open(tmp_path / "index.db", KEY, migrations)
        audit = await Audit.open(index, clock, AUDIT_KEY)
        await fill(audit, clock, 3)
        verified = await audit.verify()
        await index.close()
        assert (verified.ok, verified.records) == (True, records)
