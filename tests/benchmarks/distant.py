"""From the click to the first image of a study that is far away, and the rest goes on."""

from __future__ import annotations

import html
import json
import re
import statistics
import time

from peer.config import load as load_settings
from tests.benchmarks import corpus
from tests.benchmarks.machine import load, row
from tests.line import Line
from tests.processes import ISSUERS, NAMES, Node, free_ports, pair, wait_until

INSTANCES = 500
BITS_PER_S, DELAY_S = 100_000_000, 0.05
"""50 ms each way: a question and its answer take 100."""
MOST_S = 2.0
STUDY = "2.999.7.0"


def first_image(options, folder):
    """Measure it: a CT of 500 instances over a line of 100 Mbit/s."""
    count = options.distant
    files = folder / "distant-files"
    size = corpus.make(files, count, corpus.CT_PIXELS, count)
    origin, reader, line = _couple(folder)
    images, pages, wholes, loads = [], [], [], []
    try:
        outcome = json.loads(origin.run("import", str(files), "--json"))
        assert outcome["accepted"] == count, outcome
        origin.run("consent", "grant", f"{origin.issuer}/B000000")
        question = {"name": "Müller0^Jürgen", "birth_date": "19500417"}
        wait_until(
            lambda: len(reader.post("/search", question)["results"]) == 1,
            "the study is not found",
            more=reader.log_lines,
        )
        for number in range(options.repeats):
            loads.append(load())
            page, image, whole = _once(origin, reader)
            pages.append(page)
            images.append(image)
            wholes.append(whole)
            assert line.bytes > (number + 1) * size, "the study did not come over the line"
    finally:
        for node in (origin, reader):
            node.kill()
        line.close()
    row(
        "first_image_seconds", images, "s", against=MOST_S,
        ratio=MOST_S / statistics.median(images),
        limit="2 s; 100 Mbit/s and 50 ms each way, from the click to the rendered image",
        page=pages, whole_study=wholes, instances=count, megabytes=size / 1e6, load_before=loads,
    )  # fmt: skip


def _once(origin, reader):
    """Return the seconds to the page of the study, to its first image, and to its end."""
    began = time.monotonic()
    asked = {"peer_id": origin.peer_id, "study_instance_uid": STUDY}
    started = reader.post("/retrievals", asked)
    page = reader.content(f"/studies/{STUDY}", "text/html").decode()
    shown = time.monotonic() - began
    series = re.search(r'data-series="([^"]+)"', page)[1]
    (instance, _), *_ = json.loads(html.unescape(re.search(r'data-images="([^"]+)"', page)[1]))
    picture = reader.content(
        f"/dicom-web/studies/{STUDY}/series/{series}/instances/{instance}/frames/1/rendered",
        "image/jpeg",
    )
    image = time.monotonic() - began
    assert picture.startswith(b"\xff\xd8"), "no picture came"
    assert reader.get(f"/retrievals/{started['retrieval_id']}")["state"] == "fetching", (
        "all of it was here before its first image"
    )
    text = reader.content(
        f"/api/v1/retrievals/{started['retrieval_id']}/events", "text/event-stream"
    )
    *_, last = text.decode().rstrip().split("\n\n")
    ended = json.loads(last.removeprefix("data: "))
    whole = time.monotonic() - began
    assert ended["state"] == "complete", ended
    status, answer = reader.api("DELETE", f"/studies/{STUDY}", {})
    assert status == 200, answer
    return shown, image, whole


def _couple(folder):
    """Return two partners with nothing but the line between them."""
    nodes = []
    for number in range(2):
        place = folder / f"distant-{number}"
        place.mkdir()
        node = Node(NAMES[number], place / "data", place / "root.key", ISSUERS[number])
        node.init()
        nodes.append(node)
    # Their key records name these ports; the nodes themselves listen behind the line.
    named = [load_settings(node.data).federation.port for node in nodes]
    behind = free_ports(2)
    line = Line(dict(zip(named, behind, strict=True)), BITS_PER_S, DELAY_S)
    for node, port in zip(nodes, behind, strict=True):
        node.start(OPENPRIORS_FEDERATION__PORT=str(port))
    pair(*nodes)
    return (*nodes, line)
