"""What is acknowledged is there; what is not kept says why, and nothing is overwritten."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from peer.errors import NodeError, StorageFull
from peer.index import packs, patients, studies
from peer.index.packs import ManifestRow
from peer.store import Store
from protocol.hashing import plain_hash
from protocol.manifest import root, sign_manifest
from tests.dicom_samples import SAMPLES, data_set, encoded, instance
from tests.intake import NOW, SENDER, open_intake


@pytest.fixture
async def intake(tmp_path):
    async with open_intake(tmp_path / "data") as opened:
        yield opened


async def test_an_instance_comes_back_byte_by_byte(intake):
    data = instance(1, pixels=os.urandom(600_000))
    outcome = await intake.take(data)
    assert outcome.status == "accepted"
    assert (outcome.sop_instance_uid, outcome.study_instance_uid) == ("1.2.3.1.1", "1.2.3")
    assert await intake.read("1.2.3.1.1") == data
    assert await intake.ingest.known_contents([plain_hash(data), bytes(32)]) == {plain_hash(data)}
    assert (await intake.audit.verify()).records == 1


async def test_every_sample_is_kept_unaltered_or_refused(intake):
    contents = [path.read_bytes() for path in SAMPLES]
    outcomes = await asyncio.gather(*map(intake.take, contents))
    kept = 0
    for data, outcome in zip(contents, outcomes, strict=True):
        if outcome.status == "refused":
            assert outcome.code
            assert outcome.reason
        elif outcome.status == "accepted":
            assert await intake.read(outcome.sop_instance_uid) == data
            kept += 1
    assert kept > 150
    assert (await intake.db.read(studies.count))[1] == kept


async def test_the_same_instance_twice_is_a_duplicate(intake):
    data = instance(1)
    assert (await intake.take(data)).status == "accepted"
    before = intake.store.sizes()
    assert (await intake.take(data)).status == "duplicate"
    # Another sender writes other file meta information around the same data set.
    other = data.replace(b"pydicom", b"PYDICOM") if b"pydicom" in data else b"\1" + data[1:]
    assert other != data
    assert (await intake.take(other)).status == "duplicate"
    assert intake.store.sizes() == before


async def test_another_content_under_the_same_uid_is_a_conflict(intake):
    first = instance(1)
    await intake.take(first)
    outcome = await intake.take(instance(1, PatientName="Roe^Jane"))
    assert (outcome.status, outcome.code) == ("refused", "conflict")
    elsewhere = await intake.take(instance(1, StudyInstanceUID="1.2.9"))
    assert (elsewhere.status, elsewhere.code) == ("refused", "conflict")
    assert await intake.read("1.2.3.1.1") == first
    lines = [line async for line in intake.audit.export(None, None)]
    assert sum('"refused"' in line for line in lines) == 2


async def test_copies_in_one_group_are_told_apart(intake):
    data, other = instance(1), instance(1, PatientName="Roe^Jane")
    outcomes = await asyncio.gather(*map(intake.take, [data, data, other, instance(2)]))
    if outcomes[2].status == "accepted":
        assert [each.code for each in outcomes[:2]] == ["conflict", "conflict"]
    else:
        assert sorted(each.status for each in outcomes[:2]) == ["accepted", "duplicate"]
        assert outcomes[2].code == "conflict"
    assert outcomes[3].status == "accepted"
    assert (await intake.db.read(studies.count)) == (1, 2)


async def test_many_instances_share_one_sync(intake, monkeypatch):
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(fd), real(fd)))
    outcomes = await asyncio.gather(*[intake.take(instance(n)) for n in range(40)])
    assert {each.status for each in outcomes} == {"accepted"}
    assert len(synced) < 20
    assert len(intake.store.sizes()) == 1, "one study is one pack"


async def test_several_together_have_an_outcome_each_in_their_order(intake):
    body = memoryview(instance(1) + b"x" * 200 + instance(2))
    size = len(instance(1))
    contents = [body[:size], body[size : size + 200], body[size + 200 :], body[:size]]
    outcomes = await intake.ingest.store_instances(contents, SENDER, "test")
    assert [each.status for each in outcomes] == ["accepted", "refused", "accepted", "duplicate"]
    assert outcomes[1].code == "not-dicom"
    assert [await intake.read(f"1.2.3.1.{n}") for n in (1, 2)] == [instance(1), instance(2)]


async def test_an_oversized_instance_is_refused(tmp_path):
    async with open_intake(tmp_path / "data", max_instance_bytes=2**20) as intake:
        outcome = await intake.take(instance(1, pixels=bytes(2**20)))
        assert (outcome.status, outcome.code) == ("refused", "oversized")


async def test_garbage_is_refused_with_a_reason(intake):
    for data, code in [
        (b"", "not-dicom"),
        (b"x" * 1000, "not-dicom"),
        (instance(1)[:-2], "truncated"),
        (encoded(data_set(StudyInstanceUID=None)), "missing-uid"),
    ]:
        outcome = await intake.take(data)
        assert (outcome.status, outcome.code) == ("refused", code)
        assert outcome.reason
    assert await intake.db.read(studies.count) == (0, 0)
    assert intake.store.sizes() == {}


async def test_another_uid_than_announced_is_refused(intake):
    outcome = await intake.ingest.store_instance(instance(1), SENDER, "test", named="9.9")
    assert (outcome.status, outcome.code) == ("refused", "uid-mismatch")


async def test_a_full_disk_is_said_and_nothing_half_is_kept(intake, monkeypatch):
    await intake.take(instance(1))
    real = os.write

    def full(fd, data):
        if len(data) > 5000:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    outcome = await intake.take(instance(2, pixels=bytes(10_000)))
    assert (outcome.status, outcome.code) == ("refused", "no-space")
    assert (await intake.take(instance(3))).status == "accepted", "the next one needs a new pack"
    monkeypatch.undo()
    assert (await intake.take(instance(2, pixels=bytes(10_000)))).status == "accepted"
    assert await intake.db.read(studies.count) == (1, 3)
    assert await intake.read("1.2.3.1.3") == instance(3)


async def test_a_failed_sync_is_no_acknowledgement(intake, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fdatasync", broken)
    outcome = await intake.take(instance(1))
    assert (outcome.status, outcome.code) == ("refused", "disk-error")
    monkeypatch.undo()
    assert await intake.db.read(studies.count) == (0, 0)
    assert (await intake.take(instance(1))).status == "accepted"


async def test_a_full_index_is_no_acknowledgement(intake, monkeypatch):
    async def full(_):
        raise StorageFull("No room.")

    monkeypatch.setattr(intake.db, "write", full)
    outcome = await intake.take(instance(1))
    assert (outcome.status, outcome.code) == ("refused", "no-space")
    monkeypatch.undo()
    assert (await intake.take(instance(1))).status == "accepted"
    assert await intake.read("1.2.3.1.1") == instance(1)


async def test_a_cancelled_sender_does_not_cancel_the_group(intake):
    tasks = [asyncio.create_task(intake.take(instance(n))) for n in range(20)]
    await asyncio.sleep(0.005)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {each.status for each in outcomes[1::2]} == {"accepted"}
    assert (await intake.take(instance(1))).status == "duplicate"


async def test_a_study_settles_when_nothing_more_comes(intake):
    settled = []

    async def listener(uid):
        settled.append(uid)

    intake.ingest.on_settled(listener)
    await intake.take(instance(1))
    await intake.take(instance(1, study="1.2.4", PatientID="B"))
    assert await intake.ingest.settle_due() == ()
    intake.clock.advance(intake.settings.ingest.settle_s - 1)
    await intake.take(instance(2))
    intake.clock.advance(1)
    assert await intake.ingest.settle_due() == ("1.2.4",)
    intake.clock.advance(intake.settings.ingest.settle_s)
    assert await intake.ingest.settle_due() == ("1.2.3",)
    assert settled == ["1.2.4", "1.2.3"]
    await intake.take(instance(3))
    assert await intake.ingest.settle("9.9") == ()
    assert await intake.ingest.settle("1.2.3") == ("1.2.3",)
    assert len(await intake.db.read(lambda tx: packs.of_study(tx, "1.2.3"))) == 2, (
        "a settled study's pack was appended to"
    )


async def test_a_study_settles_again_if_publishing_it_failed(intake):
    async def failing(_):
        raise NodeError("Try later.")

    intake.ingest.on_settled(failing)
    await intake.take(instance(1))
    with pytest.raises(NodeError):
        await intake.ingest.settle()
    assert await intake.db.read(lambda tx: studies.unsettled(tx, NOW)) == ["1.2.3"]


async def test_a_study_settles_again_if_a_kill_came_before_its_manifest(tmp_path):
    async with open_intake(tmp_path / "data") as intake:
        await intake.take(instance(1))
        assert await intake.ingest.settle() == ("1.2.3",)

    async def sign(_):
        manifest = await intake.db.read(lambda tx: packs.build_manifest(tx, "1.2.3"))
        signed = sign_manifest(manifest, lambda _: bytes(64))
        row = ManifestRow(manifest.version, root(manifest), signed, intake.clock.now())
        await intake.db.write(lambda tx: packs.put_manifest(tx, "1.2.3", row))

    async with open_intake(tmp_path / "data") as intake:
        intake.ingest.on_settled(sign)
        assert await intake.ingest.settle() == ("1.2.3",), "its manifest was never signed"
    async with open_intake(tmp_path / "data") as intake:
        assert await intake.ingest.settle() == ()
        intake.clock.advance(1)
        await intake.take(instance(2))
        assert await intake.ingest.settle() == ("1.2.3",)
    async with open_intake(tmp_path / "data") as intake:
        assert await intake.ingest.settle() == ("1.2.3",), "its new version was never signed"


async def test_the_running_ingest_settles_by_itself(intake, monkeypatch):
    monkeypatch.setattr("peer.ingest.ingest.SETTLE_CHECK_S", 0.01)
    done = asyncio.Event()

    async def listener(_):
        done.set()

    intake.ingest.on_settled(listener)
    await intake.take(instance(1))
    intake.clock.advance(100)
    running = asyncio.create_task(intake.ingest.run())
    await asyncio.wait_for(done.wait(), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_restart_cuts_what_was_not_acknowledged(tmp_path):
    root = tmp_path / "data"
    async with open_intake(root) as intake:
        await intake.take(instance(1))
        (pack,) = intake.store.sizes()
        size = intake.store.sizes()[pack]
    path = root / "store" / "packs" / pack.hex()
    with path.open("ab") as file:
        file.write(b"torn")
    orphan = Store(root / "store").new_pack()
    orphan.append(b"never acknowledged")
    orphan.close()
    async with open_intake(root) as intake:
        assert (intake.recovered.cut, intake.recovered.removed) == (1, 1)
        assert intake.recovered.damaged == ()
        assert intake.store.sizes() == {pack: size}
        assert await intake.read("1.2.3.1.1") == instance(1)
        await intake.take(instance(2))
        assert len(intake.store.sizes()) == 2, "a pack of an earlier run was appended to"
    path.unlink()
    async with open_intake(root) as intake:
        assert intake.recovered.damaged == (pack,)


async def test_a_removed_study_is_gone_with_its_key(intake):
    await intake.take(instance(1))
    await intake.take(instance(1, study="1.2.4"))
    marked = []
    await intake.ingest.remove_study("1.2.3", lambda tx: marked.append(tx.in_transaction))
    assert marked == [True]
    assert len(intake.store.sizes()) == 1
    assert await intake.db.read(lambda tx: studies.get(tx, "1.2.3")) is None
    assert (await intake.take(instance(1))).status == "accepted"
    assert await intake.read("1.2.3.1.1") == instance(1)


async def test_what_goes_with_a_removal_can_stop_it(intake):
    await intake.take(instance(1))

    def refuse(_):
        raise NodeError("No.")

    with pytest.raises(NodeError):
        await intake.ingest.remove_study("1.2.3", refuse)
    assert await intake.read("1.2.3.1.1") == instance(1)


async def test_an_identifier_without_issuer_gets_the_facilitys_own(tmp_path):
    async with open_intake(tmp_path / "data", default_issuer="GENERAL") as intake:
        await intake.take(instance(1))
        found = await intake.db.read(lambda tx: patients.find(tx, "GENERAL", "MRN-1"))
        assert found is not None


async def test_hundreds_of_studies_at_once_keep_few_files_open(tmp_path):
    async with open_intake(tmp_path / "data", open_packs=4) as intake:
        everything = [instance(n, study=f"1.2.{n % 20}") for n in range(60)]
        outcomes = await asyncio.gather(*map(intake.take, everything))
        assert {each.status for each in outcomes} == {"accepted"}
        assert len(intake.ingest._writers._open) <= 4
        for data, outcome in zip(everything, outcomes, strict=True):
            assert await intake.read(outcome.sop_instance_uid) == data


async def test_text_in_a_wrong_character_set_is_kept_and_said(intake):
    made = data_set(SpecificCharacterSet="ISO_IR 100", PatientName="Doe^Jane")
    data = encoded(made).replace(b"ISO_IR 100", b"ISO_IR 999")
    outcome = await intake.take(data)
    assert (outcome.status, outcome.code) == ("accepted", "bad-character-set")
    assert "character set" in outcome.reason
    assert "Doe" not in outcome.reason
    assert await intake.read("1.2.3.4") == data
