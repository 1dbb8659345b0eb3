"""What people use today: the same question by QIDO-RS to each of many Orthancs.

Debian's `orthanc` and `orthanc-dicomweb`, with TCP_NODELAY set.  One is filled; the others are
copies of it.  Each answers for itself, in the clear, and must be reachable.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.dicom_samples import instance
from tests.processes import free_ports

PROGRAM = "/usr/sbin/Orthanc"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
START_S = 60


def is_there():
    """Return whether Orthanc and its DICOMweb plugin are installed."""
    return Path(PROGRAM).exists() and Path(PLUGIN).exists()


@contextmanager
def running(folder, port):
    """Run the Orthanc of a folder; yields its process."""
    folder.mkdir(exist_ok=True)
    dicom = free_ports(1)[0]
    settings = {
        "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "storage"),
        "HttpPort": port, "DicomPort": dicom, "RemoteAccessAllowed": True,
        "AuthenticationEnabled": False, "KeepAlive": True, "TcpNoDelay": True,
        "OrthancExplorerEnabled": False, "StorageAccessOnFind": "Never", "SaveJobs": False,
        "Plugins": [PLUGIN], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "SyncStorageArea": False,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, str(folder / "orthanc.json")],
            stdout=log,
            stderr=log,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
    try:
        _wait(port, process)
        yield process
    finally:
        process.terminate()
        process.wait(START_S)


def _wait(port, process):
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/system", timeout=5) as answer:
                answer.read()
                return
        except OSError:
            time.sleep(0.1)
    message = "Orthanc did not start"
    raise RuntimeError(message)


def fill(folder, studies):
    """Fill the Orthanc of a folder with studies of one tiny instance, each of another patient."""
    port = free_ports(1)[0]
    with running(folder, port):
        for number in range(studies):
            content = instance(
                number,
                study=f"1.2.826.0.1.3680043.10.1.{number}",
                pixels=b"\1\2\3\4",
                PatientID=patient(number),
                PatientName=f"FAM{number:06d}^ANNA",
                PatientBirthDate=f"19{number % 100:02d}0203",
                StudyDate="20200901",
            )
            request = urllib.request.Request(f"http://127.0.0.1:{port}/instances", content)
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - ours
                answer.read()


def patient(number):
    """Return the Patient ID of a study by its number."""
    return f"Q{number:08d}"


@contextmanager
def many(folder, count, studies):
    """Run `count` Orthancs of `studies` studies each; yields their URLs and processes."""
    folder.mkdir()
    fill(folder / "0", studies)
    for number in range(1, count):
        shutil.copytree(folder / "0" / "storage", folder / str(number) / "storage")
    ports = free_ports(count)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(running(folder / str(number), port))
            for number, port in enumerate(ports)
        ]
        yield [f"http://127.0.0.1:{port}/dicom-web/studies" for port in ports], processes
        for each in processes:  # Each takes seconds to end: all of them at once.
            each.terminate()
