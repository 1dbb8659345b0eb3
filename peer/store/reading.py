"""An instance in a pack, decrypted piece by piece where it is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peer.errors import Damaged, NotFound
from peer.store.packs import decrypt_chunk, disk_errors
from protocol.limits import CHUNK_PLAIN_BYTES, CHUNK_TAG_BYTES
from protocol.manifest import Chunk


class StoredInstance:
    """The plain bytes of one instance: `len` and slices, as of bytes, but never whole in memory.

    The chunk that was looked at last is kept.  Each method blocks on the disk and raises Damaged
    where a chunk is not what it should be.
    """

    def __init__(self, path: Path, pack_id: bytes, key: bytes, chunks: Sequence[Chunk]) -> None:
        self.pack_id = pack_id
        self._cipher = AESGCM(key)
        self._chunks = chunks
        self._length = sum(chunk.length - CHUNK_TAG_BYTES for chunk in chunks)
        self._at = -1
        self._kept = b""
        self._ended = False
        with disk_errors():
            self._file = os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, step = wanted.indices(self._length)
        if step != 1:
            raise ValueError("only consecutive bytes can be read")
        index, skipped = divmod(start, CHUNK_PLAIN_BYTES)
        if stop <= (index + 1) * CHUNK_PLAIN_BYTES:  # Nearly always.
            return self._chunk(index)[skipped : skipped + stop - start] if start < stop else b""
        last = (stop - 1) // CHUNK_PLAIN_BYTES
        joined = b"".join(self._chunk(each) for each in range(index, last + 1))
        return joined[skipped : skipped + stop - start]

    def pieces(self) -> Iterator[bytes]:
        """Yield all of it, one piece for each chunk."""
        for chunk in self._chunks:
            yield self._decrypted(chunk)

    def read(self) -> bytes:
        """Return all of it together."""
        plain = bytearray(self._length)
        view = memoryview(plain)
        for chunk in self._chunks:
            length = chunk.length - CHUNK_TAG_BYTES
            self._decrypt(chunk, view[:length])
            view = view[length:]
        return bytes(plain)

    def end(self) -> None:
        """Have nothing more read: the pack is destroyed.  Safe from any thread."""
        self._ended = True
        self._kept = b""

    def close(self) -> None:
        """Let go of the file and of what is kept."""
        self._kept = b""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _chunk(self, index: int) -> bytes:
        if self._ended or index != self._at:
            self._kept = self._decrypted(self._chunks[index])
            self._at = index
        return self._kept

    def _decrypted(self, chunk: Chunk) -> bytes:
        plain = bytearray(chunk.length - CHUNK_TAG_BYTES)
        self._decrypt(chunk, memoryview(plain))
        return bytes(plain)

    def _decrypt(self, chunk: Chunk, out: memoryview) -> None:
        if self._ended:
            raise NotFound("The study was removed while it was read.")
        with disk_errors():
            ciphertext = os.pread(self._file, chunk.length, chunk.offset)
        if len(ciphertext) != chunk.length:
            raise Damaged(
                "A pack ends before a chunk that the index names. Restore the store from a backup, "
                "or fetch the study again from a partner that holds it."
            )
        decrypt_chunk(self._cipher, self.pack_id, chunk, ciphertext, out)
