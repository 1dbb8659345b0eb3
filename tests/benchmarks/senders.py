"""Programs that send the instances of folders: dcmtk's storescu, and STOW-RS over plain sockets.

Each connection or association is a process of its own; it sends the folders that it is given.
"""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.receivers import LONGEST_PDU

TOGETHER = 10
"""Instances of one STOW-RS request."""
BOUNDARY = "b0undary"


def shares(folder, count):
    """Return the folders below `folder`, dealt out to `count` senders."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    assert len(folders) >= count, "each sender needs a study of its own"
    return [folders[number::count] for number in range(count)]


def c_store(receiver, folder, count):
    """Send by `count` associations; return the seconds until the last answer."""
    storescu = find_storescu()
    commands = [
        [storescu, "-aet", "BENCH", "-aec", receiver.ae_title, "-pdu", str(LONGEST_PDU),
         "--max-send-pdu", str(LONGEST_PDU), "+sd", "+r", "127.0.0.1", str(receiver.dicom),
         *map(str, share)]
        for share in shares(folder, count)
    ]  # fmt: skip
    began = time.monotonic()
    _run([subprocess.Popen(each, env=os.environ | {"TCP_NODELAY": "1"}) for each in commands])
    return time.monotonic() - began


def stow(receiver, folder, count):
    """Send by `count` connections; return the seconds until the last answer."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(receiver.http), receiver.token,
             *map(str, share)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for share in shares(folder, count)
    ]  # fmt: skip
    for each in processes:
        assert each.stdout.readline() == b"ready\n"
    began = time.monotonic()
    for each in processes:
        each.stdin.write(b"go\n")
        each.stdin.flush()
    _run(processes)
    return time.monotonic() - began


SENDERS = {"stow": stow, "cstore": c_store}


def find_storescu():
    """Return dcmtk's own; pynetdicom installs a program of the same name beside Python."""
    own = Path(sys.prefix).resolve() / "bin"
    folders = [each for each in os.get_exec_path() if Path(each).resolve() != own]
    found = shutil.which("storescu", path=os.pathsep.join(folders))
    assert found, "storescu is not installed; Debian has it: apt-get install dcmtk"
    return found


def _run(processes):
    for each in processes:
        assert each.wait() == 0, f"{each.args[0]} ended with {each.returncode}"
        for pipe in (each.stdin, each.stdout):
            if pipe is not None:
                pipe.close()


def _send(port, token, folders):
    files = [path for folder in folders for path in sorted(Path(folder).rglob("*.dcm"))]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
        "Accept": "application/dicom+json",
    }
    if token:
        headers["Authorization"] = f"Bearer {token}"
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for start in range(0, len(files), TOGETHER):
        pieces = []
        for path in files[start : start + TOGETHER]:
            pieces += [head, path.read_bytes(), b"\r\n"]
        body = b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])
        connection.request("POST", "/dicom-web/studies", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, (answer.status, said[:300])


if __name__ == "__main__":
    _send(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
