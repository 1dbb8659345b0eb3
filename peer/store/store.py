"""The folder of packs."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakSet

import structlog
from blake3 import blake3

from peer.config import Store as Settings
from peer.errors import Damaged, NodeError
from peer.store.packs import (
    FILE_MODE,
    PackReceiver,
    PackWriter,
    disk_errors,
    sync_directory,
    write_at,
)
from peer.store.reading import StoredInstance
from peer.store.room import Room
from peer.store.wrapping import new_key
from protocol.manifest import Chunk

PACK_ID_BYTES: Final = 16

UNBOUNDED: Final = Settings(keep_free_bytes=0)

_PACK_NAME_CHARACTERS: Final = 2 * PACK_ID_BYTES

_log = structlog.get_logger(__name__)


class Store:
    """Packs by their id.  Every method blocks on the disk: call it in a worker thread."""

    def __init__(self, root: Path, settings: Settings = UNBOUNDED) -> None:
        """Open the store at `root`, made if absent."""
        self._packs = root / "packs"
        self._incoming = root / "incoming"
        with disk_errors():
            for folder in (self._packs, self._incoming):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(root)
        self.room = Room(root, settings)
        self._uncounted: set[bytes] = set()
        """Packs that are gone and take no room any more."""
        self._open: WeakSet[StoredInstance] = WeakSet()
        self._opening = threading.Lock()
        self.room.count(sum(self.sizes().values()) + sum(self.incoming().values()))

    def new_pack(self) -> PackWriter:
        """Return a writer of a new pack with a random id and key."""
        pack_id = secrets.token_bytes(PACK_ID_BYTES)
        return PackWriter(self._path(pack_id), pack_id, new_key())

    def open(
        self, pack_id: bytes, key: bytes, chunks: Sequence[Chunk], *, arriving: bool = False
    ) -> StoredInstance:
        """Return the instance that `chunks` hold, decrypted where it is looked at.

        Close it.  `arriving`: its pack is not whole yet, and these chunks of it are here.  Raises
        Damaged if its pack is not there.
        """
        with self._opening:
            instance = StoredInstance(self._path(pack_id, arriving=arriving), pack_id, key, chunks)
            self._open.add(instance)
        return instance

    def pieces(self, pack_id: bytes, key: bytes, chunks: Sequence[Chunk]) -> Iterator[bytes]:
        """Yield the plain bytes of `chunks`, one piece for each; raise Damaged if any is wrong."""
        with self.open(pack_id, key, chunks) as instance:
            yield from instance.pieces()

    def read(self, pack_id: bytes, key: bytes, chunks: Sequence[Chunk]) -> bytes:
        """Return the plain bytes of `chunks` together; raise Damaged if any is wrong."""
        with self.open(pack_id, key, chunks) as instance:
            return instance.read()

    def verify(
        self, pack_id: bytes, key: bytes, chunks: Sequence[Chunk], content_hash: bytes
    ) -> None:
        """Read an instance back piece by piece; raise Damaged unless it is what was stored."""
        hasher = blake3()
        for piece in self.pieces(pack_id, key, chunks):
            hasher.update(piece)
        if hasher.digest() != content_hash:
            raise Damaged("What is stored is not what came. Restore the store from a backup.")

    def read_range(self, pack_id: bytes, offset: int, length: int) -> bytes:
        """Return `length` bytes of ciphertext from `offset`; fewer only where the pack ends."""
        with disk_errors(), self._path(pack_id).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def receive(self, pack_id: bytes, size: int) -> PackReceiver:
        """Return a receiver of the pack `pack_id` of `size` bytes; go on with one under way.

        Raises Conflict if the store holds a pack of this id, StorageFull if it has no room.
        """
        path = self._path(pack_id, arriving=True)
        if not path.exists():
            self.room.take(size)
        return PackReceiver(path, self._path(pack_id), size)

    def incoming(self) -> Mapping[bytes, int]:
        """Return id and size of each pack that is still arriving."""
        return _sizes(self._incoming)

    def sizes(self) -> Mapping[bytes, int]:
        """Return id and bytes of each whole pack."""
        return _sizes(self._packs)

    def cut(self, pack_id: bytes, length: int) -> None:
        """Cut a torn tail: everything from `length` on; raise Damaged if the pack is shorter."""
        path = self._path(pack_id)
        with disk_errors():
            size = path.stat().st_size
            if size < length:
                raise Damaged(
                    f"A pack has {size} bytes where the index names {length}. Restore the store "
                    "from a backup."
                )
            if size > length:
                with path.open("r+b", buffering=0) as file:
                    file.truncate(length)
                    os.fsync(file.fileno())

    def mend(self, pack_id: bytes, offset: int, data: bytes, recorded: int = 0) -> None:
        """Write ciphertext over what the disk has lost of a whole pack, durably.

        The pack is made if it is gone; what is not written of it stays damaged.  `recorded`: bytes
        on record of it, which count no longer if it has gone since the start.
        Raises StorageFull.
        """
        path = self._path(pack_id)
        with disk_errors():
            gone = not path.exists()
            if gone and pack_id not in self._uncounted:
                self.room.count(-recorded)
                self._uncounted.add(pack_id)
            grows = offset + len(data) - (0 if gone else path.stat().st_size)
            if grows > 0:
                self.room.take(grows)
            file = os.open(path, os.O_WRONLY | os.O_CREAT, FILE_MODE)
            try:
                write_at(file, offset, data)
                os.fsync(file)
            finally:
                os.close(file)
            if gone:
                sync_directory(path.parent)
                self._uncounted.discard(pack_id)

    def note_missing(self, pack_ids: Iterable[bytes]) -> None:
        """Note packs that were not here at the start, and so were never counted."""
        self._uncounted.update(pack_ids)

    def destroy(self, pack_id: bytes) -> None:
        """Remove a pack, whole or arriving, if it is there.  Destroy its key first.

        Whoever reads in it just then reads no further.
        """
        with disk_errors(), self._opening:
            for instance in tuple(self._open):
                if instance.pack_id == pack_id:
                    instance.end()
            for arriving in (False, True):
                path = self._path(pack_id, arriving=arriving)
                if path.exists():
                    size = path.stat().st_size
                    path.unlink()
                    self.room.count(-size)
                    sync_directory(path.parent)

    def discard(self, pack_id: bytes) -> None:
        """Remove a pack that was never on record.

        What the disk fails to remove is removed at the next start; nothing depends on it, so
        whoever was told why the pack is not kept is told nothing else.
        """
        try:
            self.destroy(pack_id)
        except NodeError as error:
            _log.warning("pack-left", error=type(error).__name__)

    def _path(self, pack_id: bytes, *, arriving: bool = False) -> Path:
        if len(pack_id) != PACK_ID_BYTES:
            raise ValueError(f"a pack id has {PACK_ID_BYTES} bytes")
        return (self._incoming if arriving else self._packs) / pack_id.hex()


def _sizes(folder: Path) -> dict[bytes, int]:
    with disk_errors(), os.scandir(folder) as entries:
        return {
            bytes.fromhex(entry.name): entry.stat().st_size
            for entry in entries
            if len(entry.name) == _PACK_NAME_CHARACTERS
        }
