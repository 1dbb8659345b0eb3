"""`make bench-search`: what a search takes, at the interface that the page uses.

One searching node in a process of its own, and as many origins as are asked for, together in
another process: whole nodes, paired as operators pair them, over loopback with mutual TLS.  Each
search is of another patient, whom one of the origins has published; the digests beside them are
random and stand in the searcher's database (`tests.benchmarks.filling`).  Before it, in the same
run, the same kind of question goes to twenty Orthancs.  Each result is one line of JSON, and what
is being done, and since when, goes to standard error.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import filling, orthancs, publishing
from tests.benchmarks.machine import Wire, cpu_seconds, load, peak_mb, row
from tests.dicom_samples import instance
from tests.processes import UNBOUNDED, Node, wait_until

PARTS = ("orthanc", "publishing", "guarded", "delegated")
STUDY_ROOT = "1.2.826.0.1.3680043.10.3"
DROP_UP_TO = 3
"""Searches before those that count as warm."""
COLD = 3
"""Starts of the node, each with its database out of the page cache, and one search after it."""
READY_S = 900
MISSING = """\
MISSING: fan_out_orthanc_20_p50_ms was not measured, because Orthanc is not installed here:
         apt-get install orthanc orthanc-dicomweb
"""
SEALED_PER_STUDY = 560
"""Bytes of sealed bodies for each study, with its share of the patient's: what must be stored."""
FAN_OUT = 20
"""Orthancs that are asked at once."""


# -- the federation -------------------------------------------------------------------------------


class Federation:
    """A searcher and its origins; each origin has published some patients of its own."""

    def __init__(self, folder, origins, patients):
        self.folder = folder
        self.origins = [
            self._node(folder / "origins" / f"{number:03d}", f"Origin {number}", number)
            for number in range(origins)
        ]
        self.searcher = self._node(folder / "searcher", "Searcher", 999)
        self.host = None
        self.patients = [(number % origins, number) for number in range(patients)]
        self.setup = {}

    @staticmethod
    def _node(place, name, number):
        place.mkdir(parents=True)
        node = Node(name, place / "data", place / "root.key", f"urn:oid:2.999.9.{number}")
        node.init()
        return node

    def __enter__(self):
        try:
            with self._timed("start"):
                self.start_origins()
                self.searcher.start()
            with self._timed("publish"):
                self._publish()
            with self._timed("pair"):
                for origin in self.origins:
                    self._pair(origin)
                for origin in self.origins:
                    wait_until(lambda each=origin: self._follows(each), "no journal came", READY_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.searcher.kill()
        if self.host is not None:
            self.host.terminate()
            self.host.wait(120)

    @contextmanager
    def _timed(self, what):
        """Note how long a part of the setup takes."""
        began = time.monotonic()
        yield
        self.setup[what] = time.monotonic() - began
        progress(f"{len(self.origins)} origins: {what} took {self.setup[what]:.1f} s")

    def start_origins(self):
        self.host = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.origins", str(self.folder / "origins")],
            stdout=subprocess.PIPE,
            stderr=(self.folder / "origins.log").open("ab"),
            env={**os.environ, **UNBOUNDED},
        )
        assert self.host.stdout.readline() == b"ready\n", (self.folder / "origins.log").read_text()
        for each in self.origins:
            each.addresses = json.loads((each.data / "run" / "addresses.json").read_text())

    def _publish(self):
        for place, number in self.patients:
            origin = self.origins[place]
            origin.store(
                instance(
                    number,
                    study=f"{STUDY_ROOT}.{number}",
                    pixels=b"\1\2\3\4",
                    StudyDate="20260102",
                    StudyDescription="CT chest",
                    PatientID=f"MRN-{number:06d}",
                    **{key: value for key, value in attributes(number).items() if key},
                )
            )
        for origin in self.origins:
            origin.post("/studies/settle")
        for place, number in self.patients:
            self.origins[place].post(
                "/consents",
                {
                    "patient": {
                        "issuer": self.origins[place].issuer,
                        "patient_id": f"MRN-{number:06d}",
                    },
                    "recipients": "all",
                    "purposes": ["TREAT"],
                    "grantor": "the patient",
                },
            )

    def _pair(self, origin):
        invitation = origin.post("/invitations")["invitation"]
        self.searcher.post("/pairings", {"invitation": invitation})
        origin.post(f"/partners/{self.searcher.peer_id}/confirm")
        self.searcher.post(f"/partners/{origin.peer_id}/confirm")

    def _follows(self, origin):
        mine = sum(self.origins[place] is origin for place, _ in self.patients)
        return self.searcher.partner(origin)["digests"] >= 2 * mine

    def delegate(self):
        """Have every origin hand its search keys to the searcher."""
        for origin in self.origins:
            origin.post(f"/partners/{self.searcher.peer_id}/mode", {"mode": "delegated"})
        for origin in self.origins:
            wait_until(
                lambda each=origin: (
                    self.searcher.partner(each)["search"]["mode_there"] == "delegated"
                ),
                "the keys did not come",
            )

    def fill(self, digests):
        """Put digests into the searcher's database, which is off meanwhile."""
        with self._timed("fill"):
            self.searcher.stop()
            filled = filling.fill(self.searcher.data / "partners.db", digests)
            self.searcher.start()
            self.wait_until_whole()
        return filled

    def wait_until_whole(self):
        """Wait until a search covers everybody."""
        asker = Asker(self.searcher)

        def all_answer():
            return not asker.ask(0)[1]["coverage"]["not_searched"]

        wait_until(all_answer, "not all answer", READY_S)

    @property
    def ports(self):
        """Ports on which links are accepted."""
        nodes = (*self.origins, self.searcher)
        return [urllib.parse.urlsplit(each.federation_url).port for each in nodes]


