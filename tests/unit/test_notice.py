"""Notices and acknowledgements: sealed to one facility, signed by another."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from protocol import notice as rules
from protocol.errors import BadSignature, Expired, Malformed, UnknownMessage, WrongAddressee
from protocol.records import to_bytes
from protocol.sealing import exchange_public_key
from protocol.signing import public_key
from protocol.statements import Statement, sign_statement

VECTORS = json.loads((Path(__file__).parent.parent / "vectors/notice.json").read_text("utf-8"))
SENDER, ADDRESSEE, SECRET, EPHEMERAL = (
    bytes.fromhex(VECTORS[name])
    for name in ("sender_seed", "addressee_seed", "addressee_seal_secret", "ephemeral_secret")
)
NOW = VECTORS["now"]


def vector(name):
    entry = VECTORS[name]
    return Statement(bytes.fromhex(entry["payload"]), bytes.fromhex(entry["signature"]))


def open_notice(statement, *, me=ADDRESSEE, now=NOW):
    return rules.open_notice(
        statement, key=public_key(SENDER), author=public_key(SENDER), me=public_key(me), now=now
    )


def test_the_golden_vectors_read_and_write_back():
    body = open_notice(vector("notice"))
    content = rules.open_content(SECRET, body)
    assert to_bytes(content).hex() == VECTORS["content"]
    box = rules.seal_content(exchange_public_key(SECRET), EPHEMERAL, content, body.notice_id)
    assert box == body.box
    assert sign_statement(SENDER, rules.NOTICE_DOMAIN, body) == vector("notice")
    acknowledgement = rules.open_acknowledgement(
        vector("acknowledgement"),
        key=public_key(ADDRESSEE),
        author=public_key(ADDRESSEE),
        me=public_key(SENDER),
        now=NOW,
    )
    assert acknowledgement.notice_id == body.notice_id


def test_nothing_of_the_patient_stands_in_the_statement():
    payload = vector("notice").payload
    for attribute in (b"Yamada", b"19700131", b"1.2.3", b"Chest"):
        assert attribute not in payload, "a patient attribute travels unsealed"


def test_a_box_opens_for_its_addressee_and_in_its_notice_alone():
    body = open_notice(vector("notice"))
    with pytest.raises(BadSignature):
        rules.open_content(b"e" * 32, body)
    with pytest.raises(BadSignature):
        rules.open_content(SECRET, replace(body, notice_id=b"x" * 16))


def test_a_notice_for_another_or_from_the_future_is_refused():
    with pytest.raises(WrongAddressee):
        open_notice(vector("notice"), me=SECRET)
    with pytest.raises(Expired):
        open_notice(vector("notice"), now=NOW - 3600)
    body = open_notice(vector("notice"))
    with pytest.raises(UnknownMessage):
        open_notice(sign_statement(SENDER, rules.NOTICE_DOMAIN, replace(body, version=2)))


def test_a_study_is_named_by_a_uid_or_not_at_all():
    body = open_notice(vector("notice"))
    content = rules.open_content(SECRET, body)
    crafted = replace(
        content, studies=(replace(content.studies[0], study_instance_uid="../../etc"),)
    )
    box = rules.seal_content(exchange_public_key(SECRET), EPHEMERAL, crafted, body.notice_id)
    with pytest.raises(Malformed):
        rules.open_content(SECRET, replace(body, box=box))
