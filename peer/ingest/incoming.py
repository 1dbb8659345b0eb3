"""An instance whose bytes are coming: in memory while it is small, then in a pack of its own.

Nobody knows the length, the study or even the kind of what comes before it is there.  A pack needs
none of them: its key is random, and becomes the study's when it is put on record.  So what is large
is encrypted as it comes, written once, and never whole in memory.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from blake3 import blake3

from peer.config import Ingest as Settings
from peer.dicom import read_file_meta
from peer.errors import NodeError, StorageFull
from peer.ingest.outcome import DISK_ERROR, NO_SPACE, Outcome, oversized
from peer.store import PART_BYTES, PackWriter, Store, StoredInstance
from protocol.errors import Refusal
from protocol.manifest import Chunk


class Large:
    """An instance that stands in a pack of its own, which is not on record yet."""

    def __init__(
        self, store: Store, writer: PackWriter, chunks: tuple[Chunk, ...], length: int
    ) -> None:
        self._store = store
        self._length = length
        self.writer = writer
        self.chunks = chunks
        self.content_hash = b""
        self.data_set_hash = b""

    def __len__(self) -> int:
        return self._length

    def open(self) -> StoredInstance:
        """Return its bytes; close them."""
        return self._store.open(self.writer.pack_id, self.writer.key, self.chunks)

    def discard(self) -> None:
        """Destroy it: it is not kept."""
        self.writer.close()
        self._store.discard(self.writer.pack_id)


Small: TypeAlias = bytes | bytearray | memoryview
"""The bytes of one instance; they must not change any more."""
Taken: TypeAlias = Small | Large | Outcome
"""What has come: an instance, or why it is refused already."""


class Incoming:
    """Takes an instance in, piece by piece; `is_refused` tells whether more is of any use."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._most = settings.max_instance_bytes
        self._large = settings.large_bytes
        self._held = bytearray()
        self._length = 0
        self._refusal: Outcome | None = None
        self._writer: PackWriter | None = None
        self._chunks: list[Chunk] = []
        self._data_set_offset = 0
        self._whole, self._data_set = blake3(), blake3()

    def __len__(self) -> int:
        return self._length

    @property
    def is_refused(self) -> bool:
        """Whether it cannot be kept; what still comes is dropped."""
        return self._refusal is not None

    def room(self, size: int) -> int:
        """Return how much more memory it takes with `size` bytes more."""
        return 0 if self.is_refused else max(0, min(size, self._large - self._length))

    def add(self, piece: Small) -> bool:
        """Take the next piece; return whether `flush` is due, which blocks on the disk."""
        if self._refusal is not None:
            return False
        self._length += len(piece)
        if self._length > self._most:
            self.refuse(oversized(self._most))
            return self._writer is not None
        self._held += piece
        return self._length > self._large and len(self._held) > PART_BYTES

    def refuse(self, refusal: Outcome) -> None:
        """Drop it, and everything of it that still comes."""
        self._refusal = refusal
        self._held = bytearray()

    def flush(self) -> None:
        """Encrypt and write what is held of a large instance, except for what may be its end."""
        if self._refusal is not None:
            self.drop()
            return
        try:
            if self._writer is None:
                _, self._data_set_offset = read_file_meta(self._held)
                self._writer = self._store.new_pack()
            while len(self._held) > PART_BYTES:
                self._write(self._writer, PART_BYTES, last=False)
        except Refusal as refusal:
            self.refuse(Outcome("refused", refusal.code, str(refusal)))
            self.drop()
        except NodeError as error:
            self.refuse(failed(error))
            self.drop()

    def take(self) -> Taken:
        """Return what has come, all of it; of a large instance this blocks on the disk."""
        if self._writer is not None and self._refusal is None:
            try:
                self._write(self._writer, len(self._held), last=True)
            except NodeError as error:
                self.refuse(failed(error))
        if self._refusal is not None:
            self.drop()
            return self._refusal
        if self._writer is None:
            held, self._held = self._held, bytearray()
            return held
        large = Large(self._store, self._writer, tuple(self._chunks), self._length)
        large.content_hash, large.data_set_hash = self._whole.digest(), self._data_set.digest()
        self._writer = None
        return large

    @property
    def is_large(self) -> bool:
        """Whether `take` and `drop` block on the disk."""
        return self._writer is not None

    def drop(self) -> None:
        """Destroy what was written, unless it was taken."""
        self._held = bytearray()
        if self._writer is not None:
            self._writer.close()
            self._store.discard(self._writer.pack_id)
            self._writer = None

    def _write(self, writer: PackWriter, size: int, *, last: bool) -> None:
        self._store.room.take(size)
        with memoryview(self._held)[:size] as part:
            self._chunks += writer.append_part(part, last=last)
            self._whole.update(part)
            before = min(self._data_set_offset, size)
            self._data_set.update(part[before:])
        self._data_set_offset -= before
        del self._held[:size]


def failed(error: NodeError) -> Outcome:
    """Return the outcome of an instance that the disk did not take."""
    code: Final = NO_SPACE if isinstance(error, StorageFull) else DISK_ERROR
    return Outcome("refused", code, str(error))
