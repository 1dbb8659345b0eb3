"""The demonstration does what it says, and the tutorial shows what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
STEPS = [
    "init", "import", "pair", "consent", "digests", "search", "retrieve", "notify", "outage",
    "revoke", "retention", "account",
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
