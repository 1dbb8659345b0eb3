"""A disk so small that it can be filled: a tmpfs, where this process may mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import REQUIRE_TOOLS

SIZE = 64 << 20
PIECE = 1 << 16
_CAP_SYS_ADMIN = 21
"""linux/capability.h: whoever has it may mount."""


class SmallDisk:
    """A disk of 64 MiB at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filling = folder / "filling"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)],
            capture_output=True,
            check=True,
        )

    def fill(self) -> None:
        """Leave no room for another byte."""
        with suppress(OSError), self._filling.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(PIECE))

    def empty(self) -> None:
        """Make room again."""
        self._filling.unlink(missing_ok=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


def small_disk(folder: Path) -> SmallDisk | None:
    """Return a small disk mounted at `folder`, or None where this process may not mount."""
    if not _may_mount() or shutil.which("mount") is None:
        return None
    try:
        return SmallDisk(folder)
    except subprocess.CalledProcessError as error:
        if os.environ.get(REQUIRE_TOOLS) == "1":
            pytest.fail(f"this process may mount, and cannot: {error.stderr}")
        return None


def _may_mount() -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
