"""Request, grant and receipt: only the right author, addressee, moment and content will do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import grant as rules
from protocol.errors import (
    BadSignature,
    Expired,
    Malformed,
    UnknownMessage,
    WrongAddressee,
    WrongContent,
)
from protocol.grant import GrantBody, GrantRequestBody, ReceiptBody, SignedGrant
from protocol.hashing import plain_hash
from protocol.limits import CLOCK_SKEW_S, GRANT_MOST_S, RECEIPT_MISSING
from protocol.sealing import exchange_public_key
from protocol.signing import public_key
from protocol.statements import Statement, sign_statement

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/grant.json").read_text("utf-8"))
ALICE, BOB, EVE = b"a" * 32, b"b" * 32, b"e" * 32
NOW = 1_800_000_000
REQUEST = GrantRequestBody(
    1, public_key(ALICE), public_key(BOB), NOW, b"n" * 16, b"h" * 16, "p1", "clinician", "TREAT"
)
GRANT = GrantBody(
    1,
    public_key(BOB),
    public_key(ALICE),
    NOW,
    NOW + 900,
    b"g" * 16,
    REQUEST.nonce,
    REQUEST.retrieve_handle,
    1,
    b"r" * 32,
    1234,
    plain_hash(b"box"),
)
RECEIPT = ReceiptBody(
    1,
    public_key(ALICE),
    public_key(BOB),
    NOW,
    GRANT.grant_id,
    GRANT.manifest_root,
    "verified",
    3,
    3,
    (),
)


def vector(entry):
    return Statement(bytes.fromhex(entry["payload"]), bytes.fromhex(entry["signature"]))


def open_request(statement, *, seed=ALICE, now=NOW, me=BOB):
    return rules.open_request(
        statement, key=public_key(seed), author=public_key(ALICE), me=public_key(me), now=now
    )


def open_grant(body, *, seed=BOB, box=b"box"):
    signed = SignedGrant(sign_statement(seed, rules.GRANT_DOMAIN, body), box)
    return rules.open_grant(signed, key=public_key(BOB), request=REQUEST, now=NOW)


def open_receipt(body):
    statement = sign_statement(ALICE, rules.RECEIPT_DOMAIN, body)
    return rules.open_receipt(
        statement,
        key=public_key(ALICE),
        author=public_key(ALICE),
        me=public_key(BOB),
        now=NOW + 10**6,
    )


def test_the_golden_vectors_read_and_write_back():
    alice, bob = (bytes.fromhex(VECTORS[k]) for k in ("recipient_seed", "origin_seed"))
    now = VECTORS["now"]
    request = rules.open_request(
        vector(VECTORS["request"]),
        key=public_key(alice),
        author=public_key(alice),
        me=public_key(bob),
        now=now,
    )
    signed = SignedGrant(vector(VECTORS["grant"]), bytes.fromhex(VECTORS["box"]))
    grant = rules.open_grant(signed, key=public_key(bob), request=request, now=now)
    expected = {bytes.fromhex(k): bytes.fromhex(v) for k, v in VECTORS["pack_keys"].items()}
    secret = bytes.fromhex(VECTORS["recipient_seal_secret"])
    assert rules.open_keys(secret, signed, grant, list(expected)) == expected
    ephemeral = bytes.fromhex(VECTORS["ephemeral_secret"])
    box = rules.seal_keys(
        exchange_public_key(secret),
        ephemeral,
        expected,
        grant_id=grant.grant_id,
        manifest_root=grant.manifest_root,
    )
    assert box == signed.box, "the sealed keys are not written as they were"
    for entry in VECTORS["receipts"]:
        body = rules.open_receipt(
            vector(entry),
            key=public_key(alice),
            author=public_key(alice),
            me=public_key(bob),
            now=now,
        )
        assert body.sentence() == entry["sentence"]
        assert sign_statement(alice, rules.RECEIPT_DOMAIN, body) == vector(entry)
    assert sign_statement(alice, rules.REQUEST_DOMAIN, request) == vector(VECTORS["request"])
    assert sign_statement(bob, rules.GRANT_DOMAIN, grant) == vector(VECTORS["grant"])


def test_a_request_is_taken_from_its_author_at_its_time_only():
    statement = sign_statement(ALICE, rules.REQUEST_DOMAIN, REQUEST)
    assert open_request(statement) == REQUEST
    with pytest.raises(BadSignature):
        open_request(statement, seed=EVE)
    with pytest.raises(WrongAddressee):
        open_request(statement, me=EVE)
    with pytest.raises(Expired, match="older"):
        open_request(statement, now=NOW + CLOCK_SKEW_S + 1)
    with pytest.raises(Expired, match="ahead"):
        open_request(statement, now=NOW - CLOCK_SKEW_S - 1)
    later = sign_statement(ALICE, rules.REQUEST_DOMAIN, replace(REQUEST, version=2))
    with pytest.raises(UnknownMessage):
        open_request(later)


def test_a_signature_for_another_purpose_is_no_request():
    with pytest.raises(BadSignature):
        open_request(sign_statement(ALICE, rules.RECEIPT_DOMAIN, REQUEST))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"nonce": b"x" * 16}, WrongContent),
        ({"retrieve_handle": b"x" * 16}, WrongContent),
        ({"addressee": public_key(EVE)}, WrongAddressee),
        ({"author": public_key(EVE)}, WrongAddressee),
        ({"expires_at": NOW}, Malformed),
        ({"expires_at": NOW + GRANT_MOST_S + 1}, Malformed),
        ({"issued_at": NOW - 9000, "expires_at": NOW - 8100}, Expired),
        ({"version": 9}, UnknownMessage),
    ],
)
def test_a_grant_that_is_not_the_answer_is_refused(change, error):
    assert open_grant(GRANT) == GRANT
    with pytest.raises(error):
        open_grant(replace(GRANT, **change))


def test_a_grant_signed_by_another_is_refused():
    with pytest.raises(BadSignature):
        open_grant(GRANT, seed=EVE)
    with pytest.raises(WrongContent):
        open_grant(GRANT, box=b"another box")


@given(st.dictionaries(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)))
def test_keys_open_for_the_recipient_and_in_their_grant_alone(keys):
    box = rules.seal_keys(
        exchange_public_key(ALICE),
        b"s" * 32,
        keys,
        grant_id=GRANT.grant_id,
        manifest_root=GRANT.manifest_root,
    )
    signed = SignedGrant(sign_statement(BOB, rules.GRANT_DOMAIN, GRANT), box)
    assert rules.open_keys(ALICE, signed, GRANT, list(keys)) == keys
    for secret, grant in [
        (EVE, GRANT),
        (ALICE, replace(GRANT, grant_id=b"x" * 16)),
        (ALICE, replace(GRANT, manifest_root=b"x" * 32)),
    ]:
        with pytest.raises(BadSignature):
            rules.open_keys(secret, signed, grant, list(keys))
    with pytest.raises(WrongContent):
        rules.open_keys(ALICE, signed, GRANT, [*keys, b"another pack id!"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "3/3 instances verified"),
        (
            {"outcome": "incomplete", "verified": 1, "missing": ("1.2", "1.3")},
            "1/3 instances verified, 2 missing",
        ),
        (
            {
                "outcome": "incomplete",
                "instances": 9999,
                "verified": 0,
                "missing": ("1.2",) * RECEIPT_MISSING,
            },
            "0/9999 instances verified, 9999 missing",
        ),
        (
            {"outcome": "destroyed", "verified": 0},
            "Destroyed after revocation: the recipient keeps nothing of this study.",
        ),
    ],
)
def test_a_receipt_says_what_arrived(change, sentence):
    assert open_receipt(replace(RECEIPT, **change)).sentence() == sentence


@pytest.mark.parametrize(
    "change",
    [
        {"verified": 2},
        {"missing": ("1.2",)},
        {"verified": 4},
        {"outcome": "incomplete"},
        {"outcome": "incomplete", "verified": 1, "missing": ("1.2",)},
        {"outcome": "incomplete", "verified": 2, "missing": ("../1",)},
        {"outcome": "destroyed"},
        {"outcome": "partly"},
    ],
)
def test_a_receipt_that_contradicts_itself_is_refused(change):
    with pytest.raises(Malformed):
        open_receipt(replace(RECEIPT, **change))


@pytest.mark.parametrize("change", [{"manifest_root": b"x" * 32}, {"instances": 2, "verified": 2}])
def test_a_receipt_counts_for_the_content_of_its_grant_alone(change):
    rules.match_receipt(RECEIPT, manifest_root=GRANT.manifest_root, instances=3)
    with pytest.raises(WrongContent):
        rules.match_receipt(
            replace(RECEIPT, **change), manifest_root=GRANT.manifest_root, instances=3
        )
