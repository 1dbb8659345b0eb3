"""The programs that a node is measured beside: nginx, Orthanc behind nginx, one plain copy.

Each runs in a folder of its own, on ports of 127.0.0.1 that were free, and is ended by its process
id.  Orthanc has what makes it fast: no synchronisation of its files, no job on its disk, no MD5,
four jobs at once, and TCP_NODELAY, without which its DICOM toolkit waits for Nagle.  Its own HTTPS
crashes as Debian ships it, so HTTPS is nginx in front of it, as sites run it.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.machine import cpu_seconds
from tests.processes import free_ports

NGINX, ORTHANC = "nginx", "Orthanc"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
START_S = 60
PIECE = 1 << 20


def missing():
    """Return a sentence for each program that is not installed here."""
    found = []
    if shutil.which(NGINX) is None:
        found.append("nginx is missing: apt-get install nginx-light")
    if shutil.which(ORTHANC) is None or not PLUGIN.exists():
        found.append("Orthanc is missing: apt-get install orthanc orthanc-dicomweb")
    return found


class Program:
    """A server in a process of its own."""

    def __init__(self, argv, folder, *ports, **environment):
        log = (folder / "log").open("ab")
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
            env={**os.environ, **environment},
        )  # fmt: skip
        log.close()
        deadline = time.monotonic() + START_S
        for port in ports:
            while True:
                assert self.process.poll() is None, (folder / "log").read_text()
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, f"{argv[0]} does not answer"
                    time.sleep(0.01)

    @property
    def cpu(self):
        """CPU seconds of it and of its children."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return sum(map(cpu_seconds, [self.process.pid, *map(int, task.read_text().split())]))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def nginx(folder, port, server):
    """Start nginx on `port` with the directives of one `server`, and one process that works."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = "".join(
        f"{what}_temp_path {folder}/{what};"
        for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; user root; pid {folder}/pid; error_log {folder}/errors; worker_processes 1;\n"
        "events { worker_connections 256; }\n"
        f"http {{ access_log off; client_max_body_size 0; tcp_nodelay on; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.3;\n{server}\n}} }}\n"
    )
    return Program([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder, port)


def certificate(folder):
    """Make a key and a certificate for localhost in `folder`."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem"),
         "-days", "30", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip


class Orthanc:
    """One Orthanc, and nginx before it; `peers`: name and address of others it can send to."""

    def __init__(self, folder, trust, peers=None):
        folder.mkdir(parents=True)
        self.http, dicom, https = free_ports(3)
        self.url = f"https://localhost:{https}/"
        settings = {
            "Name": folder.name, "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"), "Plugins": [str(PLUGIN)],
            "HttpPort": self.http, "DicomPort": dicom, "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "SyncStorageArea": False, "SaveJobs": False, "StoreMD5ForAttachments": False,
            "StorageCompression": False, "KeepAlive": True, "TcpNoDelay": True,
            "ConcurrentJobs": 4, "StorageAccessOnFind": "Never", "OrthancExplorerEnabled": False,
            "HttpsVerifyPeers": True, "HttpsCACertificates": str(trust / "certificate.pem"),
            "OrthancPeers": {name: [url] for name, url in (peers or {}).items()},
        }  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(settings))
        argv = [ORTHANC, str(folder / "settings.json")]
        self.server = Program(argv, folder, self.http, TCP_NODELAY="1")
        self.front = nginx(
            folder / "front",
            https,
            f"ssl_certificate {trust}/certificate.pem; ssl_certificate_key {trust}/key.pem;\n"
            f"location / {{ proxy_pass http://127.0.0.1:{self.http}; proxy_http_version 1.1;\n"
            'proxy_set_header Connection ""; proxy_request_buffering off; proxy_buffering off; }',
        )
        self.folder = folder

    @property
    def cpu(self):
        return self.server.cpu + self.front.cpu

    def ask(self, method, path, body=None):
        """Return the JSON answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=600)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body)
        connection.request(method, path, content)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, f"{method} {path}: {answer.status} {text[:300]}"
        return json.loads(text) if text else None

    def send(self, name, studies):
        """Have each of its `studies` sent to the peer `name`, all at once; return the seconds."""
        threads = [
            threading.Thread(
                target=self.ask,
                args=("POST", f"/peers/{name}/store", {"Resources": [one], "Synchronous": True}),
            )
            for one in studies
        ]
        began = time.monotonic()
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return time.monotonic() - began

    def stop(self):
        self.front.stop()
        self.server.process.kill()  # Its data are thrown away; it takes seconds to end by itself.
        self.server.process.wait()


# -- clients, each in a process of its own --------------------------------------------------------


@contextmanager
def pinned(certificate_der, key_pem=None):
    """Yield a TLS 1.3 client context that trusts one certificate and may show one of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.load_verify_locations(cadata=certificate_der)
    if key_pem is not None:
        context.load_cert_chain(key_pem)
    yield context


