"""`make bench-transfer`: studies between nodes and to viewers, beside nginx, Orthanc, a plain copy.

Each result is one line of JSON.  Both nodes are processes made by `openpriors init`, paired and
asked as people do it.  What is compared is measured in turns, in the same run, and starts from
disks that have nothing left to write.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from peer.config import load as load_settings
from peer.keys import load as load_keys
from protocol.manifest import CHUNK_BYTES
from tests.benchmarks import corpus, distant, outside
from tests.benchmarks.machine import MEGABYTE, cpu_seconds, load, peak_mb, row
from tests.processes import ISSUERS, NAMES, Node, free_ports, pair, wait_until

PARTS = ("first", "serve", "between", "wado")
STUDIES, INSTANCES = 4, 300
"""As the studies of `ct` that the other servers were measured with: 158 MB each."""
UNHURRIED = {"OPENPRIORS_LINK__RANGE_BYTES_PER_S": str(100_000 * 2**20)}
"""The budget of a partner is a line of 1 Gbit/s; loopback is faster."""
MOST_MB = 250
DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
JSON = "application/dicom+json"


@dataclass(frozen=True)
class Run:
    """One thing that was timed: seconds, and CPU seconds of each side."""

    seconds: float
    cpu: tuple[float, ...]
    load_before: float


def timed(work, *sides):
    """Do something on a disk that is at rest; `sides` tell their CPU seconds when called."""
    os.sync()
    load_before, before = load(), [side() for side in sides]
    began = time.monotonic()
    work()
    seconds = time.monotonic() - began
    spent = tuple(side() - was for side, was in zip(sides, before, strict=True))
    return Run(seconds, spent, load_before)


def cpu_of(node):
    return lambda: cpu_seconds(node.process.pid)


# -- two facilities that share ---------------------------------------------------------------------


@dataclass(frozen=True)
class Couple:
    """The facility that has the studies, and the one that fetches them."""

    origin: Node
    reader: Node
    studies: tuple[str, ...]
    size: int
    """Bytes of one study as files."""

    def retrieve(self, *studies):
        """Fetch studies, all at once, and wait until each is verified and kept."""
        peer_id = self.origin.peer_id
        started = [
            self.reader.post("/retrievals", {"peer_id": peer_id, "study_instance_uid": study})
            for study in studies
        ]
        ended = [follow(self.reader, each["retrieval_id"]) for each in started]
        assert all(each["state"] == "complete" for each in ended), ended
        return ended

    def forget(self):
        """Let the reader destroy what it has fetched."""
        for study in self.reader.get("/studies")["studies"]:
            status, answer = self.reader.api(
                "DELETE", f"/studies/{study['study_instance_uid']}", {}
            )
            assert status == 200, answer


def follow(node, retrieval_id):
    """Return a retrieval as it is at its end; the node tells of it at once."""
    text = node.content(f"/api/v1/retrievals/{retrieval_id}/events", "text/event-stream")
    *_, last = text.decode().rstrip().split("\n\n")
    return json.loads(last.removeprefix("data: "))


def couple(folder, files, count, size):
    """Return two partners; one holds `files`, and the other has found all of it."""
    nodes = []
    for number in range(2):
        place = folder / f"node-{number}"
        place.mkdir()
        node = Node(NAMES[number], place / "data", place / "root.key", ISSUERS[number])
        node.init()
        node.start(**UNHURRIED)
        nodes.append(node)
    origin, reader = nodes
    pair(origin, reader)
    outcome = json.loads(origin.run("import", str(files), "--json"))
    assert outcome["accepted"] == count * STUDIES, outcome
    studies = tuple(f"2.999.7.{number}" for number in range(STUDIES))
    for patient in range(STUDIES // 2):
        origin.run("consent", "grant", f"{origin.issuer}/B{patient:06d}")
    question = {"name": "Müller0^Jürgen", "birth_date": "19500417"}
    wait_until(
        lambda: len(reader.post("/search", question)["results"]) == STUDIES,
        "the studies are not found",
        more=reader.log_lines,
    )
    return Couple(origin, reader, studies, size // STUDIES)


# -- serving ---------------------------------------------------------------------------------------


def serve(options, folder, pairing):
    """Measure the ciphertext of a study over mutual TLS, and the same file from nginx."""
    ended = pairing.retrieve(pairing.studies[0])
    grant = ended[0]["receipt"]["grant_id"]
    packs = sorted((pairing.origin.data / "store" / "packs").iterdir())
    held = {path.name for path in (pairing.reader.data / "store" / "packs").iterdir()}
    pack = max((path for path in packs if path.name in held), key=lambda path: path.stat().st_size)
    size = pack.stat().st_size
    own, trusted = _pins(folder, pairing)
    (port,) = free_ports(1)
    front = outside.nginx(
        folder / "nginx",
        port,
        f"ssl_certificate {folder}/origin.pem; ssl_certificate_key {folder}/origin.pem;\n"
        f"ssl_client_certificate {folder}/reader.crt; ssl_verify_client on;\n"
        f"root {pack.parent};",
    )
    ours = int(pairing.origin.federation_url.rpartition(":")[2])
    addresses = {"node": (ours, f"/v1/packs/{grant}/{pack.name}"), "nginx": (port, f"/{pack.name}")}
    cpu = {"node": cpu_of(pairing.origin), "nginx": lambda: front.cpu}
    rate = {"node": [], "nginx": []}
    spent = {"node": [], "nginx": []}
    loads = []
    try:
        for number in range(options.repeats + 1):
            loads.append(load())
            for name, (at, path) in addresses.items():
                before = cpu[name]()
                seconds, _ = outside.in_a_process("drain", at, path, 0, size - 1, trusted, own)
                if number:  # The first run warms the page cache.
                    rate[name].append(size / seconds / MEGABYTE)
                    spent[name].append((cpu[name]() - before) / size * 1e9)
    finally:
        front.stop()
    row(
        "serve_tls", rate["node"], "MB/s", against=statistics.median(rate["nginx"]),
        ratio=statistics.median(a / b for a, b in zip(rate["node"], rate["nginx"], strict=True)),
        limit="nginx, the same file over mutual TLS 1.3, the same client",
        nginx=rate["nginx"], cpu_per_gb=spent["node"], nginx_cpu_per_gb=spent["nginx"],
        megabytes=size / MEGABYTE, load_before=loads,
    )  # fmt: skip
    pairing.forget()


def _pins(folder, pairing):
    """Write what both servers and their client show and trust; return the client's two files."""
    import ssl

    origin, reader = (
        load_keys(node.data, load_settings(node.data)) for node in (pairing.origin, pairing.reader)
    )
    for name, keys in (("origin", origin), ("reader", reader)):
        certificate = ssl.DER_cert_to_PEM_cert(keys.tls_certificate_der)
        (folder / f"{name}.pem").write_bytes(keys.tls_key + certificate.encode())
        (folder / f"{name}.crt").write_text(certificate)
    (folder / "origin.der").write_bytes(origin.tls_certificate_der)
    return folder / "reader.pem", folder / "origin.der"


