"""The one place where the node reads the time: Unix seconds, UTC."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Return the time as Unix seconds, UTC."""
        ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The clock of the machine."""

    def now(self) -> int:
        """Return the time as Unix seconds, UTC."""
        return int(time.time())


@dataclass(slots=True)
class ManualClock:
    """A clock that stands still until it is told otherwise, for tests and rehearsals."""

    time_s: int

    def now(self) -> int:
        """Return the time as Unix seconds, UTC."""
        return self.time_s

    def advance(self, seconds: int) -> None:
        """Move on by `seconds`."""
        self.time_s += seconds
