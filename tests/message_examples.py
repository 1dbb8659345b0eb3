"""One message of every kind, the same in every run: what `tests/vectors/messages.json` fixes.

`python -m tests.message_examples` prints that file.  A message that is added gets an example here
and a vector there; the vector of a message that is in use never changes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from protocol import grant, notice
from protocol import messages as m
from protocol.entries import SignedHeader
from protocol.epochs import EpochRecord, sign_epoch
from protocol.records import to_bytes, to_value
from protocol.renewal import holding_digest
from protocol.sealing import exchange_public_key
from protocol.signing import public_key
from protocol.statements import sign_statement

VECTORS = Path(__file__).parent / "vectors"
ALICE, BOB = bytes([1]) * 32, bytes([2]) * 32
"""Node seeds of author and addressee; their public keys stand for the facilities' ids too."""
ALICE_ID, BOB_ID = public_key(ALICE), public_key(BOB)
NOW = 1_800_000_000
BOB_SEALS, EPHEMERAL = bytes([3]) * 32, bytes([4]) * 32
WHO = {"person": "person-31", "role": "clinician", "purpose": "TREAT"}
ADDRESSED = {"author": ALICE_ID, "addressee": BOB_ID, "issued_at": NOW}
NOTE, GRANT, PACK = bytes([13]) * 16, bytes([6]) * 16, bytes([9]) * 16


@dataclass(frozen=True)
class Example:
    """A message, how it travels, and the record in its statement, if it has one."""

    content: object
    kind: m.Kind
    number: int = 0
    body: object = None


def journal(name):
    return json.loads((VECTORS / f"journal-{name}.json").read_text(encoding="utf-8"))


def told_record():
    """Return a key record as a partner is told it."""
    records = json.loads((VECTORS / "key-records.json").read_text(encoding="utf-8"))
    return m.decode(bytes.fromhex(records["frames"]["key_record"]))[1].record


def signed(kind, message, domain, body, number=7):
    """Return a message that carries a statement of alice's for bob."""
    return Example(message(sign_statement(ALICE, domain, body)), kind, number, body)


