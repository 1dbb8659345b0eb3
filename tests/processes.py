"""Real nodes in real processes: each made by `openpriors init` and started by `openpriors run`."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from tests.dicom_samples import instance
from tests.forking import Forked

Found = TypeVar("Found")

START_TIMEOUT_S = 100
"""A node starts within two seconds; one that must give way to others was seen to need forty."""
STOP_TIMEOUT_S = 20
WAIT_S = 30
COMMAND_TIMEOUT_S = 100
POLL_S = 0.1
LOG_LINES_SHOWN = 30
FIRST_PORT, PORTS = 20_000, 12_000
_ports = itertools.count(os.getpid() * 5003)
"""Test processes that run at the same time begin at different places."""

UNBOUNDED = {
    "OPENPRIORS_SEARCH__PER_HOUR": "100000",
    "OPENPRIORS_AGREEMENT__DAILY_SEARCHES": "0",
}
"""Tests search again and again until something is found, as no person does."""

NAMES = ("Northgate General Hospital", "Lakeside Imaging Centre", "St. Brigid University Hospital")
ISSUERS = ("urn:oid:2.999.1.1", "urn:oid:2.999.1.2", "urn:oid:2.999.1.3")
"""2.999 is the arc that X.660 keeps for examples."""


class Process(Protocol):
    """Of `subprocess.Popen` what is used here."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int) -> None: ...


def spawn(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    said: Path,
    faults: Path | None = None,
) -> Process:
    """Run `python -m module arguments`; what it says is appended to `said`, errors to `faults`."""
    with said.open("ab") as out, (faults or said).open("ab") as err:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            env=environment,
        )


class CommandFailed(AssertionError):
    """A command ended with another status than 0; the text has all that it said."""


