"""Orthanc as the PACS of a house: collected from, sent to, and told apart when it is not there."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import pytest

from tests.dicom_samples import instance, sample
from tests.processes import COMMAND_TIMEOUT_S, CommandFailed, free_ports, wait_until

SAMPLES = ("CT_small.dcm", "MR_small_implicit.dcm", "JPEG2000.dcm", "rtplan.dcm")
STUDIES = 3
EACH = 12


class Orthanc:
    """A PACS in a process of its own."""

    def __init__(self, folder: Path, program: str) -> None:
        self.http, self.dicom, self.node = free_ports(3)
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = self._folder / "orthanc.json"
        settings = {
            "Name": "PACS",
            "StorageDirectory": str(self._folder / "storage"),
            "IndexDirectory": str(self._folder / "storage"),
            "HttpPort": self.http,
            "DicomAet": "PACS",
            "DicomPort": self.dicom,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowFind": False,
            "DicomModalities": {"node": ["OPENPRIORS", "127.0.0.1", self.node]},
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
        }
        path.write_text(json.dumps(settings))
        with (self._folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(path)],
                stdout=log,
                stderr=log,
                env=os.environ | {"TCP_NODELAY": "1"},
            )
        wait_until(self._answers, "Orthanc did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            self.ask("/system")
        except OSError:
            return False
        return True

    def ask(self, path: str, data: bytes | None = None):
        address = f"http://127.0.0.1:{self.http}{path}"
        with urllib.request.urlopen(address, data, timeout=COMMAND_TIMEOUT_S) as answer:
            return json.loads(answer.read())

    def store(self, *contents: bytes) -> None:
        for content in contents:
            self.ask("/instances", content)

    @property
    def instances(self) -> int:
        return self.ask("/statistics")["CountInstances"]


@pytest.fixture
def orthanc(outside_tool):
    with tempfile.TemporaryDirectory() as folder:
        made = Orthanc(Path(folder), outside_tool("Orthanc"))
        made.start()
        yield made
        made.stop()


def node_beside(nodes, orthanc, **more):
    """Start a node that Orthanc knows, and that knows Orthanc."""
    (node,) = nodes(started=False)
    pacs = {
        "title": "PACS",
        "host": "127.0.0.1",
        "port": orthanc.dicom,
        "allowed": ["store", "echo", "find", "get", "move"],
    }
    settings = {
        "OPENPRIORS_DICOM__KNOWN_AES": json.dumps([pacs | more]),
        "OPENPRIORS_DICOM__PORT": str(orthanc.node),
        "OPENPRIORS_DICOM__RETRY_S": "1",
    }
    node.start(**settings)
    return node, settings


def studies_in(orthanc):
    for number in range(1, STUDIES + 1):
        changes = {"PatientID": f"P{number}", "StudyDate": f"2025010{number}"}
        for each in range(EACH):
            orthanc.store(instance(each, study=f"1.2.{number}", pixels=bytes(5000), **changes))


@pytest.mark.parametrize("collect_by", ["move", "get"])
def test_what_a_pacs_lists_is_collected(nodes, orthanc, collect_by):
    studies_in(orthanc)
    orthanc.store(*map(sample, SAMPLES))
    node, settings = node_beside(nodes, orthanc, collect_by=collect_by)
    assert "answers" in node.run("echo", "PACS")

    one = node.run_json("collect", "PACS", "--patient", "P2")
    assert (one["state"], one["studies"], one["instances_listed"]) == ("complete", 1, EACH)
    assert node.get("/status")["instances"] == EACH

    days = node.run_json("collect", "PACS", "--from", "20250101", "--until", "20250103")
    assert (days["state"], days["studies"]) == ("complete", STUDIES)
    assert (days["instances_listed"], days["instances_missing"]) == (STUDIES * EACH, 0)
    assert node.get("/status")["instances"] == STUDIES * EACH

    everything = node.run_json("collect", "PACS", "--from", "19000101")
    assert everything["state"] == "complete", everything
    held = node.get("/status")["instances"]
    assert held == STUDIES * EACH + len(SAMPLES), "compressed ones as well"

    node.kill()
    node.start(**settings)
    assert node.get("/status")["instances"] == held
    found = node.get("/collections")
    assert [each["state"] for each in found["collections"]] == ["complete"] * 3
    assert found["titles"] == ["PACS"]


def test_a_collection_goes_on_after_a_kill(nodes, orthanc):
    studies_in(orthanc)
    node, settings = node_beside(nodes, orthanc)
    begun = node.run_json("collect", "PACS", "--modality", "CT", "--no-wait")
    node.kill()
    node.start(**settings)

    def ended():
        found = node.get(f"/collections/{begun['collection_id']}")
        return found if found["ended_at"] else None

    found = wait_until(ended, "the collection did not go on", more=node.log_lines)
    assert (found["state"], found["instances_missing"]) == ("complete", 0)
    assert node.get("/status")["instances"] == STUDIES * EACH


def test_what_a_pacs_lists_and_does_not_send_is_named(nodes, orthanc):
    """The node does not let the PACS store, so nothing that it moves arrives."""
    studies_in(orthanc)
    node, _ = node_beside(nodes, orthanc, allowed=["echo"])
    with pytest.raises(CommandFailed, match="status 1"):
        node.run("collect", "PACS", "--patient", "P1")
    (newest,) = node.get("/collections")["collections"]
    found = node.get(f"/collections/{newest['collection_id']}")
    assert (found["state"], found["instances_missing"]) == ("incomplete", EACH)
    (study,) = found["not_complete"]
    assert sorted(study["missing"]) == sorted(f"1.2.1.1.{number}" for number in range(EACH))
    assert study["reason"]


def test_a_pacs_that_is_not_there_is_named(nodes, orthanc):
    node, _ = node_beside(nodes, orthanc)
    orthanc.stop()
    with pytest.raises(CommandFailed, match="PACS cannot be reached"):
        node.run("echo", "PACS")
    with pytest.raises(CommandFailed, match="PACS cannot be reached"):
        node.run("collect", "PACS", "--patient", "P1")
    with pytest.raises(CommandFailed, match=r"dicom\.known_aes"):
        node.run("echo", "NOBODY")
    assert node.get("/status")["instances"] == 0


def test_new_studies_come_by_themselves(nodes, orthanc):
    node, _ = node_beside(nodes, orthanc, collect_every_s=1)
    for number in range(EACH):
        orthanc.store(instance(number, study="1.2.9", StudyDate="20990101"))
    wait_until(
        lambda: node.get("/status")["instances"] == EACH,
        "what is new did not come",
        more=node.log_lines,
    )


def test_orthanc_finds_and_moves_to_itself(nodes, orthanc):
    """The other way round: Orthanc queries the node, and has it send what it found."""
    node, _ = node_beside(nodes, orthanc)
    for number in range(EACH):
        node.store(instance(number, pixels=bytes(5000)))
    assert orthanc.ask("/modalities/node/echo", b"{}") == {}
    asked = {"Level": "Study", "Query": {"PatientID": "MRN-1", "StudyInstanceUID": ""}}
    query = orthanc.ask("/modalities/node/query", json.dumps(asked).encode())["ID"]
    assert orthanc.ask(f"/queries/{query}/answers") == ["0"]
    orthanc.ask(f"/queries/{query}/retrieve", b"PACS")
    assert orthanc.instances == EACH
