"""What the index answers about studies, and whose they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peer.dicom.header import (
    Header,
    InstanceAttributes,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)
from peer.index import INDEX_MIGRATIONS, Database, instances, packs, patients, studies
from peer.index.conditions import StudyQuery
from peer.index.instances import Placement
from peer.index.packs import ManifestRow, PackRow
from protocol.identifiers import PatientIdentifier
from protocol.manifest import check, root, sign_manifest
from protocol.matching.keys import Demographics
from protocol.matching.score import LEAST_COUNTED

NOW = 1_700_000_000


def header(number: int, *, study: str = "1.2.3", series: str = "1", **changes) -> Header:
    patient = PatientAttributes(
        issuer=changes.pop("issuer", ""),
        patient_id=changes.pop("patient_id", "MRN-1"),
        names=changes.pop("names", ("Doe^Jane",)),
        birth_date=changes.pop("birth_date", "19700131"),
        sex=changes.pop("sex", "F"),
        other_ids=changes.pop("other_ids", ()),
    )
    described = StudyAttributes(
        study_instance_uid=study,
        study_date=changes.pop("study_date", "20250102"),
        study_time=changes.pop("study_time", "101500"),
        timezone="",
        study_id="S1",
        description=changes.pop("description", "CT CHEST"),
        accession_number=changes.pop("accession_number", "ACC-1"),
        accession_issuer="",
        referring_physician="Who^Doctor",
        institution="General",
    )
    listed = SeriesAttributes(
        series_instance_uid=f"{study}.{series}",
        modality=changes.pop("modality", "CT"),
        series_number=int(series),
        description="Axial",
        body_part=changes.pop("body_part", "CHEST"),
        laterality="",
        protocol_name="",
        step_date="",
        step_time="",
        station_name="",
        manufacturer="",
    )
    instance = InstanceAttributes(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"{study}.{series}.{number}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        instance_number=number,
        number_of_frames=1,
        rows=512,
        columns=512,
        bits_allocated=16,
    )
    assert not changes, changes
    return Header(patient, described, listed, instance, 100, 50, ())


class Index:
    """The rows that ingest would write, without its bytes."""

    def __init__(self, db):
        self.db = db

    async def add(self, *headers, pack=bytes(16), issuer="", now=NOW, origin=None):
        return await self.db.write(
            lambda tx: [self._add(tx, each, pack, issuer, now, origin) for each in headers]
        )

    def _add(self, tx, each, pack, issuer, now, origin):
        patient = instances.add_study(
            tx, each, issuer=issuer, wrapped_key=b"wrapped", origin=origin, now=now
        )
        packs.put(tx, PackRow(pack, each.study.study_instance_uid, b"key", 10_000))
        count = len(studies.list_instances(tx, each.study.study_instance_uid))
        instances.add_instance(
            tx,
            each,
            Placement(
                pack_id=pack,
                length=1000,
                content_hash=each.instance.sop_instance_uid.encode().ljust(32, b"c"),
                data_set_hash=each.instance.sop_instance_uid.encode().ljust(32, b"d"),
                first_chunk=count,
                offset=count * 1016,
                chunk_hashes=(bytes([count]) * 32,),
            ),
        )
        return patient

    async def find(self, **query):
        found = await self.db.read(lambda tx: studies.search(tx, StudyQuery(**query)))
        return [study.study_instance_uid for study in found]

    async def study(self, uid="1.2.3"):
        return await self.db.read(lambda tx: studies.get(tx, uid))


@pytest.fixture
async def index(tmp_path):
    db = await Database.open(tmp_path / "index.db", bytes(32), INDEX_MIGRATIONS)
    yield Index(db)
    await db.close()


async def test_a_study_is_listed_with_its_counts(index):
    await index.add(
        header(1),
        header(2),
        header(1, series="2", modality="SR", body_part=""),
    )
    study = await index.study()
    assert (study.series, study.instances, study.stored_bytes) == (2, 3, 3000)
    assert study.modalities == ("CT", "SR")
    assert study.body_parts == ("CHEST",)
    assert (study.description, study.accession_number) == ("CT CHEST", "ACC-1")
    assert study.origin is None
    assert study.settled_at is None
    assert not study.held_back
    patient = await index.db.read(lambda tx: patients.get(tx, study.patient))
    assert patient.names == ("Doe^Jane",)
    assert patient.identifiers == (PatientIdentifier("", "MRN-1"),)
    listed = await index.db.read(lambda tx: studies.list_series(tx, "1.2.3"))
    assert [(each.modality, each.instances) for each in listed] == [("CT", 2), ("SR", 1)]
    rows = await index.db.read(lambda tx: studies.list_instances(tx, "1.2.3", "1.2.3.1"))
    assert [row.sop_instance_uid for row in rows] == ["1.2.3.1.1", "1.2.3.1.2"]

    async def single(*asked):
        return await index.db.read(lambda tx: studies.list_instances(tx, *asked))

    assert await single("1.2.3", "1.2.3.1", "1.2.3.1.2") == rows[1:]
    assert await single("1.2.3", None, "1.2.3.1.2") == rows[1:]
    assert await single("1.2.3", "1.2.3.2", "1.2.3.1.2") == [], "of another series"
    assert await single("1.2.4", "1.2.3.1", "1.2.3.1.2") == [], "of another study"
    assert await index.db.read(studies.count) == (1, 3)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["1.3", "1.2", "1.1"]),
        ({"limit": 1, "offset": 1}, ["1.2"]),
        ({"patient_id": "B-2"}, ["1.2"]),
        ({"patient_id": "*-2"}, ["1.2"]),
        ({"patient_id": "A-1", "issuer": "X"}, []),
        ({"patient_id": "A-1", "issuer": ""}, ["1.1"]),
        ({"name": "doe^jane"}, ["1.1"]),
        ({"name": "DOE*"}, ["1.2", "1.1"]),
        ({"name": "D?E^JOHN"}, ["1.2"]),
        ({"name": "*JOHN"}, ["1.2"]),
        ({"name": "山田*"}, ["1.3"]),
        ({"name": "yamada*"}, ["1.3"]),
        ({"name": "doe"}, []),
        ({"name": "[a-z]*"}, []),
        ({"name": "%"}, []),
        ({"birth_date": "19800229"}, ["1.2"]),
        ({"date_from": "20250102"}, ["1.3", "1.2"]),
        ({"date_to": "20250102"}, ["1.2", "1.1"]),
        ({"date_from": "20250102", "date_to": "20250102"}, ["1.2"]),
        ({"modalities": ("MR", "US")}, ["1.3", "1.2"]),
        ({"modalities": ("CT",), "name": "doe*"}, ["1.1"]),
        ({"accession_number": "ACC-2"}, ["1.2"]),
        ({"accession_number": "ACC-?"}, ["1.3", "1.2", "1.1"]),
        ({"accession_number": "'; DROP TABLE studies; --"}, []),
        ({"description": "*chest*"}, ["1.1"]),
        ({"study_instance_uids": ("1.1", "1.3", "9")}, ["1.3", "1.1"]),
    ],
)
async def test_search(index, query, expected):
    await index.add(
        header(1, study="1.1", patient_id="A-1", study_date="20250101", accession_number="ACC-1")
    )
    await index.add(
        header(
            1,
            study="1.2",
            patient_id="B-2",
            names=("Doe^John",),
            birth_date="19800229",
            modality="MR",
            accession_number="ACC-2",
            description="MR HEAD",
        ),
        pack=b"2" * 16,
    )
    await index.add(
        header(
            1,
            study="1.3",
            patient_id="C-3",
            names=("Yamada^Tarou=山田^太郎=やまだ^たろう",),
            study_date="20250103",
            modality="US",
            accession_number="ACC-3",
            description="",
        ),
        pack=b"3" * 16,
    )
    assert await index.find(**query) == expected


async def test_one_identifier_of_one_issuer_is_one_patient(index):
    (one,) = await index.add(header(1, study="1.1"), issuer="HERE")
    (two,) = await index.add(
        header(1, study="1.2", names=("Roe^Jane",), other_ids=(PatientIdentifier("I", "7"),)),
        issuer="HERE",
        pack=b"2" * 16,
    )
    (three,) = await index.add(header(1, study="1.3"), issuer="THERE", pack=b"3" * 16)
    assert one == two != three
    patient = await index.db.read(lambda tx: patients.find(tx, "HERE", "MRN-1"))
    assert patient.names == ("Roe^Jane", "Doe^Jane")
    assert patient.other_ids == (PatientIdentifier("I", "7"),)
    assert await index.find(name="roe*") == ["1.1", "1.2"]


async def test_without_a_patient_id_nobody_is_merged(index):
    (one,) = await index.add(header(1, study="1.1", patient_id=""))
    (two,) = await index.add(header(1, study="1.2", patient_id=""), pack=b"2" * 16)
    (again,) = await index.add(header(2, study="1.1", patient_id=""))
    assert one == again != two
    assert await index.db.read(lambda tx: patients.find(tx, "", "")) is None


async def test_a_contradicting_birth_date_holds_the_study_back(index):
    await index.add(header(1, study="1.1"))
    await index.add(header(1, study="1.2", birth_date="19991231"), pack=b"2" * 16)
    assert not (await index.study("1.1")).held_back
    held = await index.study("1.2")
    assert held.held_back
    assert "birth date" in held.held_reason
    patient = await index.db.read(lambda tx: patients.get(tx, held.patient))
    assert patient.birth_date == "19700131"
    assert await index.db.write(lambda tx: studies.hold(tx, "1.2", held_back=False))
    assert not (await index.study("1.2")).held_back
    assert not await index.db.write(lambda tx: studies.hold(tx, "9.9", held_back=True))


async def test_a_study_of_two_patients_stays_with_the_first_and_is_held_back(index):
    (first,) = await index.add(header(1))
    (second,) = await index.add(header(2, patient_id="OTHER"))
    assert first == second
    assert (await index.study()).held_back
    assert await index.db.read(lambda tx: patients.find(tx, "", "OTHER")) is None


async def test_a_later_instance_fills_in_and_unsettles(index):
    await index.add(header(1, description="", study_date=""))
    assert await index.db.write(lambda tx: studies.settle(tx, "1.2.3", NOW + 1))
    assert not await index.db.write(lambda tx: studies.settle(tx, "1.2.3", NOW + 1))
    await index.add(header(2), now=NOW + 50)
    study = await index.study()
    assert (study.description, study.study_date) == ("CT CHEST", "20250102")
    assert (study.settled_at, study.changed_at, study.received_at) == (None, NOW + 50, NOW)
    assert await index.db.read(lambda tx: studies.unsettled(tx, NOW + 49)) == []
    assert await index.db.read(lambda tx: studies.unsettled(tx, NOW + 50)) == ["1.2.3"]


async def test_manifests_grow_in_version_and_keep_the_old_ones(index):
    await index.add(header(1), header(2))
    await index.add(header(3), pack=b"2" * 16)

    async def sign(now):
        manifest = await index.db.read(lambda tx: packs.build_manifest(tx, "1.2.3"))
        check(manifest)
        signed = sign_manifest(manifest, lambda _: bytes(64))
        row = ManifestRow(manifest.version, root(manifest), signed, now)
        await index.db.write(lambda tx: packs.put_manifest(tx, "1.2.3", row))
        return manifest

    first = await sign(NOW)
    assert (first.version, len(first.packs), len(first.instances)) == (1, 2, 3)
    await index.add(header(4), pack=b"3" * 16)
    second = await sign(NOW + 1)
    assert (second.version, len(second.packs), len(second.instances)) == (2, 3, 4)
    assert (await index.study()).manifest_root == root(second)
    current = await index.db.read(lambda tx: packs.get_manifest(tx, "1.2.3"))
    old = await index.db.read(lambda tx: packs.get_manifest(tx, "1.2.3", 1))
    assert (current.version, old.version) == (2, 1)
    assert old.root == root(first)
    assert await index.db.read(lambda tx: packs.get_manifest(tx, "1.2.3", 3)) is None
    assert await index.db.read(lambda tx: packs.get_manifest(tx, "9")) is None


async def test_where_an_instance_lies(index):
    await index.add(header(1), header(2))
    location = await index.db.read(lambda tx: instances.locate(tx, "1.2.3.1.2"))
    assert location.pack_id == bytes(16)
    assert [(c.number, c.offset, c.length, c.last) for c in location.chunks] == [
        (1, 1016, 1016, True)
    ]
    assert (location.wrapped_study_key, location.wrapped_pack_key) == (b"wrapped", b"key")
    assert await index.db.read(lambda tx: instances.locate(tx, "9")) is None
    held = b"1.2.3.1.1".ljust(32, b"c")
    known = await index.db.read(lambda tx: instances.known_contents(tx, [held, bytes(32)]))
    assert known == {held}


async def test_a_removed_study_leaves_nothing(index):
    await index.add(header(1, study="1.1"))
    await index.add(header(1, study="1.2"), pack=b"2" * 16)
    assert await index.db.write(lambda tx: packs.remove_study(tx, "1.1")) == (bytes(16),)
    assert await index.db.read(lambda tx: patients.find(tx, "", "MRN-1")) is not None
    assert await index.db.write(lambda tx: packs.remove_study(tx, "1.2")) == (b"2" * 16,)
    assert await index.db.write(lambda tx: packs.remove_study(tx, "1.2")) == ()

    def rows(tx):
        tables = ("patients", "patient_names", "studies", "series", "instances", "packs")
        return {t: tx.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}  # noqa: S608

    assert set((await index.db.read(rows)).values()) == {0}


async def test_no_search_reads_every_study(index):
    await index.add(header(1))
    queries = (
        StudyQuery(patient_id="MRN-1"),
        StudyQuery(name="doe*", birth_date="19700131"),
        StudyQuery(accession_number="ACC-1"),
        StudyQuery(study_instance_uids=("1.2.3",)),
        StudyQuery(patient=1),
    )

    def plan(tx, query):
        statement, values = studies.statement(query)
        return [row["detail"] for row in tx.execute(f"EXPLAIN QUERY PLAN {statement}", values)]

    for query in queries:
        steps = await index.db.read(lambda tx, query=query: plan(tx, query))
        full = [step for step in steps if step.startswith(("SCAN s", "SCAN p"))]
        assert not full, f"{query} reads a whole table: {full}"


def test_a_header_is_hashable():
    assert hash(header(1)) == hash(replace(header(1)))


def jane(**changes):
    return replace(header(1).patient, **changes)


async def test_how_common_a_name_is_follows_patients_as_they_come_change_and_go(index):
    def work(tx):
        first, _ = patients.put(tx, jane(), "HERE")
        patients.put(tx, jane(patient_id="MRN-2", names=("Doe^John",)), "HERE")
        patients.put(tx, jane(patient_id="MRN-3", names=("Roe^Jane",)), "HERE")
        patients.put(tx, jane(), "HERE")
        asked = Demographics(("Doe^Jane", "Poe^Edgar"))
        before = patients.name_shares(tx, asked)
        patients.put(tx, jane(names=("Roe^Jane",)), "HERE")
        renamed = patients.name_shares(tx, asked)
        patients.delete_unused(tx, first)
        return before, renamed, patients.name_shares(tx, asked), patients.counted(tx)

    before, renamed, left, counted = await index.db.write(work)
    assert before == pytest.approx({"doe": 2 / LEAST_COUNTED, "jane": 2 / LEAST_COUNTED})
    assert renamed == pytest.approx({"doe": 1 / LEAST_COUNTED, "jane": 2 / LEAST_COUNTED})
    assert left == pytest.approx({"doe": 1 / LEAST_COUNTED, "jane": 1 / LEAST_COUNTED})
    assert counted == 2
