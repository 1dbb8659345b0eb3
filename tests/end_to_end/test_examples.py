"""The examples do what they say, against real nodes."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from peer.notify.webhook import Webhook
from tests.dicom_samples import instance, sample
from tests.processes import COMMAND_TIMEOUT_S, free_ports, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
STUDY = "1.2.826.0.1.3680043.8.498.77"
ADA = {"PatientName": "Lovelace^Ada", "PatientBirthDate": "19151210", "PatientSex": "F"}


def run_example(name, *arguments, token=""):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "OPENPRIORS_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def alice(federation):
    return federation[0]


@pytest.fixture(scope="module")
def bob(federation):
    """Holds a study of Ada's, who lets everybody find it."""
    bob = federation[1]
    for number in (1, 2, 3):
        bob.store(instance(number, study=STUDY, PatientID="ADA-1815", **ADA))
    bob.post("/studies/settle", {"study_instance_uids": [STUDY]})
    bob.grant("ADA-1815")
    return bob


def test_search_and_retrieve(alice, bob):
    wait_until(
        lambda: alice.partner(bob)["digests"], "the digests did not arrive", more=bob.log_lines
    )
    token = alice.token("clinician")
    asked = (alice.local_url, "Lovelace, Ada", "1915-12-10")
    said = run_example("search_and_retrieve.py", *asked, token=token)
    assert bob.name in said
    assert "Searched 3 of 3 facilities." in said
    assert "3/3 instances verified" in said
    again = run_example("search_and_retrieve.py", *asked, token=alice.token(name="again"))
    assert "verified" not in again, "a study that is here is not fetched again"


def test_store_with_dicomweb_client(alice, tmp_path):
    paths = []
    for name in ("CT_small.dcm", "MR_small.dcm"):
        path = tmp_path / name
        path.write_bytes(sample(name))
        paths.append(str(path))
    said = run_example(
        "store_with_dicomweb_client.py",
        alice.local_url,
        *paths,
        token=alice.token("clinician", name="store"),
    )
    assert "2 stored, 0 refused" in said
    assert len(re.findall(r"1 instances", said)) == 2, said


def test_webhook_receiver(federation, bob, tmp_path):
    carol = federation[2]
    secret = tmp_path / "webhook.secret"
    secret.write_text("a secret of twenty-four bytes or more\n")
    (port,) = free_ports(1)
    output = tmp_path / "receiver.log"
    with output.open("wb") as log:
        receiver = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "webhook_receiver.py"), str(port), str(secret)],
            stdout=log,
            stderr=log,
        )
    try:
        carol.stop()
        carol.start(
            OPENPRIORS_NOTIFY__WEBHOOK_URL=f"http://127.0.0.1:{port}/",
            OPENPRIORS_NOTIFY__WEBHOOK_SECRET_FILE=str(secret),
            OPENPRIORS_NOTIFY__RETRY_S="1",
        )
        notice = bob.run_json("notify", STUDY, "--to", carol.peer_id)
        said = wait_until(
            lambda: "notice.received" in output.read_text() and output.read_text(),
            "no webhook came",
            more=carol.log_lines,
        )
        assert notice["notice_id"] in said
        assert "Lovelace" not in said
        assert STUDY not in said
    finally:
        receiver.terminate()
        receiver.wait()


def snippet_of_the_how_to(tmp_path):
    """Return what the page on notices shows, run as a module."""
    page = EXAMPLES.parent / "docs" / "how-to" / "be-told-of-notices.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    path = tmp_path / "snippet.py"
    path.write_text(block)
    return runpy.run_path(str(path))


def test_the_signature_is_checked_as_shown(tmp_path):
    receiver = runpy.run_path(str(EXAMPLES / "webhook_receiver.py"))["is_genuine"]
    snippet = snippet_of_the_how_to(tmp_path)["is_genuine"]
    ours = Webhook("http://127.0.0.1/", b"s" * 32, attempts=1, timeout_s=1)
    other = Webhook("http://127.0.0.1/", b"t" * 32, attempts=1, timeout_s=1)
    at, body = 1_800_000_000, b'{"type": "notice.received"}'
    headers = ours.headers("id-1", at, body)
    for sent, content, genuine in (
        (headers, body, True),
        (headers, body + b" ", False),
        (headers | {"webhook-id": "id-2"}, body, False),
        (headers | {"webhook-timestamp": str(at + 1)}, body, False),
        (other.headers("id-1", at, body), body, False),
    ):
        assert snippet(b"s" * 32, sent, content) is genuine
        assert receiver(b"s" * 32, sent, content, at + 1) is genuine
    assert not receiver(b"s" * 32, headers, body, at + 301), "an old post is worth nothing"
    assert not receiver(b"s" * 32, {}, body, at)
