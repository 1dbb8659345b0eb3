"""A hospital loses its machine: from the older backup and from its partner it becomes itself again,
and its partner notices nothing but its absence."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.dicom_samples import instance
from tests.end_to_end.test_after_a_crash import held_copy
from tests.processes import CommandFailed, pair, wait_until

STUDY = "1.2.826.0.1.3680043.8.498.91"
PASSPHRASE = "seven herons over the lake"
PIXELS_BYTES = 400_000
RECOVERY_WAIT_S = 120
"""Partners dial again within seconds; a busy machine may need many."""

pytestmark = pytest.mark.timeout(600)
"""Two nodes are made, paired, lost and restored before the first test."""


def original(number, patient):
    return instance(
        1,
        study=f"{STUDY}.{number}",
        pixels=bytes([number]) * PIXELS_BYTES,
        PatientID=patient,
        PatientName=f"{patient}^ANNA",
        PatientBirthDate="19600203",
        StudyDate="20200901",
    )


def published(node, number, patient):
    """Let every partner find a study of a patient; return the directive's identifier."""
    node.store(original(number, patient))
    node.post("/studies/settle")
    return node.grant(patient)


def comes_to_list(node, patient, *numbers):
    wanted = {f"{STUDY}.{number}" for number in numbers}
    wait_until(
        lambda: node.listed(f"{patient}^Anna", "19600203") == wanted,
        f"{node.name} does not list {wanted} of {patient}",
        RECOVERY_WAIT_S,
        more=node.log_lines,
    )


def headers_held(node):
    """Return every signed header that a node holds of its partners' journals, by position."""
    with closing(sqlite3.connect(f"file:{node.data / 'partners.db'}?mode=ro", uri=True)) as tx:
        return {
            (journal, epoch, batch): header
            for journal, epoch, batch, header in tx.execute(
                "SELECT journal, epoch, batch, header FROM journal_batches"
            )
        }


@pytest.fixture(scope="module")
def disaster(nodes, tmp_path_factory):
    """Alice is backed up while she runs, works on, is lost, and is restored from that backup."""
    alice, bob = nodes(2)
    pair(alice, bob)
    folder = tmp_path_factory.mktemp("disk")
    backups, said = folder / "backups", folder / "passphrase"
    said.write_text(f"{PASSPHRASE}\n")
    said.chmod(0o600)
    alice.run("backup", "passphrase", "--passphrase-file", str(said))
    published(alice, 1, "OKAFOR")
    revoked = published(alice, 2, "LINDQVIST")
    comes_to_list(bob, "LINDQVIST", 2)

    made = alice.run_json("backup", "make", str(backups))
    assert made["packs"] == 2
    backed_up = alice.get("/journal")

    published(alice, 3, "MORITA")
    alice.run("consent", "revoke", revoked)
    comes_to_list(bob, "MORITA", 3)
    comes_to_list(bob, "LINDQVIST")
    told = alice.get("/journal")
    assert told["batch"] > backed_up["batch"]

    alice.kill()
    before = headers_held(bob)
    shutil.rmtree(alice.data)
    restored = alice.run_json(
        "restore", str(backups), "--data", str(alice.data), "--passphrase-file", str(said)
    )
    assert restored["missing_packs"] == []
    alice.start()
    wait_until(
        lambda: alice.get("/journal")["state"] == "writing",
        "she does not write again",
        RECOVERY_WAIT_S,
        more=alice.log_lines,
    )
    return alice, bob, backups, said, told, before


def test_the_lost_batches_come_back_and_no_position_is_signed_twice(disaster):
    alice, bob, *_, told, before = disaster
    assert alice.get("/journal")["batch"] >= told["batch"], "her own batches came back from Bob"
    published(alice, 4, "VERMEULEN")
    comes_to_list(bob, "VERMEULEN", 4)
    after = headers_held(bob)
    assert before.items() <= after.items(), "what Bob held of her is her history still"
    assert len(after) > len(before), "and he follows her further"
    for node in (alice, bob):
        assert not [each for each in node.get("/status")["warnings"] if "histor" in each]


def test_what_was_revoked_after_the_backup_stays_revoked(disaster):
    alice, bob, *_ = disaster
    (held,) = alice.get("/journal/holds")["holds"]
    assert held["patient"]["patient_id"] == "LINDQVIST"
    assert bob.listed("LINDQVIST^Anna", "19600203") == set()


def test_what_was_published_after_the_backup_and_is_lost_is_withdrawn(disaster):
    _, bob, *_ = disaster
    comes_to_list(bob, "MORITA")


def test_the_images_are_what_they_were_and_partners_get_them(disaster):
    alice, bob, *_ = disaster
    study, content = f"{STUDY}.1", original(1, "OKAFOR")
    assert held_copy(alice, alice.token(), study, f"{study}.1.1") == content
    comes_to_list(bob, "OKAFOR", 1)
    fetched = bob.run_json("retrieve", study, "--from", alice.name)
    assert fetched["state"] == "complete"
    assert held_copy(bob, bob.token(), study, f"{study}.1.1") == content


def test_she_is_backed_up_further_and_both_sets_verify(disaster):
    alice, _, backups, said, *_ = disaster
    made = alice.run_json("backup", "make", str(backups))
    assert alice.get("/status")["last_backup"]["set"] == made["set"]
    sets = alice.run_json("backup", "list", str(backups))["sets"]
    assert [each["set"] for each in sets][-1] == made["set"]
    for each in sets:
        found = alice.run_json(
            "backup", "verify", str(backups), "--set", each["set"],
            "--passphrase-file", str(said),
        )  # fmt: skip
        assert found["opened"]
    records = [json.loads(line) for line in alice.run("audit", "export").splitlines()]
    steps = [each["detail"]["step"] for each in records if each["action"] == "backup"]
    assert steps[-2:] == ["begin", "done"]
    assert alice.get("/audit/verify")["ok"]


def test_a_stopped_node_is_backed_up_too_and_on_record(disaster):
    alice, _, backups, *_ = disaster
    alice.stop()
    try:
        made = alice.run_json("backup", "make", str(backups))
    finally:
        alice.start()
    assert alice.get("/status")["last_backup"]["set"] == made["set"]


def test_a_wrong_passphrase_is_named(disaster, tmp_path):
    alice, _, backups, *_ = disaster
    wrong = tmp_path / "wrong"
    wrong.write_text("six herons over the lake")
    wrong.chmod(0o600)
    with pytest.raises(CommandFailed, match="This is not the passphrase of this backup"):
        alice.run(
            "restore", str(backups), "--data", str(tmp_path / "data"),
            "--passphrase-file", str(wrong),
        )  # fmt: skip
    assert not (tmp_path / "data").exists()


def test_a_node_that_is_there_is_not_overwritten(disaster):
    alice, _, backups, said, *_ = disaster
    with pytest.raises(CommandFailed, match="is not empty"):
        alice.run(
            "restore", str(backups), "--data", str(alice.data), "--passphrase-file", str(said)
        )


def test_a_damaged_byte_is_found_by_verify(disaster, tmp_path):
    alice, _, backups, *_ = disaster
    copy = tmp_path / "copy"
    shutil.copytree(backups, copy)
    pack = max(copy.glob("packs/*/*"))
    content = bytearray(pack.read_bytes())
    content[1234] ^= 1
    pack.write_bytes(content)
    with pytest.raises(CommandFailed, match=pack.name):
        alice.run("backup", "verify", str(copy))
