"""The two doors: local TCP and the Unix socket."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

from aiohttp import web

from peer.config import Local
from peer.errors import AlreadyRunning, ConfigError, NodeError
from peer.ports import Listener
from peer.web.app import build
from peer.web.identity import over_socket, over_tcp
from peer.web.services import Services

SOCKET_PATH_BYTES: Final = 107
"""Longest path of a Unix socket: sun_path of unix(7) has 108 bytes, one of them the final zero."""

SHUTDOWN_S: Final = 5.0
"""How long requests under way may still take when the node stops."""

Stop: TypeAlias = Callable[[], Awaitable[None]]


async def start_tcp(services: Services) -> tuple[str, Stop]:
    """Open the local TCP listener; return its URL and how to stop it."""
    local = services.settings.local
    tls = tls_of(local)
    runner = _runner(build(services, over_tcp(services)), local)
    await runner.setup()
    try:
        listener = await asyncio.to_thread(
            Listener, local.host, local.port, most=local.max_connections
        )
        await web.SockSite(runner, listener, ssl_context=tls).start()
    except OSError as error:
        await runner.cleanup()
        raise NodeError(
            f"The local listener cannot be opened on {local.host} port {local.port}: "
            f"{os.strerror(error.errno or 0)}. Stop what uses the port, or set local.port."
        ) from error
    port = runner.addresses[0][1]
    host = f"[{local.host}]" if ":" in local.host else local.host
    return f"{'https' if tls else 'http'}://{host}:{port}", runner.cleanup


def tls_of(local: Local) -> ssl.SSLContext | None:
    """Return the TLS context of the local listener, None for plain HTTP on loopback."""
    if not local.tls_certificate:
        if not _is_loopback(local.host):
            raise ConfigError(
                "The local listener is bound beyond this machine without TLS. Set "
                "local.tls_certificate and local.tls_key, or local.host to 127.0.0.1."
            )
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(local.tls_certificate, local.tls_key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "The certificate or key of the local listener cannot be read. Check that "
            "local.tls_certificate and local.tls_key name PEM files that belong together."
        ) from error
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def start_socket(services: Services, path: Path) -> tuple[Path, Stop]:
    """Open the Unix socket at `path`, mode 0600; return where it really is and how to stop it."""
    path = socket_path(path)
    listening = await asyncio.to_thread(_bind, path)
    runner = _runner(build(services, over_socket(services)), services.settings.local)
    await runner.setup()
    await web.SockSite(runner, listening).start()

    async def stop() -> None:
        await runner.cleanup()
        path.unlink(missing_ok=True)

    return path, stop


def _name_class_only(record: logging.LogRecord) -> bool:
    """Take the text of an error out of the HTTP server's log: it quotes what was sent."""
    if record.exc_info and record.exc_info[0] is not None:
        record.msg = f"{record.msg} ({record.exc_info[0].__name__})"
    record.exc_info = None
    return True


_server_log = logging.getLogger("openpriors.web")
_server_log.addFilter(_name_class_only)


def _runner(app: web.Application, local: Local) -> web.AppRunner:
    # No access log: paths and queries name studies and patients. The audit trail says who looked.
    return web.AppRunner(
        app,
        access_log=None,
        logger=_server_log,
        keepalive_timeout=local.idle_s,
        shutdown_timeout=SHUTDOWN_S,
    )


def socket_path(wanted: Path) -> Path:
    """Return `wanted`, or, if the system cannot bind so long a path, one in a private directory.

    The same wish leads to the same place, so that a socket left by a crash is found and replaced.
    """
    absolute = wanted.absolute()
    if len(os.fsencode(absolute)) <= SOCKET_PATH_BYTES:
        return absolute
    name = sha256(os.fsencode(absolute)).hexdigest()[:16]
    return _runtime_directory() / f"{name}.sock"


def _runtime_directory() -> Path:
    """Return a directory that only this user can enter, made if absent."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    parent = Path(given) if given and Path(given).is_dir() else Path("/tmp")  # noqa: S108 - checked
    directory = parent / f"openpriors-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise NodeError(
            f"{directory} belongs to someone else or is open to others, so the socket cannot be "
            "put there. Remove it, or set XDG_RUNTIME_DIR to a directory of your own."
        )
    return directory


def _bind(path: Path) -> socket.socket:
    """Return a listening Unix socket; one that a crash left behind is replaced."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(os.fspath(path)) == 0:
                raise AlreadyRunning(
                    "Another process answers on this node's socket. Stop it before starting again."
                )
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Set on the descriptor before bind, the mode is that of the file from its first moment.
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(os.fspath(path))
        path.chmod(0o600)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise NodeError(
            f"The node's socket cannot be made: {os.strerror(error.errno or 0)}. "
            "Check that the node's user owns the data directory."
        ) from error
    return listening
