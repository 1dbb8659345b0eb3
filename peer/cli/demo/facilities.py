"""Three nodes as three processes of their own, started, stopped and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from peer.cli.client import Client
from peer.cli.output import CommandError

START_TIMEOUT_S: Final = 30
"""A node starts in about a second; a busy machine may need many."""
STOP_TIMEOUT_S: Final = 15
"""A node ends within seconds of SIGTERM; after this it is killed."""
POLL_S: Final = 0.1
LOG_LINES_SHOWN: Final = 5


@dataclass(slots=True)
class Facility:
    """One facility: its name, data directory, and the process that runs its node."""

    name: str
    data: Path
    root_key: Path
    process: asyncio.subprocess.Process | None = None
    addresses: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """Where the node's standard error goes."""
        return self.data.with_name(self.data.name + ".log")

    async def init(self) -> str:
        """Make the node with `openpriors init`, on ports that are free now; return what it said."""
        self.root_key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ports = free_ports(4)
        arguments = [
            "init", "--data", str(self.data), "--name", self.name,
            "--root-key", str(self.root_key), "--public-host", "127.0.0.1",
            "--federation-host", "127.0.0.1",
            "--local-port", str(ports[0]), "--federation-port", str(ports[1]),
            "--pairing-port", str(ports[2]), "--dicom-port", str(ports[3]),
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "peer", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        if process.returncode:
            raise CommandError("init-failed", f"{self.name}: {said.decode(errors='replace')}")
        return said.decode()

    async def start(self) -> None:
        """Start the node's process and wait until it says that it is ready."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "peer", "run", "--data", str(self.data),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.returncode is not None:
                break
            if await self._answers():
                return
            await asyncio.sleep(POLL_S)
        last = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        raise CommandError("start-failed", f"{self.name} did not start.", "\n".join(last))

    async def _answers(self) -> bool:
        recorded = self.data / "run" / "addresses.json"
        try:
            addresses = json.loads(recorded.read_text())
            if self.process is None or addresses["pid"] != self.process.pid:
                return False
            async with Client.open(self.data) as client:
                await client.get("/status")
        except (OSError, ValueError, KeyError, CommandError):
            return False
        self.addresses = addresses
        return True

    async def stop(self) -> None:
        """End the node as an operator would: SIGTERM, and wait."""
        process, self.process = self.process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def client(self) -> Any:  # noqa: ANN401 - an async context manager of Client
        """Return a conversation with the running node."""
        return Client.open(self.data)

    def summary(self) -> dict[str, str]:
        """Return what the demonstration's JSON says of the node."""
        return {
            "facility": self.name,
            "data": str(self.data),
            "local_url": self.addresses.get("local_url", ""),
            "federation_url": self.addresses.get("federation_url", ""),
        }


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