@dataclass(slots=True)
class Node:
    """One facility: its data directory, its root key, and the process that runs it, if any."""

    name: str
    data: Path
    root_key: Path
    issuer: str
    process: Process | None = None
    addresses: dict[str, Any] = field(default_factory=dict)
    module: str = "peer"
    """What Python runs; another one than the node's own for a node that is watched from inside."""
    begin: Callable[..., Process] = spawn
    """How a process begins: `spawn`, or the quicker `fork`."""

    # -- its life -------------------------------------------------------------------------------

    @property
    def log(self) -> Path:
        return self.data.with_name(f"{self.data.name}.log")

    def init(self, *more: str, reachable: bool = True) -> str:
        """Make the node on ports that are free now; return what the command said."""
        seen = ("--public-host", "127.0.0.1") if reachable else ()
        local, federation, pairing, dicom = free_ports(4)
        return self.run(
            "init", "--name", self.name, "--root-key", str(self.root_key),
            *seen, "--federation-host", "127.0.0.1",
            "--default-issuer", self.issuer,
            "--local-port", str(local), "--federation-port", str(federation),
            "--pairing-port", str(pairing), "--dicom-port", str(dicom), *more,
        )  # fmt: skip

    def start(self, **environment: str) -> None:
        """Start the process and wait until the node says that it is ready."""
        surroundings = {**os.environ, **UNBOUNDED, **environment}
        command = ("run", "--data", str(self.data))
        self.process = self.begin(self.module, command, surroundings, self.log)
        wait_until(
            self._is_ready, f"{self.name} did not start", START_TIMEOUT_S, more=self.log_lines
        )

    def _is_ready(self) -> bool:
        process = self.process
        assert process is not None
        assert process.poll() is None, f"{self.name} ended at once:\n{self.log_lines()}"
        with suppress(OSError, ValueError, KeyError):
            addresses = json.loads((self.data / "run" / "addresses.json").read_text())
            if addresses["pid"] == process.pid:
                self.addresses = addresses
                status, _ = self.api("GET", "/status")
                return status == http.HTTPStatus.OK
        return False

    def stop(self) -> int | None:
        """Stop as an operator does (SIGTERM) and return the exit status."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            pytest.fail(f"{self.name} did not stop on SIGTERM:\n{self.log_lines()}")

    def kill(self) -> None:
        """End the process without any warning (SIGKILL)."""
        process, self.process = self.process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def log_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    # -- talking to it --------------------------------------------------------------------------

    @property
    def local_url(self) -> str:
        return str(self.addresses["local_url"])

    @property
    def federation_url(self) -> str:
        return str(self.addresses["federation_url"])

    @property
    def dicom_port(self) -> int:
        return int(self.addresses["dicom_port"])

    @property
    def peer_id(self) -> str:
        return str(self.get("/status")["facility"]["peer_id"])

    def run(self, *arguments: str) -> str:
        """Run `openpriors VERB ...` on this node and return what it printed."""
        surroundings = {**os.environ, "OPENPRIORS_DATA": str(self.data), "COLUMNS": "200"}
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            process = self.begin("peer", arguments, surroundings, out, err)
            try:
                status = process.wait(COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                raise
            said, faults = out.read_text(), err.read_text()
        if status != 0:
            shown = " ".join(arguments)
            raise CommandFailed(
                f"openpriors {shown}: status {status}\n{said}{faults}\n--- log\n{self.log_lines()}"
            )
        return said

    def run_json(self, *arguments: str) -> Any:
        """Run a verb with --json and return its answer."""
        return json.loads(self.run(*arguments, "--json"))

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
    ) -> tuple[int, Any]:
        """Ask the API over the Unix socket; return the status and the JSON answer."""
        connection = _UnixConnection(str(self.addresses["socket"]))
        try:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body)
            headers = {} if body is None else {"Content-Type": content_type}
            connection.request(method, f"/api/v1{path}", body=content, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def content(self, path: str, accept: str) -> bytes:
        """Return what a GET of an address of the node, DICOMweb's or a page's, brings."""
        connection = _UnixConnection(str(self.addresses["socket"]))
        try:
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == http.HTTPStatus.OK, f"GET {path}: {answer.status} {content!r}"
            return content
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the answer to a GET that must succeed."""
        return self._must("GET", path, None)

    def post(self, path: str, body: object = None) -> Any:
        """Return the answer to a POST of JSON that must succeed."""
        return self._must("POST", path, {} if body is None else body)

    def store(self, instance: bytes) -> Any:
        """Store one DICOM instance and return its outcome."""
        status, answer = self.api("POST", "/instances", instance, content_type="application/dicom")
        assert status < http.HTTPStatus.BAD_REQUEST, f"not stored: {answer}"
        return answer

    def grant(self, patient: str) -> str:
        """Record that every partner may find a patient; return the directive's identifier."""
        directive = {
            "patient": {"issuer": self.issuer, "patient_id": patient},
            "recipients": "all",
            "purposes": ["TREAT", "ETREAT"],
            "grantor": "patient",
        }
        return str(self.post("/consents", directive)["directive_id"])

    def listed(self, name: str, birth_date: str) -> set[str]:
        """Return the studies that a search lists; the date as YYYYMMDD."""
        question = {"name": name, "birth_date": birth_date}
        results = self.post("/search", question)["results"]
        return {each["study_instance_uid"] for each in results}

    def token(self, *roles: str, name: str = "tests", purpose: str = "TREAT") -> str:
        """Return a new bearer token for the TCP listener."""
        wanted = {"name": name, "roles": list(roles) or ["clinician"], "purpose": purpose}
        return str(self.post("/tokens", wanted)["bearer"])

    def partner(self, other: Node) -> dict[str, Any]:
        """Return what this node says of another one."""
        wanted = other.peer_id
        partners: list[dict[str, Any]] = self.get("/partners")["partners"]
        return next(each for each in partners if each["peer_id"] == wanted)

    def _must(self, method: str, path: str, body: object) -> Any:
        status, answer = self.api(method, path, body)
        assert status < http.HTTPStatus.BAD_REQUEST, f"{method} {path}: {status} {answer}"
        return answer


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("node", timeout=COMMAND_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(slots=True)
class Nodes:
    """Makes nodes, and stops whatever it has made."""

    folder: Path
    made: list[Node] = field(default_factory=list)

    def __call__(
        self, count: int = 1, *, started: bool = True, reachable: bool = True
    ) -> list[Node]:
        """Return `count` new nodes, initialised and, unless told otherwise, running.

        Those that are not `reachable` are outbound-only.
        """
        fresh = [self._new(index) for index in range(count)]
        for node in fresh:
            self.made.append(node)
            node.init(reachable=reachable)
            if started:
                node.start()
        return fresh

    def _new(self, number: int) -> Node:
        """Return the `number`th facility of one call; calls make federations of their own."""
        folder = self.folder / f"facility-{len(list(self.folder.iterdir())) + 1}"
        folder.mkdir()
        name, issuer = NAMES[number % len(NAMES)], ISSUERS[number % len(ISSUERS)]
        return Node(name, folder / "data", folder / "root.key", issuer, begin=Forked)

    def stop(self) -> None:
        """Kill what still runs: a test that cares about a clean end stops its nodes itself."""
        for node in self.made:
            node.kill()


def pair(one: Node, other: Node) -> None:
    """Make two running nodes partners and wait for their link; not by commands, which are slow."""
    invitation = one.post("/invitations")["invitation"]
    joined = other.post("/pairings", {"invitation": invitation})
    waiting = one.partner(other)
    assert joined["words"] == waiting["words"], "the two screens show different words"
    one.post(f"/partners/{other.peer_id}/confirm")
    other.post(f"/partners/{one.peer_id}/confirm")
    for here, there in ((one, other), (other, one)):
        wait_until(
            lambda here=here, there=there: (
                here.partner(there)["connected"] and here.partner(there)["last_confirmed_at"]
            ),
            f"{here.name} is not connected to {there.name}",
            more=here.log_lines,
        )


def publish(node: Node, patient: str, study: str, count: int, pixels: int) -> str:
    """Let a node have a study that every partner may find; return the directive's identifier.

    `count` instances of `pixels` bytes each.
    """
    filling = random.Random(study).randbytes(pixels)
    for number in range(count):
        node.store(
            instance(
                number,
                study=study,
                pixels=filling,
                PatientID=patient,
                PatientName=f"{patient}^ANNA",
                PatientBirthDate="19600203",
                StudyDate="20200901",
            )
        )
    node.post("/studies/settle")
    return node.grant(patient)


def wait_until(
    question: Callable[[], Found],
    otherwise: str,
    timeout_s: float = WAIT_S,
    *,
    more: Callable[[], str] | None = None,
) -> Found:
    """Return the first true answer to `question`; fail with `otherwise` if none comes in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(otherwise + (f"\n{more()}" if more else ""))
        time.sleep(POLL_S)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nothing listens, none of them twice in this process.

    They lie below those that the system gives to outgoing connections, which would otherwise take
    one of them before the node does.
    """
    found: list[int] = []
    while len(found) < count:
        port = FIRST_PORT + next(_ports) % PORTS
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found
