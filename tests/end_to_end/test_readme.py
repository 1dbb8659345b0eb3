"""The command blocks of README and how-to pages are run as they stand, on real nodes.

A block that is to be run says so behind its language: ```sh at=northgate.  `at` names the node
whose operator types it; `run` starts the node and leaves it running.  Nothing in a block is
replaced: its working directory holds `studies/`, its home is a folder of the test's, and what a
person would copy from the screen stands in the environment ($INVITATION, $DIRECTIVE, $STUDY), and
where the root key is ($ROOT_KEY) and backups go to ($BACKUPS).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.dicom_samples import instance
from tests.processes import COMMAND_TIMEOUT_S, Node, wait_until

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to"
BLOCK = re.compile(r"^```sh at=(\w+)( run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COPIED = {
    "INVITATION": re.compile(r"^(openpriors1:\S+)$", re.MULTILINE),
    "DIRECTIVE": re.compile(r"^Directive ([0-9a-f]{32})$", re.MULTILINE),
    "STUDY": re.compile(r"\b(1\.2\.826\.[0-9.]+)\b"),
}
STUDY = "1.2.826.0.1.3680043.8.498.1204"
ADAEZE = {
    "PatientID": "NG-204417",
    "PatientName": "Okonkwo-Brandt^Adaeze",
    "PatientBirthDate": "19680417",
    "PatientSex": "F",
    "StudyDescription": "CT Chest",
}


@dataclass(slots=True)
class Reader:
    """Somebody who reads a page and types what it says."""

    folder: Path
    nodes: dict[str, Node]
    copied: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def follow(self, page: Path) -> str:
        """Run every block of a page and return all that was said."""
        blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
        assert blocks, "the page has no block to run"
        for at, run, text in blocks:
            if run:
                self.nodes[at].start(**FREE_PORTS)
            else:
                self._take_time()
                self.type(self.nodes[at], text)
        return "\n".join(self.said)

    def _take_time(self) -> None:
        """Let partners connect and exchange what they have: a person is slower than that."""
        running = {node.peer_id: node for node in self.nodes.values() if node.process}
        for here in running.values():
            for partner in here.get("/partners")["partners"]:
                if partner["confirmed_here"] and partner["confirmed_there"]:
                    there = running[partner["peer_id"]]
                    wait_until(
                        lambda here=here, there=there: _is_in_step(here, there),
                        f"{here.name} is not in step with {there.name}",
                        more=here.log_lines,
                    )

    def type(self, node: Node, text: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env={
                **os.environ,
                **self.copied,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(self.folder),
                "ROOT_KEY": str(node.root_key),
                "BACKUPS": str(self.folder / "backups"),
                "OPENPRIORS_DATA": str(node.data),
                "COLUMNS": "250",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}\n{node.log_lines()}"
        self.said.append(done.stdout)
        for name, pattern in COPIED.items():
            if found := pattern.search(done.stdout):
                self.copied[name] = found[1]


def _is_in_step(here: Node, there: Node) -> bool:
    partner = here.partner(there)
    return bool(partner["connected"]) and (
        partner["digests"] == there.get("/status")["journal"]["live"]
    )


FREE_PORTS = {
    "OPENPRIORS_LOCAL__PORT": "0",
    "OPENPRIORS_FEDERATION__HOST": "127.0.0.1",
    "OPENPRIORS_FEDERATION__PORT": "0",
    "OPENPRIORS_PAIRING__HOST": "127.0.0.1",
    "OPENPRIORS_PAIRING__PORT": "0",
    "OPENPRIORS_DICOM__PORT": "0",
}
"""The blocks use the usual ports, which another program of this machine may have."""


def make_studies(folder: Path) -> Path:
    studies = folder / "studies"
    studies.mkdir()
    for number in (1, 2):
        data = instance(number, study=STUDY, **ADAEZE)
        (studies / f"{number}.dcm").write_bytes(data)
    return folder


def test_readme(tmp_path, nodes):
    northgate, lakeside = nodes(2)
    home = Node("Northgate General Hospital", tmp_path / "home", tmp_path / "home.key", "")
    reader = Reader(
        make_studies(tmp_path), {"northgate": northgate, "lakeside": lakeside, "home": home}
    )
    try:
        said = reader.follow(ROOT / "README.md")
        assert home.get("/status")["studies"] == 1
    finally:
        home.kill()
    assert (tmp_path / "northgate-root.key").stat().st_mode & 0o777 == 0o600
    assert "/login?link=" in said
    assert "2 accepted, 0 already here, 0 refused; 1 studies." in said
    assert northgate.partner(lakeside)["state"] == "active"
    assert "Searched 2 of 2 facilities." in said
    assert "2/2 instances verified" in said


@pytest.fixture(scope="module")
def partners(tmp_path_factory, nodes):
    """Two nodes that became partners by the how-to, and what the commands said."""
    northgate, lakeside = nodes(2)
    known = {"northgate": northgate, "lakeside": lakeside}
    said = Reader(tmp_path_factory.mktemp("partners"), known).follow(HOW_TO / "add-a-partner.md")
    return known, said


def test_add_a_partner(partners):
    known, said = partners
    northgate, lakeside = known["northgate"], known["lakeside"]
    words = " ".join(lakeside.partner(northgate)["words"])
    assert said.count(words) == 2, "the words are shown at both sides"
    for here, there in ((northgate, lakeside), (lakeside, northgate)):
        wait_until(lambda h=here, t=there: h.partner(t)["connected"], "they are not connected")


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("connect-a-modality", "The settings are in order."),
        ("import-studies", "2 accepted"),
        ("record-a-consent", "Status: revoked."),
        ("answer-who-saw-my-patient", "audit records are whole and in order."),
        ("rotate-keys", "The node has new keys, and uses them from now on."),
        ("back-up-and-restore", "every byte is as it was written."),
    ],
)
def test_how_to(page, expected, tmp_path, partners):
    known, _ = partners
    said = Reader(make_studies(tmp_path), known).follow(HOW_TO / f"{page}.md")
    assert expected in said


def test_every_block_names_a_node_or_is_not_shell():
    pages = [ROOT / "README.md", *HOW_TO.glob("*.md")]
    for page in pages:
        for info in re.findall(r"^```(\S.*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert info in {"toml", "json", "python"} or re.fullmatch(r"sh at=\w+( run)?", info), (
                f"{page.name}: a block of {info} is not run by this test"
            )
