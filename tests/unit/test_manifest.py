"""A manifest describes whole instances only, and its root commits to every byte of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import BadSignature, Malformed, WrongContent
from protocol.limits import CHUNK_PLAIN_BYTES
from protocol.manifest import (
    CHUNK_BYTES,
    DOMAIN,
    InstanceItem,
    Manifest,
    check,
    chunk_count,
    lay_out,
    open_manifest,
    read_manifest,
    root,
    sign_manifest,
)
from protocol.records import to_bytes
from protocol.signing import public_key, sign

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "manifest.json").read_text(encoding="utf-8")
)
SEED = bytes(range(32))


def item(number: int = 1, **changes) -> InstanceItem:
    values = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "sop_instance_uid": f"1.2.3.{number}",
        "series_instance_uid": "1.2.4",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "length": 1000,
        "content_hash": bytes([number]) * 32,
        "pack": 0,
        "first_chunk": number,
        "offset": number * CHUNK_BYTES,
        "chunk_hashes": (bytes([number + 100]) * 32,),
    } | changes
    return InstanceItem(**values)


def manifest(*items: InstanceItem, packs: int = 1) -> Manifest:
    return Manifest(1, "1.2.5", tuple(bytes([n]) * 16 for n in range(packs)), items)


def signed(value: Manifest):
    return sign_manifest(value, lambda data: sign(SEED, DOMAIN, data))


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_golden_vectors(vector):
    data = bytes.fromhex(vector["manifest"])
    value = read_manifest(data)
    assert to_bytes(value) == data
    assert root(value).hex() == vector["root"]
    assert len(value.instances) == vector["instances"]


@given(st.integers(1, 5 * CHUNK_PLAIN_BYTES), st.integers(0, 2**40), st.integers(0, 2**40))
def test_chunks_cover_an_instance_without_gap_or_overlap(length, first, offset):
    count = chunk_count(length)
    chunks = lay_out(first, offset, length, tuple(bytes(32) for _ in range(count)))
    assert [chunk.number for chunk in chunks] == list(range(first, first + count))
    for before, after in pairwise(chunks):
        assert before.offset + before.length == after.offset
        assert before.length == CHUNK_BYTES
    assert sum(chunk.length - 16 for chunk in chunks) == length
    assert [chunk.last for chunk in chunks] == [False] * (count - 1) + [True]


def test_the_root_changes_with_every_part():
    value = manifest(item(1), item(2), packs=2)
    roots = {root(value)}
    one, two = value.instances
    for changed in (
        replace(value, version=2),
        replace(value, study_instance_uid="1.2.6"),
        replace(value, packs=value.packs[::-1]),
        replace(value, instances=(two, one)),
        replace(value, instances=(one,)),
        *(
            replace(value, instances=(replace(one, **change), two))
            for change in (
                {"sop_class_uid": "1.2"},
                {"sop_instance_uid": "1.2"},
                {"series_instance_uid": "1.2"},
                {"transfer_syntax_uid": "1.2"},
                {"length": 999},
                {"content_hash": bytes(32)},
                {"pack": 1},
                {"first_chunk": 0},
                {"offset": 5},
                {"chunk_hashes": (bytes(32),)},
            )
        ),
    ):
        assert root(changed) not in roots, "two different manifests share a root"
        roots.add(root(changed))


@pytest.mark.parametrize(
    "bad",
    [
        manifest(item(1, sop_instance_uid="../../etc/passwd")),
        manifest(item(1, series_instance_uid="1.2/3")),
        manifest(item(1), item(1, first_chunk=9, offset=9 * CHUNK_BYTES)),
        manifest(item(1, pack=1)),
        manifest(item(1, chunk_hashes=(bytes(32), bytes(32)))),
        manifest(item(1, length=CHUNK_PLAIN_BYTES + 1)),
        manifest(item(1), item(2, first_chunk=1)),
        manifest(item(1), item(2, offset=CHUNK_BYTES + 3)),
        replace(manifest(item(1)), study_instance_uid="x"),
        replace(manifest(item(1)), packs=(bytes(16), bytes(16))),
    ],
)
def test_an_impossible_manifest_is_refused(bad):
    with pytest.raises(Malformed):
        check(bad)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_malformed(data):
    try:
        value = read_manifest(data)
    except Malformed:
        return
    check(value)


def test_only_the_promised_manifest_of_the_origin_opens():
    value = manifest(item(1), item(2))
    key = public_key(SEED)
    assert open_manifest(signed(value), key, root(value)) == value
    with pytest.raises(WrongContent):
        open_manifest(signed(manifest(item(1))), key, root(value))
    with pytest.raises(BadSignature):
        open_manifest(signed(value), public_key(bytes(32)), root(value))