# -- between nodes ---------------------------------------------------------------------------------


def orthancs(folder, files):
    """Return two Orthancs, the first of which holds `files` and knows the second; and the ids."""
    outside.certificate(folder)
    second = outside.Orthanc(folder / "orthanc-b", folder)
    first = outside.Orthanc(folder / "orthanc-a", folder, {"B": second.url})
    for path in sorted(files.rglob("*.dcm")):
        first.ask("POST", "/instances", path.read_bytes())
    return first, second, sorted(first.ask("GET", "/studies"))


def between(options, folder, pairing, rivals):
    """Measure studies from node to node, beside a plain copy and two Orthancs."""
    sides = cpu_of(pairing.origin), cpu_of(pairing.reader)
    one = _one_file(folder, pairing)
    found = {
        name: [] for name in ("one", "four", "again", "their_one", "their_four", "their_again")
    }
    plain, synced, plain_cpu = [], [], []
    for _ in range(options.repeats):
        os.sync()
        (seconds, with_sync), cpu = outside.in_a_process("plain_copy", one, folder / "copy")
        plain.append(seconds)
        synced.append(with_sync)
        plain_cpu.append(cpu)
        found["one"].append(timed(lambda: pairing.retrieve(pairing.studies[0]), *sides))
        found["again"].append(timed(lambda: pairing.retrieve(pairing.studies[0]), *sides))
        pairing.forget()
        found["four"].append(timed(lambda: pairing.retrieve(*pairing.studies), *sides))
        pairing.forget()
        if rivals is not None:
            _their_turn(rivals, found)
    one.unlink()
    _report_between(pairing, found, plain, synced, plain_cpu)


