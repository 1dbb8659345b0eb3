"""What was appended and synced comes back; what was torn, swapped or altered does not."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peer.errors import Conflict, Damaged, NodeError, StorageFull
from peer.store import (
    Store,
    new_key,
    unwrap,
    unwrap_pack_key,
    unwrap_study_key,
    wrap,
    wrap_pack_key,
    wrap_study_key,
)
from protocol.hashing import plain_hash
from protocol.limits import CHUNK_PLAIN_BYTES
from protocol.manifest import CHUNK_BYTES, lay_out

LENGTHS = st.one_of(
    st.integers(1, 300),
    st.sampled_from(
        [
            CHUNK_PLAIN_BYTES - 1,
            CHUNK_PLAIN_BYTES,
            CHUNK_PLAIN_BYTES + 1,
            8 * CHUNK_PLAIN_BYTES,
            8 * CHUNK_PLAIN_BYTES + 1,
        ]
    ),
)


def content(length: int, seed: int = 0) -> bytes:
    return (seed.to_bytes(4, "big") + os.urandom(64)) * (length // 68 + 1)


def instance(length: int, seed: int = 0) -> bytes:
    return content(length, seed)[:length]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@given(lengths=st.lists(LENGTHS, min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_what_was_appended_is_read_back(store, lengths):
    writer = store.new_pack()
    placed = []
    for number, length in enumerate(lengths):
        data = instance(length, number)
        placed.append((data, writer.append(data)))
    writer.sync()
    writer.close()
    assert store.sizes()[writer.pack_id] == writer.size
    for data, chunks in placed:
        assert store.read(writer.pack_id, writer.key, chunks) == data
        assert b"".join(store.pieces(writer.pack_id, writer.key, chunks)) == data
        hashes = tuple(chunk.hash for chunk in chunks)
        assert lay_out(chunks[0].number, chunks[0].offset, len(data), hashes) == chunks, (
            "a manifest would place the chunks elsewhere than the store did"
        )
        for chunk in chunks:
            ciphertext = store.read_range(writer.pack_id, chunk.offset, chunk.length)
            assert plain_hash(ciphertext) == chunk.hash
    numbers = [chunk.number for _, chunks in placed for chunk in chunks]
    assert numbers == list(range(len(numbers))), "a number, hence a nonce, was used twice"


def test_no_plain_byte_is_on_the_disk(store, tmp_path):
    secret = b"DOE^JANE" * 100_000
    writer = store.new_pack()
    writer.append(secret)
    writer.sync()
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert b"DOE^JANE" not in path.read_bytes()
            assert path.stat().st_mode & 0o077 == 0


def flip(store, writer, position):
    path = store._packs / writer.pack_id.hex()
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("position", [0, 100, CHUNK_BYTES - 1, CHUNK_BYTES, -1])
def test_an_altered_byte_is_noticed(store, position):
    writer = store.new_pack()
    chunks = writer.append(instance(2 * CHUNK_PLAIN_BYTES))
    writer.sync()
    flip(store, writer, position)
    with pytest.raises(Damaged):
        store.read(writer.pack_id, writer.key, chunks)


def test_chunks_cannot_change_places_or_be_dropped(store):
    writer = store.new_pack()
    first, second, third = writer.append(instance(3 * CHUNK_PLAIN_BYTES))
    writer.sync()
    for wrong in (
        (first, replace(second, number=2)),
        (first, replace(second, last=True)),
        (first, replace(third, number=1)),
        (first, second, replace(third, last=False)),
    ):
        with pytest.raises(Damaged, match="damaged"):
            store.read(writer.pack_id, writer.key, wrong)


def test_a_chunk_of_another_pack_does_not_decrypt(store):
    one, other = store.new_pack(), store.new_pack()
    (chunk,) = one.append(b"one")
    other.append(b"two")
    for writer in (one, other):
        writer.sync()
    with pytest.raises(Damaged):
        store.read(other.pack_id, one.key, [chunk])


def test_a_torn_tail_is_cut_and_a_missing_one_is_reported(store):
    writer = store.new_pack()
    chunks = writer.append(instance(1000))
    writer.sync()
    durable = writer.size
    writer.append(instance(5000))
    writer.close()
    store.cut(writer.pack_id, durable)
    assert store.sizes()[writer.pack_id] == durable
    assert len(store.read(writer.pack_id, writer.key, chunks)) == 1000
    store.cut(writer.pack_id, durable)
    with pytest.raises(Damaged):
        store.cut(writer.pack_id, durable + 1)


def test_after_a_failed_write_the_pack_takes_nothing_more(store, monkeypatch):
    writer = store.new_pack()
    kept = writer.append(b"kept")

    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFull):
        writer.append(instance(CHUNK_PLAIN_BYTES))
    monkeypatch.undo()
    with pytest.raises(NodeError, match="new one"):
        writer.append(b"more")
    writer.sync()
    assert not writer.usable
    assert store.read(writer.pack_id, writer.key, kept) == b"kept"


def test_after_a_failed_sync_the_pack_takes_nothing_more(store, monkeypatch):
    writer = store.new_pack()
    writer.append(b"lost")

    def broken(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(NodeError):
        writer.sync()
    monkeypatch.undo()
    assert not writer.usable


def test_a_destroyed_pack_is_gone(store):
    writer = store.new_pack()
    chunks = writer.append(b"bytes")
    writer.sync()
    writer.close()
    store.destroy(writer.pack_id)
    store.destroy(writer.pack_id)
    assert writer.pack_id not in store.sizes()
    with pytest.raises(Damaged, match="not on the disk"):
        store.read(writer.pack_id, writer.key, chunks)


def test_a_pack_is_received_in_any_order_and_after_a_restart(store):
    origin = store.new_pack()
    data = instance(3 * CHUNK_PLAIN_BYTES + 7)
    chunks = origin.append(data)
    origin.sync()
    pieces = [(c.offset, store.read_range(origin.pack_id, c.offset, c.length)) for c in chunks]
    recipient = Store(store._packs.parent.parent / "recipient")
    receiver = recipient.receive(origin.pack_id, origin.size)
    for offset, piece in pieces[2:]:
        receiver.write_at(offset, piece)
    receiver.sync()
    receiver.close()
    assert recipient.incoming() == {origin.pack_id: origin.size}
    assert origin.pack_id not in recipient.sizes(), "half a pack passes for a whole one"
    receiver = recipient.receive(origin.pack_id, origin.size)
    assert receiver.read_at(*(pieces[3][0], len(pieces[3][1]))) == pieces[3][1]
    for offset, piece in pieces[:2]:
        receiver.write_at(offset, piece)
    receiver.finish()
    assert recipient.incoming() == {}
    assert recipient.read(origin.pack_id, origin.key, chunks) == data


def test_a_received_pack_never_takes_the_place_of_another(store):
    own = store.new_pack()
    chunks = own.append(b"ours")
    own.sync()
    with pytest.raises(Conflict):
        store.receive(own.pack_id, 100)
    with pytest.raises(ValueError, match="16 bytes"):
        store.receive(b"../../escaped", 1)
    assert store.read(own.pack_id, own.key, chunks) == b"ours"


def test_a_piece_outside_its_pack_is_refused(store):
    receiver = store.receive(bytes(16), 10)
    with pytest.raises(ValueError, match="outside"):
        receiver.write_at(5, b"123456")
    with pytest.raises(ValueError, match="outside"):
        receiver.write_at(-1, b"1")
    receiver.close()


def test_wrapped_keys_open_only_for_what_they_are_for():
    store_key, study_key, pack_key = new_key(), new_key(), new_key()
    wrapped = wrap_study_key(store_key, study_key, "1.2.3")
    assert unwrap_study_key(store_key, wrapped, "1.2.3") == study_key
    assert wrap_study_key(store_key, study_key, "1.2.3") != wrapped, "a nonce was used twice"
    with pytest.raises(Damaged):
        unwrap_study_key(store_key, wrapped, "1.2.4")
    with pytest.raises(Damaged):
        unwrap_study_key(new_key(), wrapped, "1.2.3")
    inner = wrap_pack_key(study_key, pack_key, bytes(16))
    assert unwrap_pack_key(study_key, inner, bytes(16)) == pack_key
    with pytest.raises(Damaged):
        unwrap_pack_key(study_key, inner, bytes([1]) * 16)
    with pytest.raises(Damaged):
        unwrap(store_key, b"short", b"")
    assert unwrap(store_key, wrap(store_key, b"s", b"c"), b"c") == b"s"
