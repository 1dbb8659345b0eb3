"""A backup directory: `packs/` and `sets/`, and how files get there durably.

DIR/packs/<xx>/<pack id>.<bytes>.<BLAKE3>   <xx>: the first two digits of the id
DIR/sets/<name>/manifest, packs, *.sealed   <name>: when it was begun, and four random digits
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from peer.backup.manifest import MANIFEST, Pack, SignedSet, read_manifest
from peer.errors import AlreadyRunning, Conflict, Damaged, NodeError, NotFound, StorageFull
from peer.store.packs import sync_directory

SET_NAME: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
PACK_NAME: Final = re.compile(r"([0-9a-f]{32})\.(\d{1,18})\.([0-9a-f]{64})")

PIECE_BYTES: Final = 1024 * 1024
"""Copied at a time: bounded memory whatever the size of a pack."""

UNFINISHED: Final = ".part"

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

Progress: TypeAlias = Callable[[int], None]
"""Is told of every so many bytes more."""


@dataclass(frozen=True, slots=True)
class BackupDirectory:
    """The backup directory at `root`."""

    root: Path

    @property
    def sets_folder(self) -> Path:
        """Where the sets are."""
        return self.root / "sets"

    @property
    def packs_folder(self) -> Path:
        """Where the packs are."""
        return self.root / "packs"

    def prepare(self) -> None:
        """Make what is missing of an own or empty directory; raise Conflict for a foreign one."""
        with disk_errors(self.root):
            if not self.is_one() and self.root.exists() and _holds_something(self.root):
                raise Conflict(
                    f"{self.root} is not empty and no backup directory. Name another folder, which "
                    "need not be there yet."
                )
            for folder in (self.root, self.sets_folder, self.packs_folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self.root)

    def is_one(self) -> bool:
        """Return whether there is a backup directory."""
        return self.sets_folder.is_dir() and self.packs_folder.is_dir()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that writes here; raise AlreadyRunning if another one does."""
        with disk_errors(self.root):
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(lock, "w"):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AlreadyRunning(
                    f"Another backup to {self.root} is under way. Wait for its end."
                ) from error
            except OSError as error:
                raise NodeError(
                    f"The file system of {self.root} keeps no locks. Name a folder on another one."
                ) from error
            yield

    def names(self) -> list[str]:
        """Return the names of the complete sets, oldest first; raise NotFound without any place."""
        if not self.is_one():
            raise NotFound(f"{self.root} is no backup directory. Name the folder of the backups.")
        with disk_errors(self.root):
            found = [
                each.name
                for each in self.sets_folder.iterdir()
                if SET_NAME.fullmatch(each.name) and (each / MANIFEST).is_file()
            ]
        return sorted(found)

    def read(self, name: str | None = None) -> SignedSet:
        """Return a set, the newest without `name`; raise NotFound or Damaged."""
        names = self.names()
        if not names:
            raise NotFound(f"There is no complete set in {self.root}.")
        if name is not None and name not in names:
            raise NotFound(
                f"There is no complete set {name} in {self.root}. List them with: "
                f"openpriors backup list {self.root}"
            )
        return read_manifest(self.sets_folder / (name or names[-1]))

    def shard(self, pack_id: bytes) -> Path:
        """Return the folder of a pack."""
        return self.packs_folder / pack_id[:1].hex()

    def path(self, pack: Pack) -> Path:
        """Return where a pack is."""
        return self.shard(pack.pack_id) / pack.file_name

    def sweep(self) -> None:
        """Remove what an interrupted backup has left half written; call it locked."""
        with disk_errors(self.root):
            for each in self.sets_folder.glob(f"*{UNFINISHED}"):
                shutil.rmtree(each)
            for each in self.packs_folder.glob(f"*/*{UNFINISHED}"):
                each.unlink()


def _holds_something(folder: Path) -> bool:
    return any(each.name != "lost+found" for each in folder.iterdir())


@contextmanager
def created(path: Path) -> Iterator[BinaryIO]:
    """Create a file for its owner alone, and make its content durable when the block ends."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def disk_errors(place: Path) -> Iterator[None]:
    """Say what the operating system reports of `place` in the node's words."""
    try:
        yield
    except OSError as error:
        said = os.strerror(error.errno or 0)
        if error.errno in _FULL:
            raise StorageFull(
                f"No room on the disk of {place}. Free some, then run the command again; what is "
                "there already need not be copied twice."
            ) from error
        if error.errno == errno.EIO:
            raise Damaged(f"The disk of {place} failed ({said}). Check its health.") from error
        raise NodeError(
            f"{error.filename or place}: {said}. Check that {place} can be read and written by the "
            "user who runs this command."
        ) from error
