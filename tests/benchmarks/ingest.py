"""`make bench-ingest`: instances from a folder into a node, durable and encrypted.

Each result is one line of JSON.  The node is a process made by `openpriors init`; what is timed is
the whole of `openpriors import FOLDER`, from the start of the command to its end, when every
instance is durable and every study settled, signed and published.  Against it, in turns, goes a
plain copy of the same files in one process: each read whole and appended to one file a study, with
as many synchronisations as the node made; nothing is looked at, hashed, encrypted or recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import corpus
from tests.benchmarks.machine import MEGABYTE, cpu_seconds, load, peak_mb, row
from tests.processes import ISSUERS, NAMES, Node

CASES = {
    "ct_folder": (2000, corpus.CT_PIXELS),
    "tiny_folder": (8000, corpus.SMALL_PIXELS),
}
"""Instances, and rows and columns of each."""
LOG_BYTES = 4096
"""What the copy appends to a second file with each group: the place of the index's commit."""


@dataclass(frozen=True)
class Run:
    """One import, and the copy before it."""

    seconds: float
    copy_s: float
    cpu_node: float
    cpu_command: float
    cpu_copy: float
    peak_node: float
    peak_command: float
    groups: int
    load_before: float


def copy(folder, target, groups):
    """Copy all files below `folder`, synchronised `groups` times; return seconds, CPU seconds.

    In a process of its own, so that what it uses is its own.
    """
    subprocess.run(
        [sys.executable, "-m", __spec__.name, "--copy", str(folder), str(target), str(groups)],
        check=True,
        stdout=subprocess.PIPE,
    )
    taken = json.loads((target / "taken.json").read_text())
    shutil.rmtree(target)
    return taken["seconds"], taken["cpu"]


def _copy(folder, target, groups):
    target.mkdir()
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    files = sorted(path for path in folder.rglob("*.dcm"))
    size = -(-len(files) // groups)
    log = os.open(target / "log", os.O_WRONLY | os.O_CREAT)
    opened = {}
    for start in range(0, len(files), size):
        touched = set()
        for path in files[start : start + size]:
            file = opened.get(path.parent)
            if file is None:
                file = opened[path.parent] = os.open(
                    target / path.parent.name, os.O_WRONLY | os.O_CREAT
                )
            os.write(file, path.read_bytes())
            touched.add(file)
        for file in touched:
            os.fdatasync(file)
        os.write(log, bytes(LOG_BYTES))
        os.fdatasync(log)
    seconds = time.monotonic() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    taken = {"seconds": seconds, "cpu": _cpu(usage) - _cpu(before)}
    (target / "taken.json").write_text(json.dumps(taken))


def _cpu(usage):
    return usage.ru_utime + usage.ru_stime


def one_import(place, folder, count, groups):
    """Import into a fresh node, after a copy with so many groups."""
    copy_s, cpu_copy = copy(folder, place / "copy", groups)
    node = Node(NAMES[0], place / "data", place / "root.key", ISSUERS[0])
    node.init()
    node.start()
    try:
        pid, load_before = node.process.pid, load()
        cpu_before = cpu_seconds(pid)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "peer", "import", str(folder), "--json"],
            env={**os.environ, "OPENPRIORS_DATA": str(node.data)},
            check=True,
            capture_output=True,
        )
        seconds = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        summary = json.loads(done.stdout)
        assert summary["accepted"] == count, summary
        return Run(
            seconds, copy_s, cpu_seconds(pid) - cpu_before,
            _cpu(after) - _cpu(before),
            cpu_copy, peak_mb(pid), after.ru_maxrss * 1024 / MEGABYTE,
            commits(node), load_before,
        )  # fmt: skip
    finally:
        node.stop()
        shutil.rmtree(place)
        place.mkdir()


def commits(node):
    """Return how many times the node made a study's pack durable: each has one audit record."""
    lines = node.run("audit", "export").splitlines()
    return sum(json.loads(line)["action"] == "import" for line in lines)


def measure(name, folder, place, repeats, count):
    size = sum(path.stat().st_size for path in folder.rglob("*.dcm"))
    groups = one_import(place, folder, count, count // 64).groups  # To learn how many there are.
    runs = [one_import(place, folder, count, groups) for _ in range(repeats)]
    ratios = [run.copy_s / run.seconds for run in runs]
    rate = [count / run.seconds for run in runs]
    row(
        name, rate, "instances/s",
        against=round(statistics.median(count / run.copy_s for run in runs), 1),
        ratio=statistics.median(ratios), limit="raw copy, as many synchronisations",
        ratios=ratios, instances=count, megabytes=size / MEGABYTE,
        mb_per_s=[size / MEGABYTE / run.seconds for run in runs],
        copy_per_s=[count / run.copy_s for run in runs],
        groups=[run.groups for run in runs],
        cpu_node=[run.cpu_node for run in runs], cpu_command=[run.cpu_command for run in runs],
        cpu_copy=[run.cpu_copy for run in runs],
        load_before=[run.load_before for run in runs],
    )  # fmt: skip
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--share", type=float, default=1.0, help="of the instances, for a trial")
    parser.add_argument("--copy", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.copy:
        _copy(Path(options.copy[0]), Path(options.copy[1]), int(options.copy[2]))
        return
    runs = []
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        place = Path(folder, "place")
        place.mkdir()
        for name in options.cases:
            count, pixels = CASES[name]
            count = max(1, int(count * options.share))
            corpus.make(Path(folder, name), count, pixels)
            runs += measure(name, Path(folder, name), place, options.repeats, count)
            shutil.rmtree(Path(folder, name))
    row(
        "peak_memory_mb", [run.peak_node for run in runs], "MB", against=250,
        ratio=250 / max(run.peak_node for run in runs), limit="250 MB",
        command=[run.peak_command for run in runs],
    )  # fmt: skip


if __name__ == "__main__":
    main()
