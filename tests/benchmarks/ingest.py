"""`make bench-ingest`: instances into a node, durable and encrypted, by every door.

Each result is one line of JSON.  The node is a process made by `openpriors init`.

*From a folder*: what `openpriors import FOLDER` does is timed from the first look at the folder to
the summary, when every instance is durable and every study settled, signed and published; how long
a Python process takes to start is not in it.  Against it, in turns, goes a plain copy of the same
files in one process: each read whole and appended to one file a study, with as many
synchronisations as the node made; nothing is looked at, hashed, encrypted or recorded.

*By STOW-RS and C-STORE*: the same files from the same senders to our node and to other receivers
that are installed, in turns, each started empty.  Timed from the first byte to the last answer.
Orthanc (tuned), dcmtk's storescp and the receiver made with pynetdicom answer before anything is on
the disk; our node answers when it is durable.
"""

from __future__ import annotations

import argparse
import asyncio
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
from tests.benchmarks.machine import (
    MEGABYTE,
    cpu_seconds,
    cpu_seconds_of_all,
    load,
    peak_mb,
    row,
)
from tests.benchmarks.receivers import RECEIVERS, missing
from tests.benchmarks.senders import SENDERS
from tests.processes import ISSUERS, NAMES, Node

CASES = {
    "ct_folder": (2000, corpus.CT_PIXELS),
    "tiny_folder": (8000, corpus.SMALL_PIXELS),
}
"""Instances, and rows and columns of each."""
DOORS = {
    "ct_stow_1": ("stow", 1), "ct_stow_4": ("stow", 4),
    "ct_cstore_1": ("cstore", 1), "ct_cstore_4": ("cstore", 4),
}  # fmt: skip
"""How, and by how many connections or associations."""
SENT = (1200, corpus.CT_PIXELS)
SMALLEST = 16
AGAINST = {"stow": ("orthanc",), "cstore": ("pynetdicom", "orthanc", "storescp")}
"""The first is what the ratio is to."""
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
    groups: int
    load_before: float


def copy(folder, target, groups):
    """Copy all files below `folder`, synchronised `groups` times; return seconds, CPU seconds.

    In a process of its own, so that what it uses is its own.
    """
    subprocess.run(
        [sys.executable, "-m", __spec__.name, "--copy", str(folder), str(target), str(groups)],
        check=True,
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
        command = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--import", str(node.data), str(folder)],
            check=True,
            stdout=subprocess.PIPE,
        )
        taken = json.loads(command.stdout)
        assert taken["accepted"] == count, taken
        return Run(
            taken["seconds"], copy_s, cpu_seconds(pid) - cpu_before, taken["cpu"],
            cpu_copy, peak_mb(pid), commits(node), load_before,
        )  # fmt: skip
    finally:
        node.stop()
        _emptied(place)


def _import(data, folder):
    """Do what the command does, and say what it took."""
    from peer.cli.client import Client
    from peer.cli.import_ import import_paths

    async def conversation():
        async with Client.open(data) as client:
            return await import_paths(client, [folder], quiet=True)

    before, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    summary = asyncio.run(conversation())
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    told = {"seconds": seconds, "cpu": _cpu(after) - _cpu(before)}
    sys.stdout.write(json.dumps(told | summary.as_json()))


def _emptied(place):
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


@dataclass(frozen=True)
class Sent:
    """One sending to one receiver."""

    seconds: float
    cpu: float
    peak: float


def one_sending(place, receiver, method, folder, connections):
    with RECEIVERS[receiver](place) as running:
        before = cpu_seconds_of_all(running.pid)
        seconds = SENDERS[method](running, folder, connections)
        sent = Sent(seconds, cpu_seconds_of_all(running.pid) - before, peak_mb(running.pid))
    _emptied(place)
    return sent


def measure_sending(name, folder, place, repeats, count):
    """Send to our node and to the others, in turns; return the runs of our node."""
    method, connections = DOORS[name]
    others = AGAINST[method]
    absent = {each: why for each in others if (why := missing(each))}
    for why in absent.values():
        sys.stderr.write(f"{name}: left out, {why}\n")
    receivers = ["node", *(each for each in others if each not in absent)]
    runs = {each: [] for each in receivers}
    for _ in range(repeats):
        for each in receivers:
            runs[each].append(one_sending(place, each, method, folder, connections))
    rates = {each: [count / run.seconds for run in made] for each, made in runs.items()}
    first = others[0]
    ratios = [ours / its for ours, its in zip(rates["node"], rates.get(first, ()), strict=False)]
    row(
        name, rates["node"], "instances/s",
        against=round(statistics.median(rates[first]), 1) if first in rates else None,
        ratio=statistics.median(ratios) if ratios else None, limit=first, ratios=ratios,
        connections=connections, instances=count, missing=list(absent.values()),
        others={each: _spread(rate) for each, rate in rates.items() if each != "node"},
        cpu_ms_an_instance={
            each: round(1000 * statistics.median(run.cpu for run in made) / count, 2)
            for each, made in runs.items()
        },
        peak_mb={each: round(max(run.peak for run in made)) for each, made in runs.items()},
    )  # fmt: skip
    return runs["node"]


def _spread(values):
    return [round(each, 1) for each in (statistics.median(values), min(values), max(values))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", nargs="*", choices=[*CASES, *DOORS], default=[*CASES, *DOORS])
    parser.add_argument("--share", type=float, default=1.0, help="of the instances, for a trial")
    parser.add_argument("--copy", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--import", nargs=2, dest="importing", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.copy:
        _copy(Path(options.copy[0]), Path(options.copy[1]), int(options.copy[2]))
        return
    if options.importing:
        _import(*map(Path, options.importing))
        return
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as made:
        place = Path(made, "place")
        place.mkdir()
        for name in options.cases:
            count, pixels = CASES.get(name, SENT)
            count = max(4 * SMALLEST, int(count * options.share))
            folder = Path(made, name)
            corpus.make(folder, count, pixels, count // 4 if name in DOORS else corpus.PER_STUDY)
            if name in CASES:
                runs = measure(name, folder, place, options.repeats, count)
                peaks[name] = max(run.peak_node for run in runs)
            else:
                runs = measure_sending(name, folder, place, options.repeats, count)
                peaks[name] = max(run.peak for run in runs)
            shutil.rmtree(folder)
    highest = max(peaks.values())
    row(
        "peak_memory_mb", [*peaks.values()], "MB", against=250, ratio=250 / highest,
        limit="250 MB", by_case=peaks,
    )  # fmt: skip


if __name__ == "__main__":
    main()
