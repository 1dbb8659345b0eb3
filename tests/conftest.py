"""What every test may ask for: hypothesis profiles and programs from outside this project."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable

# The same examples in every run, so that a failure is the change's own doing. Time limits are
# pytest's: on a shared machine a slow example is no finding.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=100,
    print_blob=True,
)
# New examples in every run, many of them: `make test-deep`.
settings.register_profile(
    "deep",
    derandomize=False,
    deadline=None,
    max_examples=5_000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

# Where this is set, each of the many nodes that are started in processes of their own would compile
# all of our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Set where every outside tool is installed: there an absent one is a failure.
REQUIRE_TOOLS = "OPENPRIORS_REQUIRE_TOOLS"


def find_outside_tool(*names: str) -> str:
    """Return the path of the first of `names` that is installed on the system.

    Skips the test when none is; fails it when the environment says that all tools are there.
    The environment's own programs do not count: pynetdicom installs a `storescu` of its own, and a
    test against that would be a test of the library against itself.
    """
    own = Path(sys.prefix).resolve() / "bin"
    outside = [
        folder
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep)
        if folder and Path(folder).resolve() != own
    ]
    for name in names:
        found = shutil.which(name, path=os.pathsep.join(outside))
        if found:
            return found
    absent = (
        f"{' or '.join(names)} is not installed; Debian has it "
        "(dcmtk, orthanc, chromium, tinyproxy-bin)"
    )
    if os.environ.get(REQUIRE_TOOLS) == "1":
        pytest.fail(f"{absent}, and {REQUIRE_TOOLS}=1 says it must be")
    pytest.skip(absent)


@pytest.fixture(scope="session")
def outside_tool() -> Callable[..., str]:
    """Look up a program from outside this project: `outside_tool("storescu")` is its path."""
    return find_outside_tool
