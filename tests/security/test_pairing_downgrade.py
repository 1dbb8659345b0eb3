"""Someone in between rewrites the version that two newer sides offer each other into an old one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol import pairing
from protocol.agreement import Terms
from protocol.errors import BadSignature
from protocol.invitation import Invitation
from protocol.keyrecord import KeyRecord, sign_record
from protocol.nodekeys import only_key
from protocol.pairing import Side, begin_join, open_offer, receive_join, receive_joined
from protocol.records import to_bytes
from protocol.signing import public_key

NOW = 1_800_000_000
URL = "https://h.example:8441"


def side(number):
    root = bytes([number]) * 32
    record = KeyRecord(
        version=1,
        peer_id=public_key(root),
        revision=1,
        facility_name=f"Facility {number}",
        node_keys=only_key(public_key(bytes([number, 1]) * 16)),
        seal_public=bytes([number]) * 32,
        tls_certificate=b"certificate",
        federation_url=URL,
        pairing_url=URL,
        issued_at=NOW,
        renew_by=NOW,
    )
    return Side(sign_record(root, record), to_bytes(Terms()))


ALICE, BOB = side(1), side(2)
INVITATION = Invitation(1, public_key(bytes([1]) * 32), b"s" * 16, NOW + 600, (URL,))


def offered_as(version, monkeypatch):
    """Let what follows be said by a release of this version."""
    monkeypatch.setattr(pairing, "PROTOCOL_VERSION", version)


def test_a_join_of_a_newer_version_does_not_pass_for_an_older_one(monkeypatch):
    offered_as(2, monkeypatch)
    join = begin_join(INVITATION, BOB, b"j" * 32)
    offered_as(1, monkeypatch)
    with pytest.raises(BadSignature):
        receive_join(open_offer(INVITATION), replace(join, version=1), ALICE, b"i" * 32, NOW)


def test_nor_does_its_answer(monkeypatch):
    join = begin_join(INVITATION, BOB, b"j" * 32)
    _, joined = receive_join(open_offer(INVITATION), join, ALICE, b"i" * 32, NOW)
    offered_as(2, monkeypatch)
    seed = bytes([2, 1]) * 16
    with pytest.raises(BadSignature):
        receive_joined(INVITATION, join, b"j" * 32, replace(joined, version=2), seed, NOW)
