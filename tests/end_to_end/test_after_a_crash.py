"""kill -9 in the middle of things, on real nodes: all goes on, nothing is lost or doubled."""

from __future__ import annotations

import http.client
import os
import random
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from peer.retrieve.transfer import NOTE_BYTES
from protocol.limits import PIECE_BYTES
from tests.dicom_samples import instance
from tests.processes import COMMAND_TIMEOUT_S, pair, wait_until

STUDY = "1.2.826.0.1.3680043.8.498.77"
INSTANCES = 24
PIXELS_BYTES = 4 * 1024 * 1024
"""Together large enough that a transfer can be seen under way."""
POLL_S = 0.005
KILLS, KILLS_IN_ONE = 60, 5
PATIENT = {"PatientID": "L7731902", "PatientName": "Okonkwo^Adaeze", "PatientBirthDate": "19680417"}


@pytest.fixture(scope="module")
def hospitals(nodes):
    """Alice, and Bob who shares with her."""
    alice, bob = nodes(2, started=False)
    # One range after the other: what arrives after a note shows that the note is on record.
    alice.start(OPENPRIORS_TRANSFER__PARALLEL_RANGES="1")
    bob.start()
    pair(alice, bob)
    bob.store(instance(study=f"{STUDY}.1", **PATIENT))
    bob.post("/studies/settle")
    bob.grant(PATIENT["PatientID"])
    return alice, bob


def originals(study):
    made = random.Random(study)
    return {
        f"{study}.1.{number}": instance(
            number, study=study, pixels=made.randbytes(PIXELS_BYTES), **PATIENT
        )
        for number in range(1, INSTANCES + 1)
    }


def published(alice, bob, number):
    """Let Bob take in a large study of hers; return it once Alice's search lists it."""
    study = f"{STUDY}.{number}"
    files = originals(study)
    for content in files.values():
        bob.store(content)
    bob.post("/studies/settle")
    wait_until(
        lambda: study in alice.listed(PATIENT["PatientName"], PATIENT["PatientBirthDate"]),
        "the study is not found",
        more=bob.log_lines,
    )
    return study, files


def begun(alice, bob, study):
    """Let Alice begin to fetch; return the retrieval as soon as some of it is on record."""
    body = {"peer_id": bob.peer_id, "study_instance_uid": study}
    retrieval = alice.post("/retrievals", body)
    deadline = time.monotonic() + COMMAND_TIMEOUT_S
    while retrieval["bytes"] < NOTE_BYTES + PIECE_BYTES:
        assert time.monotonic() < deadline, f"too little arrives: {retrieval}"
        time.sleep(POLL_S)
        retrieval = alice.get(f"/retrievals/{retrieval['retrieval_id']}")
    return retrieval


def ended(alice, retrieval):
    """Return the retrieval once it is complete."""
    path = f"/retrievals/{retrieval['retrieval_id']}"
    return wait_until(
        lambda: (now := alice.get(path))["state"] == "complete" and now,
        "the retrieval does not go on",
        COMMAND_TIMEOUT_S,
        more=alice.log_lines,
    )


def held_copy(node, token, study, sop_instance_uid):
    """Return the bytes of one instance, by WADO-RS."""
    address = urlsplit(node.local_url)
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.request(
        "GET",
        f"/dicom-web/studies/{study}/series/{study}.1/instances/{sop_instance_uid}",
        headers={"Accept": "application/dicom", "Authorization": f"Bearer {token}"},
    )
    content = connection.getresponse().read()
    connection.close()
    return content


def check_whole(alice, bob, study, files, retrieval):
    assert retrieval["sentence"] == f"{INSTANCES}/{INSTANCES} instances verified"
    token = alice.token(name=study)
    for sop_instance_uid, original in files.items():
        assert held_copy(alice, token, study, sop_instance_uid) == original

    def ledger(node):
        return node.get(f"/receipts?study_instance_uid={study}")["receipts"]

    theirs = wait_until(lambda: ledger(bob), "the origin has no receipt", more=bob.log_lines)
    assert [each["receipt_id"] for each in ledger(alice)] == [
        each["receipt_id"] for each in theirs
    ], "one retrieval, one receipt, the same on both sides"


