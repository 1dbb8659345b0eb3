"""A facility's online keys are those that its root signed last."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import BadSignature, Forked, Malformed, Replayed, UnknownMessage
from protocol.keyrecord import (
    KeyRecord,
    SignedKeyRecord,
    follow_record,
    is_url,
    sign_record,
    verify_record,
)
from protocol.nodekeys import only_key
from protocol.signing import public_key

ALICE, EVE = bytes([1]) * 32, bytes([9]) * 32


def record(**changes):
    fields = {
        "version": 1,
        "peer_id": public_key(ALICE),
        "revision": 1,
        "facility_name": "St. Ansgar",
        "node_keys": only_key(bytes(32)),
        "seal_public": bytes([9]) + bytes(31),
        "tls_certificate": b"der",
        "federation_url": "https://a.example:8441",
        "pairing_url": "",
        "issued_at": 1_700_000_000,
        "renew_by": 1_800_000_000,
    }
    return KeyRecord(**fields | changes)


def test_a_signed_record_verifies_for_its_facility():
    signed = sign_record(ALICE, record())
    assert verify_record(signed, public_key(ALICE)) == record()


def test_a_record_of_another_facility_is_refused():
    signed = sign_record(EVE, record(peer_id=public_key(EVE)))
    with pytest.raises(BadSignature):
        verify_record(signed, public_key(ALICE))


def test_another_root_cannot_sign():
    with pytest.raises(BadSignature):
        sign_record(EVE, record())


def test_an_altered_record_is_refused():
    signed = sign_record(ALICE, record())
    altered = signed.record.replace(b"a.example", b"e.example")
    with pytest.raises(BadSignature):
        verify_record(SignedKeyRecord(altered, signed.signature))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"version": 2}, UnknownMessage),
        ({"federation_url": "http://a.example"}, Malformed),
        ({"pairing_url": "https://a.example/path"}, Malformed),
        ({"facility_name": "  "}, Malformed),
        ({"seal_public": bytes(32)}, Malformed),
        ({"seal_public": bytes([1]) + bytes(31)}, Malformed),
        ({"facility_name": "a\x1b[31m"}, Malformed),
    ],
)
def test_what_a_root_must_not_say(change, error):
    with pytest.raises(error):
        verify_record(sign_record(ALICE, record(**change)))


def test_a_newer_revision_replaces_an_older_one_and_never_the_reverse():
    first, third = sign_record(ALICE, record()), sign_record(ALICE, record(revision=3))
    assert follow_record(first, third).revision == 3
    assert follow_record(third, third).revision == 3
    with pytest.raises(Replayed):
        follow_record(third, first)


def test_two_records_of_one_revision_are_a_fork():
    first = sign_record(ALICE, record())
    other = sign_record(ALICE, replace(record(), node_keys=only_key(bytes([7]) * 32)))
    with pytest.raises(Forked):
        follow_record(first, other)


@pytest.mark.parametrize("url", ["https://a:1", "https://[::1]:8441", "https://pacs.a.example"])
def test_addresses_of_listeners(url):
    assert is_url(url)


@pytest.mark.parametrize(
    "url", ["", "https://", "https://a b", "https://u@h", "ftp://a", "https://a/", "https://a:x"]
)
def test_what_is_no_address_of_a_listener(url):
    assert not is_url(url)