def examples():
    """Return an example of every message by its name."""
    ask, answer, tell = m.Kind.REQUEST, m.Kind.ANSWER, m.Kind.TELL
    content = notice.NoticeContent(
        "Yamada^Tarou",
        "19700131",
        "M",
        (notice.NoticeStudy("1.2.3", "20260101", "CT\\SR", "Chest"),),
        "Please compare.",
    )
    box = notice.seal_content(exchange_public_key(BOB_SEALS), EPHEMERAL, content, NOTE)
    frames = journal("exchange")["frames"]
    _, batches = m.decode(bytes.fromhex(frames["batches"]))
    named = json.loads((VECTORS / "identify.json").read_text(encoding="utf-8"))
    handed = json.loads((VECTORS / "delegation.json").read_text(encoding="utf-8"))
    one, other = (SignedHeader(b"a header %d" % n, bytes([n]) * 64) for n in (1, 2))
    record = EpochRecord(1, ALICE_ID, 3, 5, bytes([11]) * 32, NOW)
    epochs = m.Epochs(ALICE_ID, (sign_epoch(ALICE, record),))
    head = m.OriginHead(ALICE_ID, 0, 4, bytes([8]) * 32, 11)
    member = m.MembershipBody(**ADDRESSED, until=NOW + 3 * 24 * 3600)
    made = [
        Example(m.Hello(1, 1, ALICE_ID, BOB_ID, 3, NOW), ask),
        Example(m.Refused("busy", "They have too much to do.", "Wait."), m.Kind.REFUSAL, 7),
        Example(m.Done(), answer, 7),
        Example(m.Gone("The node stops."), tell),
        Example(m.NewKeyRecord(told_record()), ask, 7),
        signed(tell, m.Have, m.HAVE_DOMAIN, m.HaveBody(**ADDRESSED, heads=(head,)), 0),
        signed(ask, m.ExchangeNow, m.HAVE_DOMAIN, m.HaveBody(**ADDRESSED, heads=(head,))),
        Example(m.Holding(holding_digest(ALICE_ID, BOB_ID, {ALICE_ID: head}), asks=False), tell),
        Example(m.Want(ALICE_ID, 0, 5), tell),
        Example(epochs, tell),
        Example(batches, tell),
        Example(m.Origins((bytes([12]) * 16, bytes([14]) * 16)), tell),
        Example(m.WantHeader(ALICE_ID, 0, 4), tell),
        Example(m.HeldHeader(ALICE_ID, one), tell),
        Example(m.Fork(ALICE_ID, one, other), tell),
        signed(tell, m.Membership, m.MEMBERSHIP_DOMAIN, member, 0),
        Example(
            m.WantRelayed(ALICE_ID, 0, 5, sign_statement(ALICE, m.MEMBERSHIP_DOMAIN, member)),
            tell,
        ),
        Example(
            m.Relayed(
                batches.origin,
                batches.batches,
                False,
                None,
                sign_statement(ALICE, m.MEMBERSHIP_DOMAIN, member),
            ),
            tell,
        ),
        Example(
            m.Evaluate(NOTE, "person-31", "clinician", "TREAT", bytes(256), bytes([1]) * 256),
            ask,
            7,
        ),
        Example(
            m.Evaluated(
                (
                    m.AudienceAnswer(2, bytes([2]) * 256, bytes([3]) * 256),
                    m.AudienceAnswer(5, bytes([4]) * 256, bytes([5]) * 256),
                )
            ),
            answer,
            7,
        ),
        Example(m.SearchKeys(bytes.fromhex(handed["box"])), ask, 7),
        Example(m.Identify(bytes.fromhex(named["question_box"])), ask, 7),
        Example(m.Identified(bytes.fromhex(named["same"])), answer, 7),
        signed(
            ask,
            m.GrantRequest,
            grant.REQUEST_DOMAIN,
            grant.GrantRequestBody(
                version=1, **ADDRESSED, nonce=bytes([5]) * 16, retrieve_handle=PACK, **WHO
            ),
        ),
        Example(m.GrantAnswer(b"a SignedGrant", b"a SignedManifest"), answer, 7),
        signed(
            ask,
            m.ReceiptMessage,
            grant.RECEIPT_DOMAIN,
            grant.ReceiptBody(
                version=1,
                **ADDRESSED,
                grant_id=GRANT,
                manifest_root=bytes([7]) * 32,
                outcome=grant.INCOMPLETE,
                instances=3,
                verified=2,
                missing=("1.2.3.4",),
            ),
        ),
        Example(m.ReadRange(GRANT, PACK, 262_144, 4096), ask, 7),
        Example(m.RangeBytes(b"ciphertext"), answer, 7),
        signed(
            ask,
            m.Notice,
            notice.NOTICE_DOMAIN,
            notice.NoticeBody(version=1, **ADDRESSED, notice_id=NOTE, **WHO, box=box),
        ),
        signed(
            ask,
            m.NoticeAcknowledged,
            notice.ACKNOWLEDGEMENT_DOMAIN,
            notice.AcknowledgementBody(
                version=1, **ADDRESSED, notice_id=NOTE, acknowledged_at=NOW - 60, **WHO
            ),
        ),
        signed(
            ask,
            m.Removal,
            m.REMOVAL_DOMAIN,
            m.RemovalBody(**ADDRESSED, pairing_id=bytes([10]) * 32),
        ),
        signed(
            answer,
            m.RemovalReceipt,
            m.REMOVAL_RECEIPT_DOMAIN,
            m.RemovalBody(**ADDRESSED, pairing_id=bytes([10]) * 32),
        ),
    ]
    return {m.name_of(type(each.content)): each for each in made}


def shown(record):
    """Return a record's fields by name, as JSON shows them: bytes in hexadecimal."""
    return {f.name: _shown(getattr(record, f.name)) for f in fields(record)}


def _shown(value):
    plain = to_value(value)
    if isinstance(plain, bytes):
        return plain.hex()
    return [_shown(each) for each in plain] if isinstance(plain, list) else plain


def vectors():
    """Return what the file says."""
    told = {}
    for name, each in sorted(examples().items()):
        vector = {"kind": int(each.kind), "id": each.number, "fields": shown(each.content)}
        if each.body is not None:
            vector["payload"] = to_bytes(each.body).hex()
            vector["payload_fields"] = shown(each.body)
        told[name] = vector | {"frame": m.encode(each.content, each.kind, each.number).hex()}
    return {
        "about": "One frame of every message of docs/protocol/link.md. Statements are signed by "
        "`author` with `author_seed`. All bytes are in hexadecimal.",
        "author_seed": ALICE.hex(),
        "author": ALICE_ID.hex(),
        "addressee": BOB_ID.hex(),
        "messages": told,
    }


if __name__ == "__main__":
    json.dump(vectors(), sys.stdout, indent=1)
    sys.stdout.write("\n")
