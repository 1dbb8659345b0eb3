"""Which chunks make up a study, which of them are here, and in what pieces to ask for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from protocol.limits import PIECE_BYTES
from protocol.manifest import Chunk, Manifest

RANGE_BYTES: Final = 8 * PIECE_BYTES
"""Asked for with one request: long enough that requests cost nothing beside what they bring, short
enough that several are under way at once of a study of ordinary size."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Adjacent chunks of one pack, fetched with one request."""

    pack_id: bytes
    chunks: tuple[Chunk, ...]

    @property
    def start(self) -> int:
        """Offset of its first byte in the pack."""
        return self.chunks[0].offset

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.chunks[-1].offset + self.chunks[-1].length


class Bitmap:
    """A set of chunk numbers: bit n stands for chunk n, low bit first."""

    def __init__(self, data: bytes = b"") -> None:
        self._bits = bytearray(data)

    def __contains__(self, number: int) -> bool:
        byte, bit = divmod(number, 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    def add(self, number: int) -> None:
        """Put a chunk in."""
        byte, bit = divmod(number, 8)
        self._bits.extend(bytes(max(0, byte + 1 - len(self._bits))))
        self._bits[byte] |= 1 << bit

    def discard(self, number: int) -> None:
        """Take a chunk out, if it is in."""
        byte, bit = divmod(number, 8)
        if byte < len(self._bits):
            self._bits[byte] &= ~(1 << bit)

    def __bytes__(self) -> bytes:
        return bytes(self._bits)


def chunks_of(manifest: Manifest) -> dict[bytes, tuple[Chunk, ...]]:
    """Return the chunks of each pack of a manifest, in the order of the pack."""
    found: dict[bytes, list[Chunk]] = {pack_id: [] for pack_id in manifest.packs}
    for item in manifest.instances:
        found[manifest.packs[item.pack]].extend(item.chunks)
    return {
        pack_id: tuple(sorted(chunks, key=lambda chunk: chunk.offset))
        for pack_id, chunks in found.items()
    }


def end_of(chunks: tuple[Chunk, ...]) -> int:
    """Return how many bytes of a pack its chunks reach: what a manifest lets anyone read of it."""
    return chunks[-1].offset + chunks[-1].length if chunks else 0


def ends_of(manifest: Manifest) -> dict[bytes, int]:
    """Return how many bytes of each pack a manifest lets anyone read."""
    return {pack_id: end_of(chunks) for pack_id, chunks in chunks_of(manifest).items()}


def missing_pieces(
    chunks: Mapping[bytes, tuple[Chunk, ...]], here: Mapping[bytes, Bitmap]
) -> Iterator[Piece]:
    """Yield pieces of at most RANGE_BYTES (or one chunk) that together are all that is missing."""
    for pack_id, those in chunks.items():
        missing = [chunk for chunk in those if chunk.number not in here[pack_id]]
        yield from (Piece(pack_id, run) for run in _runs(missing))


def _runs(chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, ...]]:
    run: list[Chunk] = []
    for chunk in chunks:
        adjacent = bool(run) and run[-1].offset + run[-1].length == chunk.offset
        if run and not (adjacent and chunk.offset + chunk.length - run[0].offset <= RANGE_BYTES):
            yield tuple(run)
            run = []
        run.append(chunk)
    if run:
        yield tuple(run)
