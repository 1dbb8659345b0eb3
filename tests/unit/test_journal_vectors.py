"""The golden vectors of docs/protocol/journal.md, read twice.

Once by our code, which must produce and judge the very bytes; once by a second reader below, which
was written from the document and shares no line with `protocol`.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import msgpack
import pytest
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.comparison import listed_as
from protocol.entries import (
    Header,
    SignedBatch,
    SignedHeader,
    check_entries,
    hole,
    leaf,
    read_header,
)
from protocol.errors import RemoteProtocolError
from protocol.events import HeldJournal, Received, Refuse, Witness
from protocol.exchange import Exchange
from protocol.forks import ForkProof, place_of, verify_fork
from protocol.identifiers import EntryId, PeerId
from protocol.journal import Publish, Withdraw, append, follow, is_joining
from protocol.limits import BATCH_BYTES
from protocol.messages import Kind, decode, encode
from protocol.nodekeys import only_key
from protocol.records import from_bytes, to_bytes
from protocol.signing import sign

VECTORS = Path(__file__).parents[1] / "vectors"
LEASE_S = 72 * 3600


def vectors(name):
    return json.loads((VECTORS / f"journal-{name}.json").read_text(encoding="utf-8"))


JOURNAL = vectors("batches")
SEED, KEY, ORIGIN = (bytes.fromhex(JOURNAL[n]) for n in ("node_seed", "node_key", "origin"))
BATCHES = [
    from_bytes(SignedBatch, bytes.fromhex(each["batch"]), BATCH_BYTES)
    for each in JOURNAL["batches"]
]


class Copy:
    """What is held after some of the batches."""

    def __init__(self, batches=()):
        self.head, self.standings, self.batches, self.bare = None, {}, [], 0
        for batch in batches:
            self.follow(batch)

    def find(self, entry_id):
        return self.standings.get(entry_id)

    def epoch(self, number):
        return None

    def live_below(self, seq):
        return sum(1 for s in self.standings.values() if s.leaf is not None and s.seq < seq)

    def live(self):
        return [(key, s) for key, s in self.standings.items() if s.leaf is not None]

    def bare_through(self):
        return self.bare

    def header(self, batch):
        return self.batches[batch].signed_header if 0 <= batch < len(self.batches) else None

    def take(self, advance):
        self.head = advance.head
        self.standings.update(advance.standings)
        self.batches.append(advance.batch)
        if advance.bare:
            self.bare = advance.head.last_seq
        return advance

    def follow(self, batch, floor=0):
        return self.take(follow(self.head, batch, ORIGIN, only_key(KEY), self, floor))


# -- our reader -----------------------------------------------------------------------------------


def test_we_sign_the_very_bytes():
    copy = Copy()
    for each, batch in zip(JOURNAL["batches"], BATCHES, strict=True):
        entries = [
            Publish(EntryId(e.entry_id), e.salt, e.payload)
            if e.kind == 0
            else Withdraw(EntryId(e.entry_id))
            for e in batch.entries
        ]
        advance = append(
            copy.head,
            ORIGIN,
            entries,
            copy,
            now=each["header_fields"]["issued_at"],
            lease_s=LEASE_S,
            sign=lambda header: sign(SEED, "header", header),
        )
        assert to_bytes(advance.batch).hex() == each["batch"], each["name"]
        copy.take(advance)


def test_we_follow_it():
    copy = Copy()
    for each, batch in zip(JOURNAL["batches"], BATCHES, strict=True):
        advance = copy.follow(batch)
        assert advance.head.header_hash.hex() == each["header_hash"]
        assert sorted(advance.erased) == each["erased"]
        assert [leaf(entry).hex() for entry in batch.entries] == [
            entry["leaf"] for entry in each["entries"]
        ]


def test_we_follow_it_with_its_holes():
    holed = [
        from_bytes(SignedBatch, bytes.fromhex(text), BATCH_BYTES)
        for text in vectors("holes")["batches"]
    ]
    assert Copy(holed).head == Copy(BATCHES).head
    assert holed != BATCHES
    for batch, original in zip(holed, BATCHES, strict=True):
        check_entries(from_bytes(Header, batch.header, 512), tuple(map(hole, original.entries)))


@pytest.mark.parametrize("case", vectors("refused")["cases"], ids=lambda case: case["name"])
def test_we_refuse(case):
    copy = Copy(BATCHES[: case["held"]])
    batch = from_bytes(SignedBatch, bytes.fromhex(case["batch"]), BATCH_BYTES)
    with pytest.raises(RemoteProtocolError) as refused:
        copy.follow(batch)
    assert refused.value.code == case["code"]


def test_we_join_below_a_floor():
    floor_vectors = vectors("floor")
    origin = Copy()
    for each in floor_vectors["batches"]:
        batch = from_bytes(SignedBatch, bytes.fromhex(each["batch"]), BATCH_BYTES)
        advance = origin.follow(batch)
        assert advance.head.header_hash.hex() == each["header_hash"]
        assert advance.head.floor == each["floor"]
    newest = SignedHeader(*(bytes.fromhex(v) for v in floor_vectors["newest"].values()))
    floor = read_header(newest, ORIGIN, only_key(KEY)).floor
    newcomer = Copy()
    for text, joining in zip(
        floor_vectors["to_a_newcomer"], floor_vectors["joining_after"], strict=True
    ):
        newcomer.follow(from_bytes(SignedBatch, bytes.fromhex(text), BATCH_BYTES), floor)
        assert is_joining(newcomer.head, newcomer.bare) == joining
    assert newcomer.head == origin.head
    assert [
        {"entry_id": key.hex(), "seq": stands.seq, "leaf": stands.leaf.hex()}
        for key, stands in newcomer.live()
    ] == floor_vectors["live_after"]


def test_we_speak_the_very_frames():
    exchange = vectors("exchange")
    for name, text in exchange["frames"].items():
        frame, message = decode(bytes.fromhex(text))
        assert frame.name == name
        assert encode(message, Kind(frame.kind), frame.id).hex() == text
    _, have = decode(bytes.fromhex(exchange["frames"]["have"]))
    me = PeerId(bytes.fromhex(exchange["addressee"]))
    listener = Exchange(
        me,
        PeerId(ORIGIN),
        HeldJournal(None, only_key(me)),
        HeldJournal(None, only_key(KEY)),
        lambda _: bytes(64),
    )
    effects = listener.handle(Received(have), exchange["issued_at"])
    assert isinstance(effects[0], Witness)
    assert not any(isinstance(effect, Refuse) for effect in effects)


@pytest.mark.parametrize("case", vectors("forks")["pairs"], ids=lambda case: case["name"])
def test_we_judge_a_fork(case):
    first, second = (SignedHeader(*map(bytes.fromhex, case[n])) for n in ("first", "second"))
    proof = ForkProof(first, second)
    if case["proves"]:
        assert list(verify_fork(proof, ORIGIN, only_key(KEY))) == case["place"]
        assert list(place_of(proof)) == case["place"]
    else:
        with pytest.raises(RemoteProtocolError):
            verify_fork(proof, ORIGIN, only_key(KEY))


def test_we_speak_of_third_facilities_in_the_very_frames():
    forks = vectors("forks")
    for name, text in forks["frames"].items():
        frame, message = decode(bytes.fromhex(text))
        assert frame.name == name
        assert encode(message, Kind(frame.kind), frame.id).hex() == text
    author, addressee = (PeerId(bytes.fromhex(forks[n])) for n in ("author", "addressee"))
    name = listed_as(author, addressee, PeerId(ORIGIN))
    assert name.hex() == forks["name"]
    _, said = decode(bytes.fromhex(forks["frames"]["origins"]))
    assert said.names == (name,)


# -- a second reader, from the document alone -----------------------------------------------------

FIELDS = [
    "version",
    "origin",
    "epoch",
    "batch",
    "first_seq",
    "last_seq",
    "floor",
    "previous",
    "entries_root",
    "live_count",
    "state_digest",
    "issued_at",
    "fresh_until",
]


class Refused(Exception):
    pass


def h(*parts):
    return blake3(b"".join(parts)).digest()


def u64(number):
    return number.to_bytes(8, "big")


def second_leaf(seq, entry_id, kind, salt, payload):
    if kind == 1:
        return h(b"\x03", u64(seq), entry_id)
    committed = h(b"\x02", salt, payload) if kind == 0 else payload
    return h(b"\x00", u64(seq), entry_id, committed)


def second_root(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else h(b"")
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return h(b"\x01", second_root(leaves[:half]), second_root(leaves[half:]))


class SecondReader:
    def __init__(self):
        self.number, self.last_seq, self.hash = -1, 0, bytes(32)
        self.live, self.ended = {}, set()
        self.bare_through, self.joining = 0, False

    def open(self, signed, signature):
        try:
            Ed25519PublicKey.from_public_bytes(KEY).verify(
                signature, b"openpriors/1 header\0" + signed
            )
        except InvalidSignature as error:
            raise Refused from error
        return dict(zip(FIELDS, msgpack.unpackb(signed), strict=True))

    def follow(self, data, newest=None):
        signed, signature, entries = msgpack.unpackb(data)
        header = self.open(signed, signature)
        live, ended = dict(self.live), set(self.ended)
        below = 0 if newest is None else self.open(*newest)["floor"]
        bare = not entries and header["first_seq"] <= header["last_seq"] < below
        if bare:
            self.bare_through, self.joining = header["last_seq"], True
        for seq, entry_id, kind, salt, payload in entries:
            lengths = {0: (16, len(payload) or -1), 1: (0, 0), 2: (0, 32)}[kind]
            self.check((len(salt), len(payload)) == lengths)
            self.check(entry_id not in ended)
            self.check(kind != 1 or entry_id in live or self.joining)
            live.pop(entry_id, None)
            if kind == 1:
                ended.add(entry_id)
            else:
                live[entry_id] = (seq, second_leaf(seq, entry_id, kind, salt, payload))
        settles = self.joining and header["floor"] > self.bare_through
        if settles:
            live = {key: (seq, leaf) for key, (seq, leaf) in live.items() if seq >= header["floor"]}
            self.joining = False
        digest = sum(int.from_bytes(h(value, u64(seq)), "big") for seq, value in live.values())
        lease = header["fresh_until"] - header["issued_at"]
        first = self.last_seq + 1
        for holds in (
            header["version"] == 1,
            header["origin"] == ORIGIN,
            header["epoch"] == 0,
            header["batch"] == self.number + 1,
            header["previous"] == self.hash,
            header["first_seq"] == first,
            bare or [entry[0] for entry in entries] == list(range(first, header["last_seq"] + 1)),
            bare
            or header["entries_root"] == second_root([second_leaf(*entry) for entry in entries]),
            self.joining or header["live_count"] == len(live),
            self.joining or header["state_digest"] == (digest % 2**256).to_bytes(32, "big"),
            1 <= header["floor"] <= header["last_seq"] + 1,
            self.joining or all(seq >= header["floor"] for seq, _ in live.values()),
            0 < lease <= 30 * 86_400,
        ):
            self.check(holds)
        self.number, self.last_seq = header["batch"], header["last_seq"]
        self.hash, self.live, self.ended = h(b"\x04", signed), live, ended

    def check(self, holds):
        if not holds:
            raise Refused


def test_the_second_reader_knows_the_same_fields():
    assert [field.name for field in fields(Header)] == FIELDS


@pytest.mark.parametrize("holed", [False, True])
def test_the_second_reader_follows_it(holed):
    reader = SecondReader()
    texts = [each["batch"] for each in JOURNAL["batches"]]
    for each, text in zip(
        JOURNAL["batches"], vectors("holes")["batches"] if holed else texts, strict=True
    ):
        reader.follow(bytes.fromhex(text))
        assert reader.hash.hex() == each["header_hash"]
        assert sorted(
            (entry_id.hex(), seq, value.hex()) for entry_id, (seq, value) in reader.live.items()
        ) == [(e["entry_id"], e["seq"], e["leaf"]) for e in each["live_after"]]


def test_the_second_reader_joins_below_a_floor():
    floor_vectors = vectors("floor")
    newest = tuple(bytes.fromhex(each) for each in floor_vectors["newest"].values())
    reader = SecondReader()
    for text, joining in zip(
        floor_vectors["to_a_newcomer"], floor_vectors["joining_after"], strict=True
    ):
        reader.follow(bytes.fromhex(text), newest)
        assert reader.joining == joining
    assert [
        {"entry_id": key.hex(), "seq": seq, "leaf": value.hex()}
        for key, (seq, value) in reader.live.items()
    ] == floor_vectors["live_after"]


@pytest.mark.parametrize("case", vectors("refused")["cases"], ids=lambda case: case["name"])
def test_the_second_reader_refuses(case):
    reader = SecondReader()
    for each in JOURNAL["batches"][: case["held"]]:
        reader.follow(bytes.fromhex(each["batch"]))
    with pytest.raises(Refused):
        reader.follow(bytes.fromhex(case["batch"]))


@pytest.mark.parametrize("case", vectors("forks")["pairs"], ids=lambda case: case["name"])
def test_the_second_reader_judges_a_fork(case):
    def proves(first, second):
        one, two = (SecondReader().open(*each) for each in (first, second))
        same = one["batch"] == two["batch"] and first[0] != second[0]
        unlinked = two["batch"] == one["batch"] + 1 and two["previous"] != h(b"\x04", first[0])
        return one["epoch"] == two["epoch"] and (same or unlinked)

    pair = [tuple(map(bytes.fromhex, case[n])) for n in ("first", "second")]
    try:
        found = proves(*pair)
    except Refused:
        found = False
    assert found == case["proves"]


def test_the_second_reader_knows_whom_a_name_means():
    forks = vectors("forks")
    author, addressee = (bytes.fromhex(forks[n]) for n in ("author", "addressee"))
    assert h(b"\x08", author, addressee, ORIGIN)[:16].hex() == forks["name"]
