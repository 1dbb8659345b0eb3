"""The demonstration does what it says, and the tutorial shows what it prints."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from peer.cli.demo import corpus
from tests.processes import wait_until

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
STEPS = [
    "init", "import", "pair", "consent", "digests", "search", "likeness", "retrieve", "notify",
    "outage", "revoke", "retention", "account",
]  # fmt: skip
LONGEST_S = 100
BLOCK = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What differs from run to run, on both sides of the comparison.
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d UTC)?"), "DATE"),
    (re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b"), "HEX"),
    (re.compile(r"(read the same words:)( [a-z]+){6}"), r"\1 WORDS"),
    (re.compile(r"all \d+ audit records"), "all N audit records"),
)

LONG_ENOUGH = 6
"""Bytes; fewer turn up in megabytes of ciphertext by chance."""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Tell the story once: its output, its evidence, and where its data directories were kept."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [
            sys.executable, "-m", "peer", "demo", "--once",
            "--data", str(folder / "data"), "--json", str(folder / "demo.json"),
        ],
        env={**os.environ, "COLUMNS": "400"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    evidence = json.loads((folder / "demo.json").read_text(encoding="utf-8"))
    return done.stdout, evidence, folder / "data"


def test_every_step_is_ok_and_has_evidence(told):
    _, evidence, _ = told
    assert [step["name"] for step in evidence["steps"]] == STEPS
    assert all(step["ok"] and step["evidence"] for step in evidence["steps"])


def test_whoever_is_on_file_otherwise_is_found_with_the_reasons(told):
    evidence = next(step for step in told[1]["steps"] if step["name"] == "likeness")["evidence"]
    reasons = {kind: found["match"]["reasons"] for kind, found in evidence.items()}
    same = ["Family name: same", "Given name: same", "Birth date: same", "Sex: same"]
    assert reasons == {
        "a misspelt name: Wisnewsky, Marek": ["Family name: similar", *same[1:]],
        "in this script: 山田 太郎": same,
        "in this script: やまだ たろう": same,
        "in this script: Yamada, Taro": [same[0], "Given name: similar", *same[2:]],
        "her name at birth: Ferreira, Beatriz": same,
        "day and month swapped": [*same[:2], "Birth date: day/month swapped", same[3]],
        "a changed surname": ["Family name: differs", *same[1:]],
    }
    assert evidence["day and month swapped"]["match"]["linked"]
    assert evidence["a changed surname"]["match"]["confirmed"]


def test_the_nodes_have_data_directories_of_their_own_and_are_stopped(told):
    _, evidence, data = told
    folders = {Path(node["data"]) for node in evidence["nodes"]}
    urls = {node[key] for node in evidence["nodes"] for key in ("local_url", "federation_url")}
    assert len(folders) == 3
    assert len(urls) == 6
    for folder in folders:
        assert folder.is_relative_to(data)
        assert (folder / "index.db").exists()
        assert not (folder / "run" / "addresses.json").exists(), "a node is still running"


def test_nothing_of_the_patients_lies_open_in_any_node(told):
    """The whole of each node after the whole story: databases, packs, keys, settings and log."""
    _, _, data = told
    people = {study.person for study in corpus.STUDIES}
    names = (
        part
        for person in people
        for name in (person.name, person.birth_name)
        for part in re.split("[=^]", name.lower())
    )
    secrets = {name for name in names if name}
    secrets |= {person.patient_id.lower() for person in people}
    secrets |= {study.study_instance_uid for study in corpus.STUDIES}
    secrets |= {f"{p.patient_id[-5:]}{s.days_ago:04d}" for p in people for s in corpus.STUDIES}
    files = [
        path
        for path in data.rglob("*")
        if path.is_file() and not path.is_relative_to(data / "files")
    ]
    assert {path.suffix for path in files} >= {".db", ".log", ".toml", ".key"}
    for path in files:
        content = path.read_bytes().lower()
        for secret in secrets:
            for spelling in (secret.encode(), secret.encode("utf-16-le"), secret.encode().hex()):
                sought = spelling.encode() if isinstance(spelling, str) else spelling
                if len(sought) >= LONG_ENOUGH:
                    assert sought not in content, f"{secret} lies open in {path.relative_to(data)}"


def same(text):
    for pattern, instead in VARYING:
        text = pattern.sub(instead, text)
    return text


def test_the_tutorial_shows_what_is_printed(told):
    output = {same(line.strip(" │")) for line in told[0].splitlines()}
    blocks = BLOCK.findall(TUTORIAL.read_text(encoding="utf-8"))
    shown = [line.strip() for block in blocks for line in block.splitlines()]
    shown = [line for line in shown if line and not re.match(r"make |\.venv/", line)]
    assert len(shown) > 25
    # The report's sentence is folded in the tutorial, and stands in a box on the terminal.
    told_in_one = " ".join(told[0].replace("│", " ").split())
    for line in shown:
        assert same(line) in output or line in told_in_one, f"the tutorial shows: {line}"


def test_the_tutorial_has_a_section_for_each_step():
    sections = re.findall(r"^## (\d+)\. ", TUTORIAL.read_text(encoding="utf-8"), re.MULTILINE)
    assert sections == [str(number) for number in range(1, len(STEPS) + 1)]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "peer", "demo", "--once", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    assert done.returncode == 2
    assert "not empty" in done.stdout
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


def is_ready(url):
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request("GET", "/readyz")
    answer = connection.getresponse().read()
    connection.close()
    return json.loads(answer) == {"ready": True}


def running(pid):
    """Return whether a process lives, and has not merely not been waited for."""
    with suppress(FileNotFoundError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def test_the_nodes_stay_until_ctrl_c_and_end_with_it(tmp_path):
    said = tmp_path / "said.txt"
    with said.open("w") as output:
        demo = subprocess.Popen(
            [
                sys.executable, "-m", "peer", "demo",
                "--data", str(tmp_path / "data"), "--json", str(tmp_path / "demo.json"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(
            lambda: demo.poll() is not None or "Press Ctrl-C" in said.read_text(),
            "the story does not end",
            LONGEST_S,
            more=said.read_text,
        )
        assert demo.poll() is None, said.read_text()
        nodes = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))["nodes"]
        pids = []
        for node in nodes:
            assert node["local_url"] in said.read_text(), "its address is shown"
            assert is_ready(node["local_url"])
            addresses = json.loads((Path(node["data"]) / "run" / "addresses.json").read_text())
            pids.append(addresses["pid"])
        assert all(running(pid) for pid in pids)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(LONGEST_S) == 0
        assert not any(running(pid) for pid in pids), "a node outlived the demonstration"
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait(LONGEST_S)


def test_a_step_that_fails_is_told_recorded_and_the_exit_status(tmp_path):
    done = subprocess.run(
        [
            sys.executable, "-m", "peer", "demo", "--once",
            "--data", str(tmp_path / "data"), "--json", str(tmp_path / "demo.json"),
        ],
        # No node starts with such a setting.
        env=os.environ | {"OPENPRIORS_SEARCH__DEADLINE_S": "soon", "COLUMNS": "400"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "✗" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    (step,) = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))["steps"]
    assert (step["name"], step["ok"]) == ("init", False)
    assert step["evidence"]["error"]
