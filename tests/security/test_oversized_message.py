"""Attack: messages too large, too deep or too many, to exhaust a node before it can refuse."""

from __future__ import annotations

import msgpack
import pytest

from protocol.entries import Entry, EntryKind, SignedBatch
from protocol.errors import Malformed, Oversized, RemoteProtocolError
from protocol.limits import BATCH_ENTRIES, ENTRY_BODY_BYTES, HAVE_ORIGINS, MESSAGE_BYTES
from protocol.messages import Kind, Want, decode, encode, registered


def frame(name, body, kind=Kind.TELL):
    return msgpack.packb([int(kind), 0, name, body])


def test_a_frame_over_the_bound_is_refused_before_it_is_parsed():
    with pytest.raises(Oversized):
        decode(b"\xff" * (MESSAGE_BYTES + 1))


def test_every_message_over_its_own_bound_is_refused_before_it_is_parsed():
    for name, (_, limit) in registered().items():
        with pytest.raises(Oversized, match=name):
            decode(frame(name, b"\xc1" * (limit + 1)))


def test_every_bound_fits_into_a_frame():
    for name, (_, limit) in registered().items():
        assert len(frame(name, bytes(limit))) <= MESSAGE_BYTES, name


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",  # An array that claims four billion items.
        b"\xc6\xff\xff\xff\xff",  # Bytes that claim four gigabytes.
        b"\xdf\x7f\xff\xff\xff",
        b"\x91" * 100_000,  # A hundred thousand arrays within each other.
        msgpack.packb([3, 0, "want", b""]) + b"\x00",  # Something behind the end.
        b"",
    ],
    ids=["array", "bytes", "map", "depth", "tail", "nothing"],
)
def test_bytes_that_claim_more_than_they_are_end_in_a_refusal(data):
    with pytest.raises(RemoteProtocolError):
        decode(data)


def batches(entries):
    batch = [b"header", bytes(64), entries]
    return frame("batches", msgpack.packb([bytes(32), [batch], False, None]))


def test_a_body_over_its_bound_is_refused():
    entry = [1, bytes(16), 0, bytes(16), bytes(ENTRY_BODY_BYTES)]
    _, message = decode(batches([entry]))
    assert message.batches == (
        SignedBatch(b"header", bytes(64), (Entry(1, bytes(16), 0, bytes(16), entry[4]),)),
    )
    entry[4] += b"."
    with pytest.raises(Malformed, match="payload"):
        decode(batches([entry]))


def test_too_many_entries_are_refused():
    entry = [1, bytes(16), int(EntryKind.WITHDRAWAL), b"", b""]
    decode(batches([entry] * BATCH_ENTRIES))
    with pytest.raises(Malformed, match="entries"):
        decode(batches([entry] * (BATCH_ENTRIES + 1)))


def test_too_many_origins_are_refused():
    from protocol.messages import HaveBody
    from protocol.records import from_bytes

    head = [bytes(32), 0, 0, bytes(32), 0]
    body = [bytes(32), bytes(32), 0, [head] * (HAVE_ORIGINS + 1)]
    with pytest.raises(Malformed, match="heads"):
        from_bytes(HaveBody, msgpack.packb(body), MESSAGE_BYTES)


def test_a_message_that_we_make_too_large_never_leaves():
    from protocol.errors import LocalProtocolError
    from protocol.messages import Batches

    entry = Entry(1, bytes(16), EntryKind.PUBLISHED, bytes(16), bytes(ENTRY_BODY_BYTES))
    batch = SignedBatch(b"header", bytes(64), (entry,) * 300)
    with pytest.raises(LocalProtocolError, match="bound"):
        encode(Batches(bytes(32), (batch,), more=False), Kind.TELL)
    assert decode(encode(Want(bytes(32), 0, 0), Kind.TELL))[1] == Want(bytes(32), 0, 0)