def _one_file(folder, pairing):
    """Return a file with as many bytes as the ciphertext of a study."""
    packs = (pairing.origin.data / "store" / "packs").iterdir()
    total = sum(path.stat().st_size for path in packs) // STUDIES
    made = folder / "ciphertext"
    with made.open("wb") as out:
        for _ in range(0, total, CHUNK_BYTES):
            out.write(os.urandom(CHUNK_BYTES))
        out.truncate(total)
    return made


def _their_turn(rivals, found):
    first, second, ids = rivals
    sides = (lambda: first.cpu), (lambda: second.cpu)

    def send(*studies):
        first.send("B", studies)
        held = second.ask("GET", "/statistics")["CountStudies"]
        assert held == len(studies), f"Orthanc has {held} studies of {len(studies)}"

    def clear():
        for each in second.ask("GET", "/studies"):
            second.ask("DELETE", f"/studies/{each}")

    found["their_one"].append(timed(lambda: send(ids[0]), *sides))
    found["their_again"].append(timed(lambda: send(ids[0]), *sides))
    clear()
    found["their_four"].append(timed(lambda: send(*ids), *sides))
    clear()


def _report_between(pairing, found, plain, synced, plain_cpu):
    def rates(name, studies):
        return [studies * pairing.size / run.seconds / MEGABYTE for run in found[name]]

    def cpu(name):
        return {
            "cpu_origin": [run.cpu[0] for run in found[name]],
            "cpu_reader": [run.cpu[1] for run in found[name]],
            "load_before": [run.load_before for run in found[name]],
        }

    copied = [pairing.size / seconds / MEGABYTE for seconds in plain]
    ratios = [was / run.seconds for was, run in zip(plain, found["one"], strict=True)]
    row(
        "node_to_node", rates("one", 1), "MB/s", against=round(statistics.median(copied), 1),
        ratio=statistics.median(ratios),
        limit="sendfile, receive, write; nothing verified or synchronised",
        ratios=ratios, copy=copied, cpu_copy=plain_cpu,
        copy_synchronised=[pairing.size / seconds / MEGABYTE for seconds in synced],
        seconds=[run.seconds for run in found["one"]], megabytes=pairing.size / MEGABYTE,
        **cpu("one"),
    )  # fmt: skip
    for name, ours, theirs, studies in (
        ("node_to_node_orthanc", "one", "their_one", 1),
        ("node_to_node_orthanc_4", "four", "their_four", STUDIES),
    ):
        if not found[theirs]:
            continue
        ratios = [b.seconds / a.seconds for a, b in zip(found[ours], found[theirs], strict=True)]
        row(
            name, rates(ours, studies), "MB/s",
            against=round(statistics.median(rates(theirs, studies)), 1),
            ratio=statistics.median(ratios), ratios=ratios,
            limit="Orthanc's peers over TLS, tuned, as many studies at once",
            orthanc=rates(theirs, studies),
            cpu_orthanc=[sum(run.cpu) for run in found[theirs]], **cpu(ours),
        )  # fmt: skip
    again = [run.seconds for run in found["again"]]
    row(
        "held_already_seconds", again, "s", against=0.1, ratio=0.1 / statistics.median(again),
        limit="0.1 s", orthanc=[run.seconds for run in found["their_again"]],
        **cpu("again"),
    )  # fmt: skip