def in_a_process(work, *arguments):
    """Return what a function of this module returns, and its CPU seconds, from a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, work, *map(str, arguments)],
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    return json.loads(done.stdout)


def drain(port, path, first, last, trusted, own):
    """GET bytes `first` to `last` of `path` over TLS and drop them; return seconds and bytes."""
    with pinned(Path(trusted).read_bytes(), own) as context:
        plain = socket.create_connection(("127.0.0.1", int(port)))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain) as secured:
            began = time.monotonic()
            secured.sendall(
                f"GET {path} HTTP/1.1\r\nHost: node\r\nRange: bytes={first}-{last}\r\n\r\n".encode()
            )
            room, left = bytearray(PIECE), None
            head = b""
            while b"\r\n\r\n" not in head:
                head += secured.recv(65_536)
            head, _, rest = head.partition(b"\r\n\r\n")
            assert b" 206 " in head.split(b"\r\n")[0], head
            left = int(last) - int(first) + 1 - len(rest)
            while left:
                count = secured.recv_into(room)
                assert count, "the answer broke off"
                left -= count
            return time.monotonic() - began


def plain_copy(source, target):
    """Copy a file over loopback, unverified: sendfile in one process, receive and write in another.

    Return the seconds until all is written, and until it is synchronised too.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    sender = os.fork()
    if not sender:
        with socket.create_connection(listener.getsockname()) as out, Path(source).open("rb") as of:
            out.sendfile(of)
        os._exit(0)
    taken, _ = listener.accept()
    room = memoryview(bytearray(PIECE))
    began = time.monotonic()
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    while count := taken.recv_into(room):
        os.write(file, room[:count])
    written = time.monotonic() - began
    os.fdatasync(file)
    synced = time.monotonic() - began
    os.close(file)
    os.waitpid(sender, 0)
    Path(target).unlink()
    return [written, synced]


def wado(port, token, accept, *paths):
    """GET each of `paths` over one connection, and drop what comes.

    Return the seconds, the bytes, and the seconds until the first byte of the first body.
    """
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=600)
    headers = {"Accept": accept} | ({"Authorization": f"Bearer {token}"} if token != "-" else {})
    room, size, first = memoryview(bytearray(PIECE)), 0, None
    began = time.monotonic()
    for path in paths:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, f"{path}: {answer.status} {answer.read(300)}"
        while count := answer.readinto(room):
            first = first or time.monotonic() - began
            size += count
    return [time.monotonic() - began, size, first]


def main():
    """Do what the first argument names, and print what it returns, with the CPU seconds."""
    work = {"drain": drain, "plain_copy": plain_copy, "wado": wado}[sys.argv[1]]
    before = os.times()
    found = work(*sys.argv[2:])
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    sys.stdout.write(json.dumps([found, cpu]))


if __name__ == "__main__":
    main()
