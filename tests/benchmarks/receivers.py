"""Programs that instances are sent to: our node, and those that it is compared with.

Each starts empty, in a process of its own, with TCP_NODELAY=1 for those that ask for it there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.processes import ISSUERS, NAMES, Node, free_ports

START_S = 60
LONGEST_PDU = 131_072
ORTHANC_WEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TUNED = {
    "SyncStorageArea": False, "SaveJobs": False, "StoreMD5ForAttachments": False,
    "StorageCompression": False, "KeepAlive": True, "TcpNoDelay": True,
    "MaximumPduLength": LONGEST_PDU, "DicomThreadsCount": 8, "StorageAccessOnFind": "Never",
    "OrthancExplorerEnabled": False, "LimitFindResults": 0,
}  # fmt: skip
"""What makes Orthanc faster; among others, it acknowledges before anything is on the disk."""


@dataclass(frozen=True)
class Receiver:
    """A running server: its process, and where it listens."""

    pid: int
    dicom: int
    http: int = 0
    token: str = ""
    ae_title: str = "OPENPRIORS"


@contextmanager
def our_node(place):
    """Our node, durable and encrypted, as `openpriors init` makes it."""
    node = Node(NAMES[0], place / "data", place / "root.key", ISSUERS[0])
    node.init()
    node.start(OPENPRIORS_DICOM__ACCEPT_UNKNOWN="true")
    try:
        port = int(node.local_url.rpartition(":")[2])
        dicom = int(node.addresses["dicom_port"])
        yield Receiver(node.process.pid, dicom, port, node.token("operator"))
    finally:
        node.stop()


@contextmanager
def orthanc(place):
    """Orthanc with DICOMweb, tuned."""
    dicom, http = free_ports(2)
    settings = TUNED | {
        "StorageDirectory": str(place / "db"), "IndexDirectory": str(place / "db"),
        "Plugins": [str(ORTHANC_WEB)], "HttpPort": http, "DicomPort": dicom,
        "DicomAet": "OPENPRIORS", "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    (place / "db").mkdir()
    (place / "orthanc.json").write_text(json.dumps(settings))
    with _started(["Orthanc", str(place / "orthanc.json")], place, http) as pid:
        yield Receiver(pid, dicom, http)


@contextmanager
def storescp(place):
    """The receiver of dcmtk: it writes files."""
    (port,) = free_ports(1)
    (place / "in").mkdir()
    command = ["storescp", "--fork", "-aet", "OPENPRIORS", "-pdu", str(LONGEST_PDU), "+xa"]
    with _started([*command, "-od", str(place / "in"), str(port)], place, port) as pid:
        yield Receiver(pid, port)


@contextmanager
def pynetdicom(place):
    """A receiver made with pynetdicom that only writes files: what the library costs."""
    (port,) = free_ports(1)
    (place / "in").mkdir()
    command = [sys.executable, "-m", __spec__.name, str(port), str(place / "in")]
    with _started(command, place, port) as pid:
        yield Receiver(pid, port)


RECEIVERS = {
    "node": our_node, "orthanc": orthanc, "storescp": storescp, "pynetdicom": pynetdicom,
}  # fmt: skip


def missing(name):
    """Return what has to be installed for a receiver, '' if it is there."""
    needed = {"orthanc": ("Orthanc", "orthanc orthanc-dicomweb"), "storescp": ("storescp", "dcmtk")}
    program, package = needed.get(name, ("", ""))
    there = not program or shutil.which(program) is not None
    if there and (name != "orthanc" or ORTHANC_WEB.is_file()):
        return ""
    return f"{program} is not installed; Debian has it: apt-get install {package}"


@contextmanager
def _started(command, place, port):
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=os.environ | {"TCP_NODELAY": "1"},
        )  # fmt: skip
    try:
        _wait_for(port, process)
        yield process.pid
    finally:
        process.terminate()
        process.wait(START_S)


def _wait_for(port, process):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args[0]} ended at once"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"{process.args[0]} does not listen")


def _serve(port, folder):
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

    scp = AE("OPENPRIORS")
    scp.maximum_pdu_size = LONGEST_PDU
    scp.maximum_associations = 32
    scp.supported_contexts = AllStoragePresentationContexts
    for context in scp.supported_contexts:
        context.transfer_syntax = ALL_TRANSFER_SYNTAXES[:]

    def opened(event):
        connection = event.assoc.dul.socket.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def store(event):
        Path(folder, event.request.AffectedSOPInstanceUID).write_bytes(event.encoded_dataset())
        return 0

    handlers = [(evt.EVT_CONN_OPEN, opened), (evt.EVT_C_STORE, store)]
    scp.start_server(("127.0.0.1", port), block=True, evt_handlers=handlers)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2])
