"""The chunks of one manifest on their way into the store: fetched, verified, written, noted.

What is noted as here is durable: bytes are synced before the bitmap that speaks of them is written.
A wrong chunk is fetched again by itself; everything else of its piece counts.  What somebody waits
for is fetched first, and the rest pauses meanwhile.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, TypeAlias

from peer.errors import NodeError
from peer.retrieve.chunks import Bitmap, Piece, chunks_of, end_of, missing_pieces
from peer.retrieve.wishes import Wishes
from peer.store import PackReceiver, Store
from protocol.errors import Refusal, WrongContent
from protocol.hashing import plain_hash
from protocol.manifest import Chunk, InstanceItem, Manifest

ATTEMPTS: Final = 4
"""How often one chunk may arrive wrong: chance does not repeat itself that often, so the origin's
copy is damaged."""

NOTE_BYTES: Final = 32 * 1024 * 1024
"""Bytes written between two notes of progress: a note costs two syncs, and this much is fetched
again after a crash at most."""

Fetch: TypeAlias = Callable[[bytes, int, int], AsyncGenerator[bytes, None]]
"""pack id, start, end (not included) -> these bytes of ciphertext in parts, or an exception."""

Look: TypeAlias = Callable[[Sequence[InstanceItem]], None]
"""Looks at instances all of whose chunks are here; blocks on the disk, and raises nothing."""

LOOKED_AT: Final = 16
"""Instances looked at with one hop to another thread: a hop costs about as much as a small one."""

_INTERRUPTED: Final = (
    "This study is still arriving, and its retrieval was interrupted before this part came. It "
    "goes on by itself; ask again in a moment."
)

Note: TypeAlias = Callable[[Mapping[bytes, bytes], int], Awaitable[None]]
"""Makes bitmaps (by pack id) and the count of verified bytes durable."""


class _Cut:
    """Cuts the bytes of a piece into its chunks, as they come; `left` are those still to come."""

    def __init__(self, piece: Piece) -> None:
        self.left = deque(piece.chunks)
        self._rest = bytearray()

    def feed(self, part: bytes) -> Iterator[tuple[Chunk, memoryview]]:
        """Yield each chunk that is complete with `part`, and its bytes."""
        view = memoryview(part)
        if self._rest and self.left:
            lacking = self.left[0].length - len(self._rest)
            self._rest += view[:lacking]
            view = view[lacking:]
            if len(self._rest) < self.left[0].length:
                return
            yield self.left.popleft(), memoryview(self._rest)
        while self.left and len(view) >= self.left[0].length:
            chunk = self.left.popleft()
            yield chunk, view[: chunk.length]
            view = view[chunk.length :]
        self._rest = bytearray(view)


class _UnderWay:
    """Knows which instance each chunk that comes completes, if any; `complete`: how many are."""

    def __init__(self, manifest: Manifest) -> None:
        self._items: dict[bytes, list[InstanceItem]] = {pack_id: [] for pack_id in manifest.packs}
        for item in manifest.instances:
            self._items[manifest.packs[item.pack]].append(item)
        for those in self._items.values():
            those.sort(key=_first_chunk)
        self._lacking: dict[tuple[bytes, int], int] = {}
        self.complete = 0

    def begin(self, here: Mapping[bytes, Bitmap]) -> None:
        """Count what each instance lacks of which some chunks are here."""
        for pack_id, items in self._items.items():
            for item in items:
                lacking = sum(chunk.number not in here[pack_id] for chunk in item.chunks)
                self._lacking[pack_id, item.first_chunk] = lacking
                self.complete += not lacking

    def completed(self, pack_id: bytes, number: int) -> InstanceItem | None:
        """Note that a chunk has come; return the instance whose last one it was."""
        items = self._items[pack_id]
        item = items[bisect_right(items, number, key=_first_chunk) - 1]
        self._lacking[pack_id, item.first_chunk] -= 1
        if self._lacking[pack_id, item.first_chunk]:
            return None
        self.complete += 1
        return item


def _first_chunk(item: InstanceItem) -> int:
    return item.first_chunk


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
        self._wishes = Wishes()
        self._attempts: Counter[tuple[bytes, int]] = Counter()
        self._unnoted = 0
        self._noting = asyncio.Lock()
        self._under_way = _UnderWay(manifest)
        self._arrived: deque[InstanceItem] = deque()
        self._stirred = asyncio.Event()
        self._all_came = False

    @property
    def arriving(self) -> frozenset[bytes]:
        """The packs that are received; the others are whole already."""
        return frozenset(self.chunks) - self._whole

    @property
    def complete_instances(self) -> int:
        """How many instances are here as a whole."""
        return self._under_way.complete

    async def open(self, bitmaps: Mapping[bytes, bytes]) -> None:
        """Open the packs and believe of the bitmaps what the bytes on the disk confirm."""
        await asyncio.to_thread(self._open, bitmaps)
        self._queue.extend(missing_pieces(self.chunks, self._here))
        self._under_way.begin(self._here)

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

    async def run(self, fetch: Fetch, parallel: int, look: Look) -> None:
        """Fetch everything that is missing, `parallel` pieces at a time.

        Meanwhile `look` is shown each instance that is complete.  Raises what `fetch` raises, and
        WrongContent if a chunk stays wrong.  However it ends, what has arrived is noted.
        """
        workers = [asyncio.create_task(self._work(fetch)) for _ in range(parallel)]
        # As many more for what somebody waits for: they would wait for a piece of the others.
        granting = [asyncio.create_task(self._grant_wishes(fetch)) for _ in range(parallel)]
        looking = asyncio.create_task(self._show(look))
        over: Exception = NodeError(_INTERRUPTED)
        try:
            await _all_of(workers, granting)
            self._all_came = True
            self._stirred.set()
            await looking
        except Refusal as refusal:
            over = refusal
            raise
        finally:
            self._wishes.end(over)
            await _cancelled(*workers, *granting, looking)
            await self._make_note()

    async def first(self, pack_id: bytes, chunks: Sequence[Chunk]) -> None:
        """Have these chunks fetched before all others; return when they are here, verified.

        Raises the Refusal that the transfer ended with, though they are here; NodeError if it ends
        otherwise without them.
        """
        if isinstance(self._wishes.over, Refusal):
            raise self._wishes.over
        lacking = [chunk for chunk in chunks if chunk.number not in self._here[pack_id]]
        if lacking:
            await self._wishes.granted(missing_pieces({pack_id: tuple(lacking)}, self._here))

    async def _show(self, look: Look) -> None:
        while self._arrived or not self._all_came:
            await self._stirred.wait()
            self._stirred.clear()
            while self._arrived:
                some = [self._arrived.popleft() for _ in range(min(LOOKED_AT, len(self._arrived)))]
                await asyncio.to_thread(look, some)

    async def _work(self, fetch: Fetch) -> None:
        while self._queue:
            # Some of it may have come meanwhile, because somebody waited for it.
            popped = self._queue.popleft()
            pieces = list(missing_pieces({popped.pack_id: popped.chunks}, self._here))
            self._queue.extendleft(reversed(pieces[1:]))
            for piece in pieces[:1]:
                await self._bring(fetch, piece, self._queue, self._wishes.rest)

    async def _grant_wishes(self, fetch: Fetch) -> None:
        while True:
            piece = await self._wishes.next()
            await self._bring(fetch, piece, self._wishes.queue, None)

    async def _bring(
        self,
        fetch: Fetch,
        piece: Piece,
        queue: deque[Piece],
        pause: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """Fetch a piece; what of it does not come goes back to `queue`."""
        cut = _Cut(piece)
        try:
            async with aclosing(fetch(piece.pack_id, piece.start, piece.end)) as parts:
                async for part in parts:
                    for chunk, data in cut.feed(part):
                        self._take(piece.pack_id, chunk, data)
                    if self._unnoted >= NOTE_BYTES:
                        await self._make_note()
                    if pause is not None:
                        await pause()
        finally:
            if cut.left:
                queue.appendleft(Piece(piece.pack_id, tuple(cut.left)))

    def _take(self, pack_id: bytes, chunk: Chunk, data: memoryview) -> None:
        if chunk.number in self._here[pack_id]:
            return  # It came first because somebody waited for it.
        if plain_hash(data) == chunk.hash:
            self._receivers[pack_id].write_at(chunk.offset, data)
            self._mark(pack_id, chunk)
            self._wishes.came(pack_id, chunk.number)
            self._unnoted += chunk.length
            item = self._under_way.completed(pack_id, chunk.number)
            if item is not None:
                self._arrived.append(item)
                self._stirred.set()
        else:
            self._again(pack_id, chunk)

    def _again(self, pack_id: bytes, chunk: Chunk) -> None:
        self.wrong_chunks += 1
        self._attempts[pack_id, chunk.number] += 1
        if self._attempts[pack_id, chunk.number] >= ATTEMPTS:
            raise WrongContent(f"a chunk arrived {ATTEMPTS} times with other bytes than promised")
        piece = Piece(pack_id, (chunk,))
        self._queue.append(piece)
        self._wishes.again(piece)

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


async def _all_of(wanted: Sequence[asyncio.Task[None]], more: Sequence[asyncio.Task[None]]) -> None:
    """Return when all that is wanted is done; raise what ends any of these tasks before."""
    pending = {*wanted, *more}
    while not all(task.done() for task in wanted):
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
