"""Pieces cover exactly what is missing; a bitmap is a set of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.retrieve.chunks import RANGE_BYTES, Bitmap, chunks_of, end_of, missing_pieces
from protocol.limits import CHUNK_PLAIN_BYTES
from protocol.manifest import CHUNK_BYTES, InstanceItem, Manifest

lengths = st.lists(st.integers(1, 6 * CHUNK_PLAIN_BYTES), min_size=1, max_size=12)


def manifest_of(packs):
    """Return a manifest of packs, each given by the lengths of its instances."""
    instances = []
    for pack, its in enumerate(packs):
        number = offset = 0
        for length in its:
            count = -(-length // CHUNK_PLAIN_BYTES)
            item = InstanceItem(
                sop_class_uid="1.2",
                sop_instance_uid=f"1.3.{len(instances)}",
                series_instance_uid="1.4",
                transfer_syntax_uid="1.5",
                length=length,
                content_hash=bytes(32),
                pack=pack,
                first_chunk=number,
                offset=offset,
                chunk_hashes=(bytes(32),) * count,
            )
            instances.append(item)
            number += count
            offset += length + count * (CHUNK_BYTES - CHUNK_PLAIN_BYTES)
    ids = tuple(bytes([pack]) * 16 for pack in range(len(packs)))
    return Manifest(1, "1.2.3", ids, tuple(instances))


@given(st.lists(lengths, min_size=1, max_size=3), st.data())
def test_pieces_are_exactly_what_is_missing_and_never_too_long(packs, data):
    chunks = chunks_of(manifest_of(packs))
    here = {pack_id: Bitmap() for pack_id in chunks}
    for pack_id, those in chunks.items():
        for chunk in data.draw(st.sets(st.sampled_from(those))):
            here[pack_id].add(chunk.number)
    asked = set()
    for piece in missing_pieces(chunks, here):
        assert piece.end - piece.start <= RANGE_BYTES
        at = piece.start
        for chunk in piece.chunks:
            assert chunk.offset == at, "a piece has a gap"
            at += chunk.length
            assert (piece.pack_id, chunk.number) not in asked, "a chunk is asked for twice"
            asked.add((piece.pack_id, chunk.number))
        assert at == piece.end <= end_of(chunks[piece.pack_id])
    missing = {
        (pack_id, chunk.number)
        for pack_id, those in chunks.items()
        for chunk in those
        if chunk.number not in here[pack_id]
    }
    assert asked == missing


def test_small_instances_share_a_request():
    chunks = chunks_of(manifest_of([[1000] * 500]))
    pieces = list(missing_pieces(chunks, {pack_id: Bitmap() for pack_id in chunks}))
    assert len(pieces) == 1


@given(st.sets(st.integers(0, 300)), st.sets(st.integers(0, 300)))
def test_a_bitmap_is_a_set_that_survives_being_written_down(added, taken):
    bitmap = Bitmap()
    for number in added:
        bitmap.add(number)
    for number in taken:
        bitmap.discard(number)
    read = Bitmap(bytes(bitmap))
    assert {number for number in range(320) if number in read} == added - taken


def test_an_empty_pack_ends_where_it_begins():
    assert end_of(()) == 0
