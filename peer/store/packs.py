"""One pack on the disk: written once by ingest, or received piece by piece from a partner."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peer.errors import Conflict, Damaged, NodeError, StorageFull
from protocol.hashing import plain_hash
from protocol.limits import CHUNK_PLAIN_BYTES, CHUNK_TAG_BYTES
from protocol.manifest import CHUNK_BYTES, Chunk

NONCE_BYTES: Final = 12

PART_BYTES: Final = 8 * CHUNK_PLAIN_BYTES
"""Encrypted before it is handed to the kernel: 2 MiB, inside the processor's cache."""

SPARE: Final = 4
"""Buffers of ciphertext that are kept, of 2 MiB each: for the group commit and some large instances
at once."""

FILE_MODE: Final = 0o600

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def disk_errors() -> Iterator[None]:
    """Say what the operating system reports in the node's words."""
    try:
        yield
    except FileNotFoundError as error:
        raise Damaged(
            "A pack that the index names is not on the disk. Restore the store from a backup, or "
            "fetch the study again from a partner that holds it."
        ) from error
    except FileExistsError as error:
        raise Conflict("A pack of this id is here already; nothing was overwritten.") from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                "No room on the disk for image data. Free some space or add a disk, then send "
                "again."
            ) from error
        raise NodeError(
            f"The disk failed to read or write a pack ({errno.errorcode.get(error.errno or 0)}). "
            "Check the disk's health and the owner of the data directory."
        ) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_at(file: int, offset: int, data: bytes | memoryview) -> None:
    """Write all of `data` at `offset` of an open file."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        offset += written
        view = view[written:]


def encrypt_chunks(
    cipher: AESGCM, pack_id: bytes, number: int, plain: memoryview, out: memoryview, *, last: bool
) -> tuple[int, tuple[bytes, ...]]:
    """Encrypt `plain` as the chunks from `number` on into `out`.

    `last` says whether `plain` ends the instance.  Return the bytes written and the hash of each.
    """
    written = 0
    hashes: list[bytes] = []
    for start in range(0, len(plain), CHUNK_PLAIN_BYTES):
        piece = plain[start : start + CHUNK_PLAIN_BYTES]
        ends = last and start + len(piece) == len(plain)
        target = out[written : written + len(piece) + CHUNK_TAG_BYTES]
        current = number + len(hashes)
        cipher.encrypt_into(_nonce(current), piece, _associated(pack_id, current, ends), target)
        hashes.append(plain_hash(target))
        written += len(target)
    return written, tuple(hashes)


def decrypt_chunk(
    cipher: AESGCM, pack_id: bytes, chunk: Chunk, ciphertext: memoryview | bytes, out: memoryview
) -> None:
    """Decrypt one chunk into `out`; raise Damaged if it is not the chunk it should be."""
    associated = _associated(pack_id, chunk.number, chunk.last)
    try:
        cipher.decrypt_into(_nonce(chunk.number), ciphertext, associated, out)
    except InvalidTag as error:
        raise Damaged(
            "Image data on the disk is damaged. Restore the store from a backup, or fetch the "
            "study again from a partner that holds it."
        ) from error


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")


def _associated(pack_id: bytes, number: int, last: bool) -> bytes:  # noqa: FBT001 - a field
    return pack_id + number.to_bytes(8, "big") + (b"\x01" if last else b"\x00")


_spare: list[bytearray] = []


@contextmanager
def _buffer() -> Iterator[memoryview]:
    """Lend room for the ciphertext of one part.

    It is used again: the kernel clears every page of a new one, which costs as much as to encrypt.
    """
    try:
        lent = _spare.pop()
    except IndexError:
        lent = bytearray(PART_BYTES // CHUNK_PLAIN_BYTES * CHUNK_BYTES)
    try:
        with memoryview(lent) as view:
            yield view
    finally:
        if len(_spare) < SPARE:
            _spare.append(lent)


class PackWriter:
    """A pack being written.  After any error it takes nothing more: ask for a new one.

    One thread at a time may append; another may sync what was appended before, meanwhile.
    """

    def __init__(self, path: Path, pack_id: bytes, key: bytes) -> None:
        self.pack_id = pack_id
        self.key = key
        self.size = 0
        """Bytes appended so far; what is durable is what was appended before sync() was called."""
        self._path = path
        self._cipher = AESGCM(key)
        self._chunks = 0
        self._usable = True
        self._in_parts = False
        self._sync_failed = False
        self._name_is_durable = False
        with disk_errors():
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)

    @property
    def usable(self) -> bool:
        """Whether it takes more."""
        return self._usable and not self._sync_failed

    def append(self, data: bytes | bytearray | memoryview) -> tuple[Chunk, ...]:
        """Append one instance and return its chunks; durable only after sync().

        Raises StorageFull or NodeError; the pack is then closed and its tail is torn.
        """
        if not self.usable:
            raise NodeError("This pack was closed after an error; append to a new one.")
        if not data:
            raise ValueError("an instance has at least one byte")
        plain = memoryview(data)
        placed: list[Chunk] = []
        for start in range(0, len(plain), PART_BYTES):
            part = plain[start : start + PART_BYTES]
            placed += self.append_part(part, last=start + len(part) == len(plain))
        return tuple(placed)

    def append_part(self, part: memoryview, *, last: bool) -> tuple[Chunk, ...]:
        """Append PART_BYTES of an instance, or the `last` of it; return the chunks they fill.

        Until the last part nothing else may be appended.  Raises as `append` does.
        """
        if self._sync_failed or not (self._usable or self._in_parts):
            raise NodeError("This pack was closed after an error; append to a new one.")
        if len(part) != PART_BYTES and not (last and 0 < len(part) < PART_BYTES):
            raise ValueError("a part is as long as all parts, or the last one")
        # Until the whole instance stands: a number is never used twice.
        self._usable = self._in_parts = False
        with _buffer() as buffer:
            length, hashes = encrypt_chunks(
                self._cipher, self.pack_id, self._chunks, part, buffer, last=last
            )
            self._write(buffer[:length])
        placed = tuple(self._place(hashes, length, ends=last))
        self._usable, self._in_parts = last, not last
        return placed

    def _place(self, hashes: tuple[bytes, ...], length: int, *, ends: bool) -> Iterator[Chunk]:
        end = self.size + length
        final = self._chunks + len(hashes) - 1
        for each in hashes:
            size = min(CHUNK_BYTES, end - self.size)
            yield Chunk(self._chunks, self.size, size, each, ends and self._chunks == final)
            self._chunks += 1
            self.size += size

    def _write(self, data: memoryview) -> None:
        with disk_errors():
            while data:
                data = data[os.write(self._file, data) :]

    def sync(self) -> None:
        """Return when everything appended before, and the file's name, are on the disk.

        Raises NodeError; nothing since the last sync may then be believed to be there, and no
        later sync is: what the disk reported once it does not report again.
        """
        if self._sync_failed:
            raise NodeError("The disk failed to write this pack a moment ago. Send it again.")
        try:
            with disk_errors():
                os.fdatasync(self._file)
                if not self._name_is_durable:
                    sync_directory(self._path.parent)
                    self._name_is_durable = True
        except BaseException:
            self._sync_failed = True
            raise

    def close(self) -> None:
        """End the pack for good."""
        self._usable = False
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class PackReceiver:
    """A pack of known size that arrives in pieces, in any order; kept apart until it is whole.

    Opening one that is under way already goes on with the bytes that are there.
    """

    def __init__(self, path: Path, final: Path, size: int) -> None:
        self._path = path
        self._final = final
        self.size = size
        with disk_errors():
            if final.exists():
                raise FileExistsError(errno.EEXIST, "received already")
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
            try:
                os.ftruncate(self._file, size)
                if size:
                    os.posix_fallocate(self._file, 0, size)
            except OSError:
                os.close(self._file)
                raise

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write a verified piece; raise StorageFull or NodeError."""
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError("a piece lies outside its pack")
        with disk_errors():
            write_at(self._file, offset, data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return ciphertext that was written before."""
        with disk_errors():
            return os.pread(self._file, length, offset)

    def sync(self) -> None:
        """Return when everything written is on the disk."""
        with disk_errors():
            os.fdatasync(self._file)

    def finish(self) -> None:
        """Move the whole pack into the store, durably; raise Conflict if the id is taken."""
        with disk_errors():
            os.fsync(self._file)
            os.link(self._path, self._final)  # Unlike a rename, it never overwrites.
            self._path.unlink()
            sync_directory(self._final.parent)
            sync_directory(self._path.parent)
        self.close()

    def close(self) -> None:
        """Let go of the file; what arrived stays for the next attempt."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
