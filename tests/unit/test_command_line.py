"""A call that is wrong ends with 2, and says so in the form that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from peer.cli.app import VERBS, main


def called(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["openpriors", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["retrieve", "--json"], "Missing argument"),
        (["--json", "nothing"], "--json"),
        (["invite", "--hours", "many", "--json"], "--hours"),
        (["invite", "--hours", "0", "--json"], "--hours"),
        (["invite", "--json", "--absent"], "--absent"),
        (["consent", "absent", "--json"], "absent"),
    ],
)
def test_a_wrong_call_is_told_as_json(monkeypatch, capsys, arguments, names):
    assert called(monkeypatch, *arguments) == 2
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["code"] == "usage"
    assert names in error["reason"]
    assert "--help" in error["remedy"]
    assert captured.err == ""


def test_without_json_people_are_told(monkeypatch, capsys):
    assert called(monkeypatch, "invite", "--absent") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--absent" in captured.err


def test_a_command_that_fails_still_ends_with_1(monkeypatch, capsys, tmp_path):
    assert called(monkeypatch, "status", "--data", str(tmp_path), "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] != "usage"


def test_help_is_no_failure(monkeypatch, capsys):
    assert called(monkeypatch, "invite", "--json", "--help") == 0
    assert "--hours" in capsys.readouterr().out


LOADED = """
import sys
from peer.cli.app import app
app.commands["status"]
print(*sys.modules)
"""


def test_a_verb_loads_neither_the_node_nor_other_verbs():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "peer.cli.status" in loaded
    others = {f"peer.cli.{verb}" for verb in VERBS if verb != "status"}
    assert not loaded & (others | {"peer.runtime", "pydicom", "pynetdicom", "numpy"})


def test_a_verb_that_is_almost_right_is_suggested(monkeypatch, capsys):
    assert called(monkeypatch, "stats") == 2
    assert "status" in capsys.readouterr().err


def test_nothing_is_left_in_the_temporary_directory(tmp_path):
    """One of the libraries leaves a copy of itself there whenever it is imported."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    made = tmp_path / "node"
    arguments = ["init", "--name", "St. Anna", "--data", str(made), "--root-key", f"{made}.key"]
    subprocess.run(
        [sys.executable, "-m", "peer", *arguments],
        env={**os.environ, "TMPDIR": str(temporary)},
        check=True,
        capture_output=True,
    )
    assert list(temporary.iterdir()) == []