def test_a_retrieval_goes_on_after_its_recipient_was_killed(hospitals):
    alice, bob = hospitals
    study, files = published(alice, bob, 2)
    before = begun(alice, bob, study)
    bob.process.send_signal(signal.SIGSTOP)
    try:
        alice.kill()
        alice.start()
        found = alice.get(f"/retrievals/{before['retrieval_id']}")
        assert found["state"] != "complete", "it was over before anything was killed"
        assert 0 < found["bytes"] < found["bytes_total"], "what had arrived is kept"
    finally:
        bob.process.send_signal(signal.SIGCONT)
    check_whole(alice, bob, study, files, ended(alice, before))


def test_a_retrieval_goes_on_after_its_origin_was_killed(hospitals):
    alice, bob = hospitals
    study, files = published(alice, bob, 3)
    before = begun(alice, bob, study)
    bob.kill()
    found = alice.get(f"/retrievals/{before['retrieval_id']}")
    assert found["state"] != "complete", "it was over before anything was killed"
    bob.start()
    check_whole(alice, bob, study, files, ended(alice, before))


@pytest.mark.deep
def test_a_retrieval_ends_whole_however_often_either_side_is_killed(hospitals):
    alice, bob = hospitals
    chance, kills, number = random.Random(20260106), 0, 10
    while kills < KILLS:
        number += 1
        study, files = published(alice, bob, number)
        body = {"peer_id": bob.peer_id, "study_instance_uid": study}
        retrieval = alice.post("/retrievals", body)
        for _ in range(KILLS_IN_ONE):
            time.sleep(chance.uniform(0, 0.4))
            if alice.get(f"/retrievals/{retrieval['retrieval_id']}")["state"] == "complete":
                break
            killed = chance.choice((alice, bob))
            killed.kill()
            killed.start()
            kills += 1
        check_whole(alice, bob, study, files, ended(alice, retrieval))


def test_a_notice_and_its_acknowledgement_survive_both_sides(hospitals):
    alice, bob = hospitals
    alice.kill()
    sent = bob.run_json("notify", f"{STUDY}.1", "--to", alice.name, "--message", "Please compare.")
    assert sent["delivered_at"] is None
    bob.kill()
    alice.start()
    bob.start()
    (notice,) = wait_until(
        lambda: alice.get("/inbox")["notices"], "it does not arrive", more=bob.log_lines
    )
    assert notice["notice_id"] == sent["notice_id"]
    assert notice["message"] == "Please compare."

    bob.kill()
    seen = alice.run_json("inbox", "--acknowledge", notice["notice_id"])
    assert seen["acknowledgement_delivered"] is False
    alice.kill()
    bob.start()
    alice.start()
    (acknowledged,) = wait_until(
        lambda: [n for n in bob.run_json("inbox", "--sent")["notices"] if n["acknowledged_at"]],
        "the acknowledgement does not arrive",
        more=alice.log_lines,
    )
    assert acknowledged["notice_id"] == sent["notice_id"]
    assert len(alice.run_json("inbox")["notices"]) == 1, "delivered twice, it stands there once"


def test_an_import_goes_on_after_the_node_was_killed(hospitals, tmp_path):
    alice, _ = hospitals
    study = f"{STUDY}.4"
    for sop_instance_uid, content in originals(study).items():
        (tmp_path / f"{sop_instance_uid}.dcm").write_bytes(content)
    held = alice.get("/status")["instances"]
    command = subprocess.Popen(
        [sys.executable, "-m", "peer", "import", str(tmp_path), "--data", str(alice.data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    wait_until(lambda: alice.get("/status")["instances"] > held, "nothing is imported")
    alice.kill()
    said, _ = command.communicate(timeout=COMMAND_TIMEOUT_S)
    assert command.returncode == 1
    assert "No node is running" in said
    assert "Traceback" not in said

    alice.start()
    summary = alice.run_json("import", str(tmp_path))
    assert summary["refused"] == 0
    assert summary["accepted"] + summary["duplicate"] == INSTANCES
    assert 0 < summary["duplicate"] < INSTANCES, (
        "what was acknowledged is there, the rest comes now"
    )
    assert alice.get("/status")["instances"] == held + INSTANCES
    assert alice.run_json("audit", "verify")["ok"]
