"""dcmtk, as a modality would have it, sends to a node in a process of its own."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.dicom_samples import sample
from tests.processes import COMMAND_TIMEOUT_S

SAMPLES = ("CT_small.dcm", "MR_small_implicit.dcm", "rtplan.dcm", "reportsi.dcm")


@pytest.fixture(scope="module")
def node(nodes):
    """A node that lets anyone send, as for trials."""
    (made,) = nodes(started=False)
    made.start(OPENPRIORS_DICOM__ACCEPT_UNKNOWN="true")
    return made


def dcmtk(*command):
    return subprocess.run(
        command,
        env=os.environ | {"TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def at(node):
    return "-aec", "OPENPRIORS", "127.0.0.1", str(node.dicom_port)


def test_echoscu_is_answered(node, outside_tool):
    done = dcmtk(outside_tool("echoscu"), *at(node))
    assert done.returncode == 0, done.stderr


def test_what_storescu_sends_is_there_after_a_kill(node, outside_tool, tmp_path):
    for name in SAMPLES:
        (tmp_path / name).write_bytes(sample(name))
    storescu = (outside_tool("storescu"), "-R", "+sd", *at(node), str(tmp_path))
    done = dcmtk(*storescu)
    assert done.returncode == 0, done.stdout + done.stderr
    node.kill()
    node.start(OPENPRIORS_DICOM__ACCEPT_UNKNOWN="true")
    assert node.get("/status")["instances"] == len(SAMPLES), "acknowledged, but not there"
    again = dcmtk(*storescu)
    assert again.returncode == 0, "the same instance again is no conflict"
    assert node.get("/status")["instances"] == len(SAMPLES)


def test_what_cannot_be_kept_is_no_success(node, outside_tool, tmp_path):
    path = tmp_path / "other.dcm"
    changed = sample("CT_small.dcm").replace(b"CompressedSamples^CT1", b"CompressedSamples^CT2")
    path.write_bytes(changed)
    done = dcmtk(outside_tool("storescu"), "-v", "-R", *at(node), str(path))
    assert "0x111" in (done.stdout + done.stderr).lower(), "other content under a held UID"
    assert "successful" not in (done.stdout + done.stderr).lower()
