"""The chunks of one manifest on their way into the store: fetched, verified, written, noted.

What is noted as here is durable: bytes are synced before the bitmap that speaks of them is written.
A wrong chunk is fetched again by itself; everything else of its piece counts.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from peer.retrieve.chunks import Bitmap, Piece, chunks_of, end_of, missing_pieces
from peer.store import PackReceiver, Store
from protocol.errors import WrongContent
from protocol.hashing import plain_hash
from protocol.manifest import Chunk, Manifest

ATTEMPTS: Final = 4
"""How often one chunk may arrive wrong: chance does not repeat itself that often, so the origin's
copy is damaged."""

NOTE_BYTES: Final = 32 * 1024 * 1024
"""Bytes written between two notes of progress: a note costs two syncs, and this much is fetched
again after a crash at most."""

Fetch: TypeAlias = Callable[[bytes, int, int], Awaitable[bytes]]
"""pack id, start, end (not included) -> exactly these bytes of ciphertext, or an exception."""

Note: TypeAlias = Callable[[Mapping[bytes, bytes], int], Awaitable[None]]
"""Makes bitmaps (by pack id) and the count of verified bytes durable."""


class Transfer:
    """One study's packs while they arrive.

    `whole`: packs that the store holds already; their chunks are verified, never written.
    """

    def __init__(
        self, store: Store, manifest: Manifest, whole: frozenset[bytes], note: Note
    ) -> None:
        self.chunks = chunks_of(manifest)
        self.bytes = sum(chunk.length for those in self.chunks.values() for chunk in those)
        self.bytes_verified = 0
        self.wrong_chunks = 0
        self._store = store
        self._manifest = manifest
        self._whole = whole
        self._note = note
        self._here = {pack_id: Bitmap() for pack_id in self.chunks}
        self._receivers: dict[bytes, PackReceiver] = {}
        self._queue: deque[Piece] = deque()
        self._attempts: Counter[tuple[bytes, int]] = Counter()
        self._unnoted = 0
        self._noting = asyncio.Lock()

    @property
    def arriving(self) -> frozenset[bytes]:
        """The packs that are received; the others are whole already."""
        return frozenset(self.chunks) - self._whole

    async def open(self, bitmaps: Mapping[bytes, bytes]) -> None:
        """Open the packs and believe of the bitmaps what the bytes on the disk confirm."""
        await asyncio.to_thread(self._open, bitmaps)
        self._queue.extend(missing_pieces(self.chunks, self._here))

    def _open(self, bitmaps: Mapping[bytes, bytes]) -> None:
        for pack_id, chunks in self.chunks.items():
            if pack_id in self._whole:
                noted = chunks
            else:
                self._receivers[pack_id] = self._store.receive(pack_id, end_of(chunks))
                bitmap = Bitmap(bitmaps.get(pack_id, b""))
                noted = tuple(chunk for chunk in chunks if chunk.number in bitmap)
            for chunk in noted:
                if plain_hash(self._read(pack_id, chunk)) == chunk.hash:
                    self._mark(pack_id, chunk)
                elif pack_id in self._whole:
                    raise WrongContent("a pack that is held already differs from its manifest")

    def _read(self, pack_id: bytes, chunk: Chunk) -> bytes:
        receiver = self._receivers.get(pack_id)
        if receiver is None:
            return self._store.read_range(pack_id, chunk.offset, chunk.length)
        return receiver.read_at(chunk.offset, chunk.length)

    async def run(self, fetch: Fetch, parallel: int) -> None:
        """Fetch everything that is missing, `parallel` pieces at a time.

        Raises what `fetch` raises, and WrongContent if a chunk stays wrong.  However it ends, what
        has arrived is noted.
        """
        workers = [asyncio.create_task(self._work(fetch)) for _ in range(parallel)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self._make_note()

    async def _work(self, fetch: Fetch) -> None:
        while self._queue:
            piece = self._queue.popleft()
            try:
                data = await fetch(piece.pack_id, piece.start, piece.end)
            except BaseException:
                self._queue.appendleft(piece)
                raise
            self._take(piece, data)
            if self._unnoted >= NOTE_BYTES:
                await self._make_note()

    def _take(self, piece: Piece, data: bytes) -> None:
        view = memoryview(data)
        for chunk in piece.chunks:
            start = chunk.offset - piece.start
            part = view[start : start + chunk.length]
            if len(part) == chunk.length and plain_hash(part) == chunk.hash:
                self._receivers[piece.pack_id].write_at(chunk.offset, part)
                self._mark(piece.pack_id, chunk)
                self._unnoted += chunk.length
            else:
                self._again(piece.pack_id, chunk)

    def _again(self, pack_id: bytes, chunk: Chunk) -> None:
        self.wrong_chunks += 1
        self._attempts[pack_id, chunk.number] += 1
        if self._attempts[pack_id, chunk.number] >= ATTEMPTS:
            raise WrongContent(f"a chunk arrived {ATTEMPTS} times with other bytes than promised")
        self._queue.append(Piece(pack_id, (chunk,)))

    def _mark(self, pack_id: bytes, chunk: Chunk) -> None:
        self._here[pack_id].add(chunk.number)
        self.bytes_verified += chunk.length

    async def _make_note(self) -> None:
        async with self._noting:
            self._unnoted = 0
            maps = {pack_id: bytes(self._here[pack_id]) for pack_id in self._receivers}
            verified = self.bytes_verified
            await asyncio.to_thread(self._sync)
            await self._note(maps, verified)

    def _sync(self) -> None:
        for receiver in self._receivers.values():
            receiver.sync()

    def missing_instances(self) -> list[str]:
        """Return the SOP Instance UIDs of which a chunk is missing, in the manifest's order."""
        return [
            item.sop_instance_uid
            for item in self._manifest.instances
            if any(
                chunk.number not in self._here[self._manifest.packs[item.pack]]
                for chunk in item.chunks
            )
        ]

    async def finish(self) -> None:
        """Move every pack, now whole, into the store."""
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        for pack_id in tuple(self._receivers):
            self._receivers.pop(pack_id).finish()

    def close(self) -> None:
        """Let go of the files; what has arrived stays for the next attempt."""
        for receiver in self._receivers.values():
            receiver.close()
        self._receivers.clear()
