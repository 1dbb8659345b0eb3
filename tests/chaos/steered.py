"""`openpriors` with a clock that can be stepped while it runs: `python -m tests.chaos.steered`.

All of the node reads the time from `SystemClock` alone, so that is what is replaced.  How many
seconds it is wrong by stands in the file that CHAOS_CLOCK names, as one little-endian double.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

from peer.cli.app import main
from peer.clock import SystemClock

VARIABLE = "CHAOS_CLOCK"
_OFFSET = struct.Struct("<d")


def write_offset(path: Path, seconds: float) -> None:
    """Step the clock of the node that reads `path`, at once."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.write(_OFFSET.pack(seconds))


def steer(path: Path) -> None:
    """Have the node of this process read its clock through `path`."""
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), _OFFSET.size)

    def now(_clock: SystemClock) -> int:
        return int(time.time() + _OFFSET.unpack_from(shared)[0])

    SystemClock.now = now  # type: ignore[method-assign]


if __name__ == "__main__":
    steer(Path(os.environ[VARIABLE]))
    main()
