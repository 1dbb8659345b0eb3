"""What there is to import: files, and the members of zip archives."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from peer.cli.output import CommandError

BATCH_INSTANCES: Final = 512
BATCH_BYTES: Final = 8 * 1024 * 1024 - 8 * BATCH_INSTANCES
"""Instances stored together, so that the node makes many durable with one sync; with the length
before each not more than `ingest.large_bytes`.  What is larger goes alone."""

NOT_FOR_IMPORT: Final = frozenset({"DICOMDIR"})

DICOM_MARK: Final = slice(128, 132)
"""Where a DICOM file says DICM (PS3.10 section 7.1)."""

DIRECTORY: Final = "This is the index of a medium, not an instance; nothing of it is needed."

UNREADABLE: Final = (
    OSError,
    EOFError,
    RuntimeError,  # zipfile's for a member that is encrypted or packed by an unknown method.
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged file or archive raises."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file, or one member of a zip archive; or a place where nothing can be read, and why."""

    path: Path
    member: zipfile.ZipInfo | None = None
    status: str = ""
    code: str = ""
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes, so far as it can be known without reading; 0 where nothing can be read."""
        if self.member is not None:
            return self.member.file_size
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    @property
    def is_large(self) -> bool:
        """Whether it is sent as it is read, and never whole in memory."""
        return not self.status and self.size > BATCH_BYTES

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open it to read its bytes."""
        if self.member is None:
            with self.path.open("rb") as file:
                yield file
        else:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                yield file

    def as_named(self) -> dict[str, Any] | None:
        """Return how a node on this machine finds the file, None if it is none or not a plain one.

        The name of a file that is no text has none in JSON either.
        """
        if self.status or self.member is not None:
            return None
        try:
            found, path = self.path.stat(), str(self.path.absolute())
            path.encode()
        except (OSError, UnicodeError):
            return None
        if not found.st_size:
            return None
        return {
            "path": path,
            "device": found.st_dev,
            "inode": found.st_ino,
            "size": found.st_size,
        }

    @property
    def name(self) -> str:
        """What to call it in front of a person; bytes that are no text are shown as numbers."""
        name = f"{self.path}!{self.member.filename}" if self.member else str(self.path)
        return os.fsencode(name).decode(errors="backslashreplace")


def find(path: Path) -> Iterator[Item]:
    """Yield what there is to import at `path`, folders and archives opened, in a fixed order.

    Whatever is there is yielded, also what cannot be imported: with the reason.
    """
    if not path.exists() and not path.is_symlink():
        raise CommandError("no-such-path", f"There is nothing at {path}.")
    if path.is_dir():
        yield from _find_in_folder(path)
    else:
        yield from _find_in_file(path)


def _find_in_folder(folder: Path) -> Iterator[Item]:
    closed: list[Path] = []

    def note(error: OSError) -> None:
        closed.append(Path(error.filename))

    for place, folders, names in os.walk(folder, onerror=note):
        folders.sort()
        for name in folders:
            # Not followed: a link may lead back to where we are.
            if Path(place, name).is_symlink():
                reason = "This is a link to a folder. Import that folder by its own name."
                yield _left_out(Path(place, name), "skipped", "link", reason)
        for name in sorted(names):
            yield from _find_in_file(Path(place, name))
    for path in closed:
        yield _left_out(path, "refused", "unreadable", "The folder cannot be opened.")


def _find_in_file(path: Path) -> Iterator[Item]:
    if path.name in NOT_FOR_IMPORT:
        yield _left_out(path, "skipped", "directory", DIRECTORY)
    elif not path.exists():
        yield _left_out(path, "refused", "unreadable", "This is a link that leads nowhere.")
    elif not path.is_file():
        yield _left_out(path, "refused", "not-a-file", "This is a device or a pipe, not a file.")
    else:
        try:
            found = _members(path) if _is_archive(path) else [Item(path)]
        except UNREADABLE as error:
            reason = f"The archive cannot be opened: {type(error).__name__}. Copy it again."
            found = [_left_out(path, "refused", "unreadable", reason)]
        yield from found


def _is_archive(path: Path) -> bool:
    """Return whether this is a zip archive; a DICOM file may hold one and is none."""
    with path.open("rb") as file:
        if file.read(DICOM_MARK.stop)[DICOM_MARK] == b"DICM":
            return False
        return zipfile.is_zipfile(file)


def _members(path: Path) -> list[Item]:
    found = []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if Path(info.filename).name in NOT_FOR_IMPORT:
                found.append(Item(path, info, "skipped", "directory", DIRECTORY))
            elif not info.is_dir():
                found.append(Item(path, info))
    return found


def _left_out(path: Path, status: str, code: str, reason: str) -> Item:
    return Item(path, status=status, code=code, reason=reason)


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items in their order, in runs that are sent together."""
    batch: list[Item] = []
    room = BATCH_BYTES
    for item in items:
        size = 0 if item.status else item.size
        if batch and (size > room or len(batch) == BATCH_INSTANCES):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(item)
        room -= size
    if batch:
        yield batch
