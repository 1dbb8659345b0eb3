"""A missing outside tool is skipped where it may be missing and fails where it must not be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def program(tmp_path):
    found = tmp_path / "storescu"
    found.write_text("#!/bin/sh\n")
    found.chmod(0o700)
    return found


def test_a_tool_on_the_path_is_found(outside_tool, program, monkeypatch):
    monkeypatch.setenv("PATH", str(program.parent))

    assert outside_tool("absent", "storescu") == str(program)


def test_a_missing_tool_skips(outside_tool, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OPENPRIORS_REQUIRE_TOOLS", raising=False)

    with pytest.raises(pytest.skip.Exception, match="storescu is not installed"):
        outside_tool("storescu")


def test_a_missing_tool_fails_where_it_is_required(outside_tool, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("OPENPRIORS_REQUIRE_TOOLS", "1")

    with pytest.raises(pytest.fail.Exception, match="OPENPRIORS_REQUIRE_TOOLS=1"):
        outside_tool("storescu")


def test_a_program_of_the_environment_is_no_outside_tool(outside_tool, monkeypatch):
    own = Path(sys.prefix) / "bin"
    monkeypatch.setenv("PATH", str(own))
    monkeypatch.delenv("OPENPRIORS_REQUIRE_TOOLS", raising=False)

    assert (own / "storescu").exists(), "pynetdicom no longer installs one; choose another program"
    with pytest.raises(pytest.skip.Exception):
        outside_tool("storescu")