def attributes(number):
    """Return how a patient is written in DICOM: no two are alike in name and date."""
    return {
        "PatientName": f"{NAMES[number % len(NAMES)]}{SYLLABLES[number // 7 % len(SYLLABLES)]}"
        f"^{GIVEN[number % len(GIVEN)]}",
        "PatientBirthDate": f"{1930 + number % 80}{1 + number % 12:02d}{1 + number // 12 % 28:02d}",
        "PatientSex": "FM"[number % 2],
    }


NAMES = ("Huber", "Novak", "Lindqvist", "Marchetti", "Oyelaran", "Petrov", "Sandoval")
SYLLABLES = ("", "mann", "berg", "stein", "feld", "hof", "wald", "brunn", "dorf", "bach", "au")
GIVEN = ("Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene")


class Asker:
    """Asks as the page does: over HTTP, one connection, one search after the other."""

    def __init__(self, node):
        self._node = node
        url = urllib.parse.urlsplit(node.local_url)
        self._connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        self._headers = {
            "Authorization": f"Bearer {node.token('clinician', name=os.urandom(4).hex())}",
            "Content-Type": "application/json",
        }

    def ask(self, number):
        """Return (seconds, answer) of a search for a patient."""
        person = attributes(number)
        body = {
            "name": person["PatientName"],
            "birth_date": person["PatientBirthDate"],
            "sex": person["PatientSex"],
        }
        began = time.perf_counter()
        self._connection.request("POST", "/api/v1/search", json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        spent = time.perf_counter() - began
        assert answer.status == 200, content
        return spent, json.loads(content)


# -- measuring ------------------------------------------------------------------------------------


def percentile(values, share):
    """Return the value that `share` of `values` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def spread(seconds):
    """Return p50, p95 and p99 in milliseconds."""
    return {f"p{share}": percentile(seconds, share) * 1000 for share in (50, 95, 99)}


def warm(federation, searches):
    """Return seconds of each search, and what all of them together took of the machine."""
    asker = Asker(federation.searcher)
    for number in range(DROP_UP_TO):
        asker.ask(number)
    wire = Wire(*federation.ports)
    pids = federation.searcher.process.pid, federation.host.pid
    before, bytes_before = [cpu_seconds(pid) for pid in pids], wire.sample()
    seconds, missing = [], 0
    for number in range(searches):
        _, patient = federation.patients[(DROP_UP_TO + number) % len(federation.patients)]
        spent, answer = asker.ask(patient)
        found = {each["study_instance_uid"] for each in answer["results"]}
        assert not answer["coverage"]["not_searched"], answer["coverage"]["sentence"]
        missing += f"{STUDY_ROOT}.{patient}" not in found
        seconds.append(spent)
    assert not missing, f"{missing} of {searches} patients were not found"
    at_searcher, at_origins = (
        (cpu_seconds(pid) - was) / searches * 1000 for pid, was in zip(pids, before, strict=True)
    )
    return seconds, {
        "searcher_cpu_ms": at_searcher,
        "origin_cpu_ms": at_origins / len(federation.origins),
        "wire_bytes_per_origin": (wire.sample() - bytes_before)
        / searches
        / len(federation.origins),
        "searcher_peak_mb": peak_mb(pids[0]),
        "origins_peak_mb_each": peak_mb(pids[1]) / len(federation.origins),
    }


def is_linked(federation, origin):
    """Return whether the searcher has a link to an origin."""
    return federation.searcher.partner(origin)["connected"]


def cold(federation):
    """Return seconds of the first search after a start, the database out of the page cache."""
    found = []
    for number in range(COLD):
        federation.searcher.stop()
        for name in ("partners.db", "index.db"):
            descriptor = os.open(federation.searcher.data / name, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
        federation.searcher.start()
        for origin in federation.origins:
            wait_until(lambda each=origin: is_linked(federation, each), "no link", READY_S)
        found.append(Asker(federation.searcher).ask(number)[0])
    return found


@contextmanager
def federation_of(options, origins, digests, *, delegate=False):
    """Open a federation whose searcher holds `digests` digests beside those of its patients."""
    patients = max(min(options.searches + DROP_UP_TO, options.patients), origins)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as name,
        Federation(Path(name), origins, patients) as made,
    ):
        if delegate:
            made.delegate()
        yield made, made.fill(digests)


def progress(sentence):
    """Say what has been done, and how far the run is."""
    sys.stderr.write(f"{time.monotonic() - BEGAN:6.0f} s  {sentence}\n")


BEGAN = time.monotonic()


def searched(options, name, federation, filled, **detail):
    """Measure searches in a federation and print the row of each quantile."""
    runs = []
    for _ in range(options.repeats):
        before = load()
        seconds, spent = warm(federation, options.searches)
        runs.append((spread(seconds), spent | {"load_before": before}))
        progress(f"{name}: {runs[-1][0]}")
    first = {
        "origins": len(federation.origins),
        "digests": filled.studies,
        "labels": filled.labels,
        "searches": options.searches,
        "setup_s": federation.setup,
        "cold_ms": [each * 1000 for each in cold(federation)],
        **{key: [spent[key] for _, spent in runs] for key in runs[0][1]},
        **detail,
    }
    for share in (50, 95, 99):
        row(
            f"{name}_p{share}_ms", [quantiles[f"p{share}"] for quantiles, _ in runs], "ms",
            **beside(statistics.median(quantiles[f"p{share}"] for quantiles, _ in runs), share),
            **(first if share == 50 else {}),
        )  # fmt: skip


FANNED_OUT = {}
"""Milliseconds of a fan-out to Orthancs by quantile, if this run has measured it."""


def beside(value, share):
    """Return what a row says of the fan-out of the same run."""
    if share not in FANNED_OUT:
        return {}
    return {"against": FANNED_OUT[share], "ratio": value / FANNED_OUT[share]}


def guarded(options):
    for origins in options.origins:
        with federation_of(options, origins, options.digests) as (federation, filled):
            searched(options, f"search_{origins}_origins", federation, filled)
            if origins == options.origins[0]:
                size = filled.size / filled.studies
                row(
                    "bytes_per_study", [size], "B on the searcher's disk",
                    against=SEALED_PER_STUDY, ratio=size / SEALED_PER_STUDY,
                    studies=filled.studies,
                )  # fmt: skip


def delegated(options):
    with federation_of(options, 1, options.many_digests, delegate=True) as (federation, filled):
        name = "delegated_10m" if options.many_digests == 10_000_000 else "delegated"
        size = filled.size / filled.studies
        searched(options, name, federation, filled, disk_bytes_per_study=size)
        federation.host.terminate()
        federation.host.wait(120)
        _, answer = Asker(federation.searcher).ask(federation.patients[0][1])
        assert len(answer["results"]) == 1, "a delegated origin that is offline was not found"
        federation.host = None


def published(options):
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        runs = publishing.measure(Path(name), options.publish_patients, options.repeats)
    outputs = publishing.outputs_alone(options.publish_patients)
    median = statistics.median(each for each, _, _ in runs)
    row(
        "publish_patients_per_cpu_second",
        [each for each, _, _ in runs], "patients",
        against=outputs, ratio=median / outputs,
        patients=options.publish_patients,
        patients_per_second=[each for _, each, _ in runs],
        body_bytes_per_study=[each for *_, each in runs],
    )  # fmt: skip


def fan_out(options):
    if not orthancs.is_there():
        sys.stderr.write(MISSING)
        return
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as name,
        orthancs.many(Path(name) / "orthancs", FAN_OUT, options.orthanc_studies) as (
            urls,
            processes,
        ),
        ThreadPoolExecutor(FAN_OUT) as pool,
    ):
        setup = time.monotonic() - began
        progress(f"{FAN_OUT} Orthancs: filling and starting took {setup:.1f} s")
        places = [urllib.parse.urlsplit(url) for url in urls]
        connections = [http.client.HTTPConnection(p.hostname, p.port, timeout=60) for p in places]
        for kind, suffix in (("PatientID", ""), ("PatientName", "_by_name")):
            runs, cpu = [], []
            for _ in range(options.repeats):
                before = sum(cpu_seconds(each.pid) for each in processes)
                runs.append(spread(_fan_out(options, pool, connections, kind)))
                spent = sum(cpu_seconds(each.pid) for each in processes) - before
                cpu.append(spent / options.searches * 1000)
            for share in (50, 95, 99):
                values = [each[f"p{share}"] for each in runs]
                if kind == "PatientID":
                    FANNED_OUT[share] = statistics.median(values)
                row(
                    f"fan_out_orthanc_{FAN_OUT}{suffix}_p{share}_ms", values, "ms",
                    studies_each=options.orthanc_studies, cpu_ms_of_all=cpu, setup_s=setup,
                )  # fmt: skip


def _fan_out(options, pool, connections, kind):
    """Return the seconds that each question took until the last of the Orthancs had answered."""

    def one(connection, path):
        connection.request("GET", path, headers={"Accept": "application/dicom+json"})
        return json.loads(connection.getresponse().read() or "[]")

    seconds = []
    for number in range(options.searches):
        which = number * 37 % options.orthanc_studies
        value = orthancs.patient(which) if kind == "PatientID" else f"FAM{which:06d}*"
        path = f"/dicom-web/studies?{kind}={value}"
        began = time.perf_counter()
        answers = list(pool.map(one, connections, [path] * len(connections)))
        seconds.append(time.perf_counter() - began)
        assert all(len(each) == 1 for each in answers), answers
    return seconds


# -- the command ----------------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digests", type=int, default=1_000_000, help="of all guarded origins")
    parser.add_argument("--many-digests", type=int, default=10_000_000, help="of the delegated one")
    parser.add_argument("--origins", default="20", help="how many, with commas between: 1,20,100")
    parser.add_argument("--searches", type=int, default=100, help="of one run")
    parser.add_argument("--patients", type=int, default=103, help="who are published and asked for")
    parser.add_argument("--publish-patients", type=int, default=1000)
    parser.add_argument("--orthanc-studies", type=int, default=2000, help="in each Orthanc")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where the nodes live; by default a temporary folder")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, with commas between")
    options = parser.parse_args()
    options.origins = [int(each) for each in options.origins.split(",")]
    wanted = options.parts.split(",")
    work = {"guarded": guarded, "delegated": delegated, "publishing": published, "orthanc": fan_out}
    for part in PARTS:
        if part in wanted:
            work[part](options)
            progress(f"{part} is done")


if __name__ == "__main__":
    main()