# -- to viewers ------------------------------------------------------------------------------------


def wado(options, pairing, rivals):
    """Measure WADO-RS of studies that are held here: whole, an instance a request, metadata."""
    token = pairing.origin.token()
    study = pairing.studies[0]
    listed = json.loads(
        pairing.origin.content(f"/dicom-web/studies/{study}/instances?limit=10000", JSON)
    )
    instances = [
        f"/dicom-web/studies/{study}/series/{each['0020000E']['Value'][0]}"
        f"/instances/{each['00080018']['Value'][0]}"
        for each in listed
    ]
    asked = {
        "wado_local": (DICOM, [f"/dicom-web/studies/{study}"]),
        "wado_local_instance": (DICOM, instances),
        "wado_local_metadata": (JSON, [f"/dicom-web/studies/{study}/metadata"]),
    }
    port = int(pairing.origin.local_url.rpartition(":")[2])
    for name, (accept, paths) in asked.items():
        ours, theirs, firsts = [], [], []
        for _ in range(options.repeats):
            before = load()
            was = cpu_seconds(pairing.origin.process.pid)
            (seconds, size, first), _ = outside.in_a_process("wado", port, token, accept, *paths)
            spent = cpu_seconds(pairing.origin.process.pid) - was
            ours.append((seconds, size, spent, before))
            firsts.append(first)
            if rivals is not None:
                was = rivals[0].cpu
                (seconds, size, _), _ = outside.in_a_process(
                    "wado", rivals[0].http, "-", accept, *paths
                )
                theirs.append((seconds, size, rivals[0].cpu - was))
        seconds = [each[0] for each in ours]
        against = statistics.median(each[0] for each in theirs) if theirs else None
        row(
            name, seconds, "s a study", against=against,
            ratio=against / statistics.median(seconds) if against else None,
            limit="Orthanc, tuned, the same study",
            mb_per_s=[each[1] / each[0] / MEGABYTE for each in ours],
            orthanc=[each[0] for each in theirs], first_byte_s=firsts,
            cpu_node=[each[2] for each in ours], cpu_orthanc=[each[2] for each in theirs],
            load_before=[each[3] for each in ours],
        )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--instances", type=int, default=INSTANCES, help="of a study, for a trial")
    parser.add_argument("--no-orthanc", action="store_true", help="measure ours alone")
    parser.add_argument("--distant", type=int, default=distant.INSTANCES, help="as --instances")
    options = parser.parse_args()
    missing = outside.missing()
    for sentence in missing:
        sys.stderr.write(f"{sentence}\n")
    with tempfile.TemporaryDirectory(prefix="bench-transfer-") as name:
        folder, files = Path(name), Path(name, "files")
        if "first" in options.parts:
            distant.first_image(options, folder)
        if options.parts == ["first"]:
            return
        size = corpus.make(files, STUDIES * options.instances, corpus.CT_PIXELS, options.instances)
        pairing = couple(folder, files, options.instances, size)
        rivals = None
        try:
            if not missing and not options.no_orthanc and {"between", "wado"} & {*options.parts}:
                rivals = orthancs(folder, files)
            if "serve" in options.parts and not outside.missing():
                serve(options, folder, pairing)
            if "between" in options.parts:
                between(options, folder, pairing, rivals)
            if "wado" in options.parts:
                wado(options, pairing, rivals)
            peaks = [peak_mb(node.process.pid) for node in (pairing.origin, pairing.reader)]
            row(
                "peak_memory_mb", [max(peaks)], "MB", against=MOST_MB,
                ratio=MOST_MB / max(peaks), limit="250 MB", of="transfer",
                origin=peaks[0], reader=peaks[1],
            )  # fmt: skip
        finally:
            for each in () if rivals is None else rivals[:2]:
                each.stop()
            for node in (pairing.origin, pairing.reader):
                node.kill()


if __name__ == "__main__":
    main()
