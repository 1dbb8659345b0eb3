"""Three hospitals in processes of their own, with cables, clocks and a disk to tamper with."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.cable import Cable, State
from tests.chaos.disk import SmallDisk, small_disk
from tests.chaos.ledger import Ledger
from tests.chaos.steered import VARIABLE, write_offset
from tests.forking import Forked
from tests.processes import ISSUERS, NAMES, Node, free_ports, pair

SETTINGS = {
    "OPENPRIORS_JOURNAL__EXCHANGE_INTERVAL_S": "2",
    "OPENPRIORS_SEARCH__DEADLINE_S": "2",
    "OPENPRIORS_INGEST__SETTLE_S": "1",
}
"""So that minutes of a hospital's day pass in seconds."""

SMALL = 2
"""The hospital that may have a small disk."""


@dataclass(slots=True)
class Place:
    """One hospital.  `up` is set while its process is meant to run; `busy` guards its faults."""

    node: Node
    cable: Cable
    port: int
    clock: Path
    disk: SmallDisk | None
    up: threading.Event = field(default_factory=threading.Event)
    busy: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        self.node.start(
            **SETTINGS,
            OPENPRIORS_FEDERATION__PORT=str(self.port),
            **{VARIABLE: str(self.clock)},
        )
        self.up.set()

    def kill(self) -> None:
        self.up.clear()
        self.node.kill()

    def stop(self) -> int | None:
        self.up.clear()
        return self.node.stop()

    def step_clock(self, seconds: float) -> None:
        write_offset(self.clock, seconds)


class World:
    """Three partners, and what they have acknowledged so far."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger()
        self.places: list[Place] = []
        for number in range(3):
            self.places.append(self._found(folder / f"facility-{number + 1}", number))

    def _found(self, folder: Path, number: int) -> Place:
        """Make a hospital that partners reach through a cable; the last one has a small disk."""
        folder.mkdir()
        home = folder / "home"
        home.mkdir()
        disk = small_disk(home) if number == SMALL else None
        node = Node(
            name=NAMES[number],
            data=home / "data",
            root_key=folder / "root.key",
            issuer=ISSUERS[number],
            module="tests.chaos.steered",
            begin=Forked,
        )
        public, port = free_ports(2)
        node.init("--federation-port", str(public))
        file = node.data / "openpriors.toml"
        # Whoever waits for an answer to become right asks more often than a person may.
        text = re.sub(r"# (per_hour) = \d+", r"\1 = 100000", file.read_text())
        if disk is not None:
            text = re.sub(r"# (keep_free_bytes) = \d+", r"\1 = 0", text)
        file.write_text(text)
        clock = folder / "clock"
        write_offset(clock, 0)
        return Place(node, Cable(public, port), port, clock, disk)

    @property
    def nodes(self) -> list[Node]:
        return [place.node for place in self.places]

    def begin(self) -> None:
        for place in self.places:
            place.start()
        one, two, three = self.nodes
        for here, there in ((one, two), (one, three), (two, three)):
            pair(here, there)

    def heal(self) -> None:
        """Put everything right that is outside the nodes; inside they must do it themselves."""
        for place in self.places:
            place.cable.set(State.WHOLE)
            place.step_clock(0)
            if place.disk is not None:
                place.disk.empty()
            if not place.up.is_set():
                place.start()

    def close(self) -> None:
        for place in self.places:
            place.node.kill()
            place.cable.close()
            if place.disk is not None:
                place.disk.close()

    def logs(self) -> str:
        """Return the end of each node's log."""
        return "\n".join(f"--- {node.name}\n{node.log_lines()}" for node in self.nodes)


def now() -> int:
    return int(time.time())
