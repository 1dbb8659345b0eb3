"""The golden frames of every message, read twice.

Once by our code, which must make and take the very bytes; once by a second reader below, which
knows the tables of docs/protocol and MessagePack, and shares no line with `protocol`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol import grant, notice
from protocol.messages import HaveBody, MembershipBody, RemovalBody, decode, encode, registered
from protocol.records import from_bytes
from tests.message_examples import examples, shown, vectors

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests/vectors/messages.json").read_text(encoding="utf-8"))
MESSAGES = GOLDEN["messages"]


# -- our code -------------------------------------------------------------------------------------


def test_every_message_has_a_golden_frame():
    lacking = registered().keys() - MESSAGES.keys()
    assert not lacking, "give each an example in tests/message_examples.py, and print the file anew"
    assert not MESSAGES.keys() - registered().keys()


def test_the_examples_make_the_very_file():
    """If this fails for a message that was there before, the wire format has changed."""
    assert vectors() == GOLDEN


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_what_we_read_is_what_we_wrote(name):
    vector = MESSAGES[name]
    frame, message = decode(bytes.fromhex(vector["frame"]))
    assert (frame.name, frame.kind, frame.id) == (name, vector["kind"], vector["id"])
    assert message == examples()[name].content
    assert shown(message) == vector["fields"]
    assert encode(message, frame.kind, frame.id).hex() == vector["frame"]


@pytest.mark.parametrize("name", [n for n in sorted(MESSAGES) if "payload" in MESSAGES[n]])
def test_a_statements_payload_is_read_as_its_record(name):
    vector = MESSAGES[name]
    body = from_bytes(type(examples()[name].body), bytes.fromhex(vector["payload"]), 100_000)
    assert shown(body) == vector["payload_fields"]


# -- a second reader, from the tables alone -------------------------------------------------------

BODIES = {
    "HaveBody": "author 32 B, addressee 32 B, issued_at, heads (list)",
    "MembershipBody": "author 32 B, addressee 32 B, issued_at, until",
    "RemovalBody": "author 32 B, addressee 32 B, issued_at, pairing_id 32 B",
    "GrantRequestBody": "version, author 32 B, addressee 32 B, issued_at, nonce 16 B,"
    " retrieve_handle 16 B, person text, role text, purpose text",
    "ReceiptBody": "version, author 32 B, addressee 32 B, issued_at, grant_id 16 B,"
    " manifest_root 32 B, outcome text, instances, verified, missing (list)",
    "NoticeBody": "version, author 32 B, addressee 32 B, issued_at, notice_id 16 B, person text,"
    " role text, purpose text, box bytes",
    "AcknowledgementBody": "version, author 32 B, addressee 32 B, issued_at, notice_id 16 B,"
    " acknowledged_at, person text, role text, purpose text",
}
"""The payloads, as journal.md, link.md, transfer.md and notices.md have them."""

STATEMENT = re.compile(r"statement of `(\w+)`(?: by the addressee)?, domain `([a-z-]+)`")


def table():
    """Return the fields of every message, as the table of link.md has them."""
    text = (ROOT / "docs/protocol/link.md").read_text(encoding="utf-8")
    rows = text.partition("\n## Messages\n")[2].partition("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in row.split("|")] for row in rows if row.startswith("| `")]
    return {row[1].strip("`"): row[2] for row in cells}


def columns(described):
    """Return (name, type) of each field of "search_id 16 B, start, data bytes, answers (two)"."""
    if described == "none":
        return []
    unfolded = re.sub(r"\([^()]*\)", "()", described)
    return [tuple(each.strip().partition(" ")[::2]) for each in unfolded.split(", ")]


def fits(value, kind):
    match kind.split():
        case []:
            return type(value) is int
        case [length, "B"]:
            return type(value) is bytes and len(value) == int(length)
        case ["bytes"]:
            return type(value) is bytes
        case ["text"]:
            return type(value) is str
        case ["bool"]:
            return type(value) is bool
        case ["()"]:
            return value is None or type(value) is list
    raise AssertionError(kind)


def read(described, data):
    """Return the fields of a record by name, each of the type that the table gives it."""
    values = msgpack.unpackb(data)
    wanted = columns(described)
    assert len(values) == len(wanted), described
    for value, (name, kind) in zip(values, wanted, strict=True):
        assert fits(value, kind), (name, kind)
    return {name: value for value, (name, _) in zip(values, wanted, strict=True)}


def hexed(value):
    if isinstance(value, bytes):
        return value.hex()
    return [hexed(each) for each in value] if isinstance(value, list) else value


def test_the_table_has_every_message():
    assert table().keys() == MESSAGES.keys()


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_the_second_reader_understands_it(name):
    vector = MESSAGES[name]
    kind, number, told, body = msgpack.unpackb(bytes.fromhex(vector["frame"]))
    assert (kind, number, told) == (vector["kind"], vector["id"], name)
    statement = STATEMENT.match(table()[name])
    if statement is None:
        fields = read(table()[name], body)
        assert {key: hexed(value) for key, value in fields.items()} == vector["fields"]
        return
    record, domain = statement.groups()
    ((payload, signature),) = msgpack.unpackb(body)
    author = Ed25519PublicKey.from_public_bytes(bytes.fromhex(GOLDEN["author"]))
    author.verify(signature, b"openpriors/1 " + domain.encode() + b"\0" + payload)
    fields = read(BODIES[record], payload)
    assert {key: hexed(value) for key, value in fields.items()} == vector["payload_fields"]
    assert fields["addressee"].hex() == GOLDEN["addressee"]


@pytest.mark.parametrize(
    ("record", "page"),
    [
        (HaveBody, "journal.md"),
        (MembershipBody, "journal.md"),
        (RemovalBody, "link.md"),
        (grant.GrantRequestBody, "transfer.md"),
        (grant.ReceiptBody, "transfer.md"),
        (notice.NoticeBody, "notices.md"),
        (notice.AcknowledgementBody, "notices.md"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_the_pages_name_the_payloads_fields_in_their_order(record, page):
    text = (ROOT / "docs/protocol" / page).read_text(encoding="utf-8")
    at = 0
    begins = {HaveBody: "The payload of a HAVE", MembershipBody: "The payload of a **membership**"}
    section = text[text.index(begins.get(record, record.__name__)) :]
    for name in record.__dataclass_fields__:
        at = section.find(name, at)
        assert at >= 0, f"{page} does not say where {name} stands in {record.__name__}"
