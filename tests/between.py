"""What stands between two nodes in real networks: proxies, and boxes that inspect TLS.

Each runs on the event loop of the test, on a port of 127.0.0.1, for as long as its context lasts.
"""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ssl
import threading
from contextlib import asynccontextmanager, contextmanager, suppress

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

PIECE = 65_536


async def _copy(reader, writer):
    with suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    with suppress(ConnectionError, ssl.SSLError, RuntimeError):
        writer.close()


class _Server:
    """Answers each connection in a task of its own, and ends all of them at its own end."""

    def __init__(self):
        self.tasks = set()
        self.port = 0
        self._listening = None

    async def start(self, port=0, **more):
        self._listening = await asyncio.start_server(self._answer, "127.0.0.1", port, **more)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self):
        self._listening.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0)  # Transports close in the next round of the loop.

    async def _answer(self, reader, writer):
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            await self.serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.tasks.discard(task)
            writer.transport.abort()


class ConnectProxy(_Server):
    """An HTTP CONNECT proxy (RFC 9110 section 9.3.6).

    `user`: "name:password" that it asks for, if any.  `refused`: targets that it does not allow.
    `targets`: what it has connected to, in order.  `outwards`: bytes that callers have sent through
    it; once they are more than `cut_after`, every connection is cut, once.
    """

    def __init__(self, user="", refused=()):
        super().__init__()
        self.user, self.refused = user, set(refused)
        self.targets = []
        self.outwards, self.cut_after, self.cuts = 0, None, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        status = self._judge(method, target, fields.get("Proxy-Authorization", ""))
        there = None
        if status == "200 OK":
            host, port = target.rsplit(":", 1)
            try:
                there = await asyncio.open_connection(host, int(port))
            except OSError:
                status = "502 Bad Gateway"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        if there is not None:
            self.targets.append(target)
            try:
                await asyncio.gather(self._outwards(reader, there[1]), _copy(there[0], writer))
            finally:
                there[1].transport.abort()

    async def _outwards(self, reader, writer):
        while data := await reader.read(PIECE):
            self.outwards += len(data)
            if self.cut_after is not None and self.outwards > self.cut_after:
                self.cut_after, self.cuts = None, self.cuts + 1
                for task in self.tasks - {asyncio.current_task()}:
                    task.cancel()
            writer.write(data)
            await writer.drain()
        writer.close()

    def _judge(self, method, target, shown):
        wanted = "Basic " + base64.b64encode(self.user.encode()).decode()
        if method != "CONNECT":
            return "405 Method Not Allowed"
        if self.user and shown != wanted:
            return "407 Proxy Authentication Required"
        return "403 Forbidden" if target in self.refused else "200 OK"


class WebServer(_Server):
    """A server of something else, that speaks HTTP without TLS."""

    async def serve(self, reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()


class Inspection(_Server):
    """Ends the TLS of whoever calls, showing a certificate of its own, and begins another one.

    What passes is readable to it.  `issuer`: the name of the authority that signs its certificates,
    None for a certificate that it signs by itself.
    """

    def __init__(self, target_port, issuer="Zscaler Root CA", *, subject, newest=None):
        super().__init__()
        self.target_port, self.issuer, self.subject = target_port, issuer, subject
        self.newest = newest
        self.read = bytearray()
        """What it has read of what was meant for the other side alone."""

    async def serve(self, reader, writer):
        beyond = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        beyond.check_hostname = False
        beyond.verify_mode = ssl.CERT_NONE
        there = await asyncio.open_connection("127.0.0.1", self.target_port, ssl=beyond)
        try:
            await asyncio.gather(self._listen_in(reader, there[1]), _copy(there[0], writer))
        finally:
            there[1].transport.abort()

    async def _listen_in(self, reader, writer):
        while data := await reader.read(PIECE):
            self.read += data
            writer.write(data)
            await writer.drain()
        writer.close()

    def context(self, folder):
        """Return the server context with its certificate, whose files are put into `folder`."""
        certificate, key = issue(self.subject, self.issuer)
        (folder / "box.pem").write_bytes(key + certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "box.pem")
        if self.newest is not None:
            context.maximum_version = self.newest
        return context


def issue(subject, issuer=None):
    """Return a new certificate and its key (PEM); `issuer`: None for one that signs itself."""
    key, authority = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(subject if issuer is None else issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=3650))
        .sign(key if issuer is None else authority, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@asynccontextmanager
async def running(server, port=0, **more):
    """Have `server` answer on a port while the context lasts."""
    await server.start(port, **more)
    try:
        yield server
    finally:
        await server.stop()


@contextmanager
def running_apart(server):
    """Have `server` answer on a loop and in a thread of its own while the context lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
