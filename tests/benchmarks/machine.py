"""What the operating system says of processes and connections, and how a result is printed."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

MEGABYTE = 1_000_000


def cpu_seconds(pid):
    """Return user and system time of a process and all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_seconds_of_all(pid):
    """Return user and system time of a process and of its children, those that have ended too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid):
    """Return the most physical memory that a process has had so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / MEGABYTE


def load():
    """Return the load of the machine over the last minute; 2 cores are busy at 2."""
    return os.getloadavg()[0]


class Wire:
    """Bytes of the TCP connections to some listening ports, as the kernel counts them.

    What TCP carries is TLS records; retransmissions do not count, headers of TCP and IP neither.
    """

    def __init__(self, *ports):
        self.ports = set(ports)
        self.seen = {}

    def sample(self):
        """Note how far each connection is; return the bytes of all, both ways, ever seen."""
        listing = subprocess.run(
            ["ss", "-tinOH", "state", "established"], capture_output=True, text=True, check=True
        ).stdout
        for line in listing.splitlines():
            ends = re.match(r"\s*\d+\s+\d+\s+\S+:(\d+)\s+\S+:(\d+)", line)
            if ends is None or int(ends[1]) not in self.ports:
                continue
            sent = re.search(r"bytes_sent:(\d+)", line)
            received = re.search(r"bytes_received:(\d+)", line)
            self.seen[int(ends[1]), int(ends[2])] = (
                int(sent[1]) if sent else 0,
                int(received[1]) if received else 0,
            )
        return sum(sum(both) for both in self.seen.values())


def row(name, values, unit, *, against=None, ratio=None, **detail):
    """Print one result: the median of `values`, and all that is needed to judge it."""
    median = statistics.median(values)
    detail |= {"runs": values, "lowest": min(values), "highest": max(values), "load": load()}
    line = {
        "name": name,
        "value": _short(median),
        "unit": unit,
        "against": against,
        "ratio": None if ratio is None else round(ratio, 4),
        "detail": {key: _short(value) for key, value in detail.items()},
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _short(value):
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, (list, tuple)):
        return [_short(each) for each in value]
    return value
