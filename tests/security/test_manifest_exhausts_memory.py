"""Eve signs a manifest of a few hundred bytes that makes whoever believes it set aside gigabytes.

A recipient keeps one bit for each chunk number of a pack and reserves the pack's bytes on its disk;
both follow from two numbers that the origin chooses.
"""

from __future__ import annotations

import pytest

from protocol.errors import Malformed
from protocol.limits import CHUNK_TAG_BYTES, PACK_CHUNKS
from protocol.manifest import CHUNK_BYTES, InstanceItem, Manifest, read_manifest
from protocol.records import to_bytes


def placed(first_chunk, offset):
    item = InstanceItem(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3",
        series_instance_uid="1.2.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        length=1000,
        content_hash=bytes(32),
        pack=0,
        first_chunk=first_chunk,
        offset=offset,
        chunk_hashes=(bytes(32),),
    )
    return to_bytes(Manifest(1, "1.2.5", (bytes(16),), (item,)))


@pytest.mark.parametrize(
    ("first_chunk", "offset"),
    [
        (2**62, 0),  # 512 PiB of bitmap
        (PACK_CHUNKS, PACK_CHUNKS * CHUNK_BYTES),
        (0, 2**40),  # 1 TiB of disk for the first chunk
        (1, CHUNK_BYTES + 1),
        (PACK_CHUNKS - 1, 0),  # more chunks than bytes
    ],
)
def test_a_chunk_lies_where_the_chunks_before_it_can_have_put_it(first_chunk, offset):
    with pytest.raises(Malformed):
        read_manifest(placed(first_chunk, offset))


@pytest.mark.parametrize(
    ("first_chunk", "offset"),
    [
        (0, 0),
        (1, CHUNK_TAG_BYTES + 1),
        (PACK_CHUNKS - 1, (PACK_CHUNKS - 1) * CHUNK_BYTES),
    ],
)
def test_every_place_that_a_writer_can_reach_is_believed(first_chunk, offset):
    assert read_manifest(placed(first_chunk, offset)).instances[0].offset == offset
