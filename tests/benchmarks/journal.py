"""`make bench-journal`: what following a partner's journal costs, between two real nodes.

Each result is one line of JSON.  Both nodes are processes made by `openpriors init` and paired as
operators pair them; the origin's archive is written into its journal before it starts.  Nothing is
measured from inside a node: time by what its database holds, bytes by what the kernel counted.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from operator import truediv
from pathlib import Path

from tests.benchmarks import archive, convergence, limits
from tests.benchmarks.machine import Wire, cpu_seconds, load, peak_mb, row
from tests.processes import ISSUERS, NAMES, Node, wait_until

PARTS = ("converge", "absorb", "idle", "catch-up")
POLL_S = 0.05
SETTLE_S = 20
"""After a link came up, before it counts as idle."""
LAST_WORDS_S = 1
"""After all is there, for the HAVE that says so."""
HOUR_S = 3600
LONGEST_S = 3600
CATCH_UP = (0, 1, 100, 10_000)
"""Missing entries.  With none, the bytes are those of a new link that has nothing to fetch."""
FORMULA_HEAD, FORMULA_BATCH, FORMULA_HEADER = 40, 256, 250
"""One origin's head in a HAVE, entries of a batch, and a header's bytes, as the design reckons."""
FIXED_FIELDS = 8 + 16 + 1 + 16
"""Bytes of an entry beside its body: seq, entry id, kind and salt."""


def new_node(folder, number):
    place = folder / f"node-{number}"
    place.mkdir()
    node = Node(NAMES[number % 3], place / "data", place / "root.key", ISSUERS[number % 3])
    node.init()
    return node


def wire_of(*nodes):
    return Wire(*(int(node.federation_url.rpartition(":")[2]) for node in nodes))


def head_in(node):
    """Return the newest batch number that a node holds of its one partner, -1 at first."""
    with closing(sqlite3.connect(f"file:{node.data}/partners.db?mode=ro", uri=True)) as tx:
        return tx.execute("SELECT coalesce(max(batch), -1) FROM journal_batches").fetchone()[0]


# -- absorbing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Absorbed:
    """What one run of absorbing an archive took."""

    seconds: float
    first_s: float
    cpu_reader: float
    cpu_origin: float
    peak_reader: float
    peak_origin: float
    wire: int
    load_before: float


def pair_and_absorb(origin, reader, last_batch):
    """Pair two running nodes; return what it took until `reader` holds all of the journal."""
    invitation = origin.post("/invitations")["invitation"]
    reader.post("/pairings", {"invitation": invitation})
    origin.post(f"/partners/{reader.peer_id}/confirm")
    pids = reader.process.pid, origin.process.pid
    before, load_before = [cpu_seconds(pid) for pid in pids], load()
    wire, began = wire_of(origin, reader), time.monotonic()
    reader.post(f"/partners/{origin.peer_id}/confirm")
    first = follow(reader, last_batch, wire)
    ended = time.monotonic()
    spent = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
    return Absorbed(
        ended - began, first - began, *spent, *map(peak_mb, pids), wire.sample(), load_before
    )


def follow(reader, last_batch, wire):
    """Wait until `reader` holds `last_batch`; return when the first batch was there."""
    began = sampled = time.monotonic()
    first = None
    while (held := head_in(reader)) < last_batch:
        now = time.monotonic()
        assert now - began < LONGEST_S, reader.log_lines()
        if first is None and held >= 0:
            first = now
        if now - sampled > 1:
            wire.sample()
            sampled = now
        time.sleep(POLL_S)
    return first or time.monotonic()


def absorb(options, folder, origin, written):
    """Measure a fresh node that follows the whole archive; return the last one, stopped."""
    last = archive.head(origin.data).batch
    runs, plain, tls = [], [], []
    for number in range(1, options.repeats + 1):
        origin.start()
        reader = new_node(folder, number)
        reader.start()
        runs.append(pair_and_absorb(origin, reader, last))
        reader.stop()
        origin.stop()
        sys.stderr.write(f"{runs[-1]}\n")  # A long run that is cut short has not been in vain.
        held = reader.data / "partners.db"
        plain.append(limits.plain_rows_seconds(held, folder))
        tls.append(runs[-1].wire / limits.tls_bytes_per_second(origin.data, runs[-1].wire))
        if number < options.repeats:
            shutil.rmtree(reader.data.parent)
    report(written, runs, plain, tls, held)
    return reader


def report(written, runs, plain, tls, held):
    with closing(sqlite3.connect(f"file:{held}?mode=ro", uri=True)) as tx:
        headers, batches = tx.execute(
            "SELECT sum(length(header) + length(signature)), count(*) FROM journal_batches"
        ).fetchone()
        entries = tx.execute("SELECT count(*) FROM journal_entries").fetchone()[0]
    about = {
        "studies": written.studies, "patients": written.patients, "batches": batches,
        "load_before": [run.load_before for run in runs],
    }  # fmt: skip
    seconds, limit = [run.seconds for run in runs], statistics.median(plain)
    row(
        "absorb_1m_seconds", seconds, "s", against=round(limit, 2),
        ratio=statistics.median(seconds) / limit, limit="plain SQLite, the same rows",
        plain_sqlite=plain, tls_socket=tls, first_batch=[run.first_s for run in runs],
        database_mb=held.stat().st_size / 1e6, **about,
    )  # fmt: skip
    cpu = [run.cpu_reader + run.cpu_origin for run in runs]
    million = 1_000_000 / written.studies
    row(
        "absorb_1m_cpu_seconds", [each * million for each in cpu], "CPU s a million studies",
        reader=[run.cpu_reader * million for run in runs],
        origin=[run.cpu_origin * million for run in runs], **about,
    )  # fmt: skip
    row(
        "absorb_peak_mb", [run.peak_reader for run in runs], "MB", against=300,
        ratio=max(run.peak_reader for run in runs) / 300, limit="300 MB",
        origin=[run.peak_origin for run in runs], **about,
    )  # fmt: skip
    own = written.body_bytes + entries * FIXED_FIELDS + headers
    row(
        "wire_overhead", [run.wire / own - 1 for run in runs], "of the entries and headers",
        against=own, ratio=statistics.median(run.wire for run in runs) / own,
        limit="bodies, entries' other fields, signed headers", body_bytes=written.body_bytes,
        entries=entries, header_bytes=headers, wire_bytes=[run.wire for run in runs], **about,
    )  # fmt: skip


# -- afterwards -----------------------------------------------------------------------------------


def idle(options, origin, reader):
    """Measure what two nodes say that have nothing to say."""
    origin.start()
    reader.start()
    wait_until(lambda: reader.partner(origin)["connected"], "no link", more=reader.log_lines)
    time.sleep(SETTLE_S)
    wire, found = wire_of(origin, reader), []
    for _ in range(options.idle_repeats):
        began, before = time.monotonic(), wire.sample()
        time.sleep(options.idle_seconds)
        after, spent = wire.sample(), time.monotonic() - began
        found.append((after - before) * HOUR_S / spent)
    row(
        "idle_bytes_per_hour", found, "B/h a partner, both directions", against=10_000,
        ratio=statistics.median(found) / 10_000, limit="10 kB",
        window_s=options.idle_seconds, without="the signed head of every 6 h",
    )  # fmt: skip
    reader.stop()
    origin.stop()


def catch_up(options, origin, reader):
    """Measure what it takes to fetch d entries that were published while the link was down."""
    tap = reader.data.with_name("tap")
    reader.module = "tests.benchmarks.tapped"
    for count in CATCH_UP:
        found, wants, formulas = [], [], []
        for repeat in range(options.repeats):
            size = archive.append_studies(origin.data, count, seed=count * 100 + repeat)
            size += count * FIXED_FIELDS
            formulas.append(FORMULA_HEAD + size + -(-count // FORMULA_BATCH) * FORMULA_HEADER)
            last = archive.head(origin.data).batch
            tap.write_text("")
            origin.start()
            reader.start(TAP=str(tap))
            wire = wire_of(origin, reader)
            follow(reader, last, wire)
            wait_until(lambda: tap.read_text().endswith("have\n"), "nothing was acknowledged")
            time.sleep(LAST_WORDS_S)
            found.append(wire.sample())
            wants.append(tap.read_text().split().count("want"))
            reader.stop()
            origin.stop()
        row(
            "catch_up_bytes", found, "B, TLS and hello included",
            against=statistics.median(formulas),
            ratio=statistics.median(map(truediv, found, formulas)),
            limit="40 + d*s + ceil(d/256)*250", missing=count, formula=formulas, wants=wants,
        )  # fmt: skip


# -- the command ----------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000, help="studies of the archive")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--idle-seconds", type=int, default=300, help="length of a window")
    parser.add_argument("--idle-repeats", type=int, default=3)
    parser.add_argument("--facilities", type=int, default=100)
    parser.add_argument("--folder", help="where the nodes live; by default a temporary folder")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="which of them, with commas between"
    )
    options = parser.parse_args()
    wanted = options.parts.split(",")
    if "converge" in wanted:
        convergence.measure(options.facilities, options.repeats)
    if {"absorb", "idle", "catch-up"} & set(wanted):
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            between_nodes(options, wanted, Path(name))


def between_nodes(options, wanted, folder):
    origin = new_node(folder, 0)
    written = archive.write(origin.data, options.entries)
    reader = absorb(options, folder, origin, written)
    if "idle" in wanted:
        idle(options, origin, reader)
    if "catch-up" in wanted:
        catch_up(options, origin, reader)


if __name__ == "__main__":
    main()
