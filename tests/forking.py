"""Commands in processes that are forked from one that has imported everything already.

A node imports a thousand modules, which takes a processor longer than most tests.  How a person
starts one is what `tests/end_to_end/test_start_and_stop.py` and the README's test do.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_MODULES = ["peer.runtime", "rich.progress", "tests.forking", "typer"]
"""Of the commands none: what they print with looks at its environment when it is imported."""
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_MODULES)


class Forked:
    """A process with those methods of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        said: Path,
        faults: Path | None = None,
    ) -> None:
        """Do what `tests.processes.spawn` does."""
        given = (module, list(arguments), dict(environment), said, faults or said)
        self._process: BaseProcess = _context.Process(target=_be, args=given, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number, which is that of its group too."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit status once it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status; raise `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _be(
    module: str, arguments: list[str], environment: dict[str, str], said: Path, faults: Path
) -> None:
    os.setsid()
    opened = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(said, opened, 0o600), 1)
    os.dup2(os.open(faults, opened, 0o600), 2)
    sys.stdin = os.fdopen(0)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
