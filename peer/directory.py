"""The data directory of a node that runs: one process at a time, and where it can be reached."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from peer.errors import AlreadyRunning, Damaged, NodeError, NotFound

RUN: Final = "run"
"""Folder below the data directory for what exists only while the node runs."""
ADDRESSES: Final = "addresses.json"
LOCK: Final = "node.lock"
SOCKET: Final = "node.sock"


@contextlib.contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the lock of the data directory; raise AlreadyRunning if another process holds it."""
    if not data.is_dir():
        raise NotFound(
            f"There is no node in {data}. Name its data directory with --data DIR or "
            "OPENPRIORS_DATA, or make a node with: openpriors init"
        )
    folder = data / RUN
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise _cannot_write(folder, error) from error
    with lock:
        _take(lock, data)
        yield


def must_hold(index: Path) -> None:
    """Refuse to go on without the index: beside a new one every pack would count as a leftover."""
    if not index.is_file() or index.stat().st_size == 0:
        raise Damaged(
            f"{index.name} is missing or empty, and it says what everything else here is. Nothing "
            "was touched. Restore it from a backup; if `openpriors init` was interrupted, remove "
            "this data directory and the root key it wrote, and run it again."
        )


@contextlib.contextmanager
def recorded(data: Path, addresses: Mapping[str, object]) -> Iterator[None]:
    """Let other programs find the node for as long as the context lasts; raise NodeError."""
    path = data / RUN / ADDRESSES
    draft = path.with_suffix(".new")
    try:
        draft.write_text(json.dumps(addresses, indent=2) + "\n")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _cannot_write(path.parent, error) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> NodeError:
    return NodeError(
        f"{path} cannot be written: {os.strerror(error.errno or 0)}. Check that the disk has room "
        "and is not mounted read-only, and that the node's user owns the data directory."
    )


def _take(lock: IO[str], data: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(
            f"A node is running on {data} already. Stop it first, or choose another directory."
        ) from error
