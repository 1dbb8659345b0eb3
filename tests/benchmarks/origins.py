"""Many facilities in one process, each a whole node: `python -m tests.benchmarks.origins FOLDER`.

A node for each folder in FOLDER.  They share an interpreter, so that a hundred fit into a machine;
what they do is what a node of its own does.  It says "ready" and ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from peer import logs
from peer.runtime import start


async def main(folder):
    logs.set_up(sys.stderr)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        for data in sorted(folder.glob("*/data")):
            await stack.enter_async_context(start(data))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
