"""Bytes of HL7 messages: fields, characters, escapes, frames, and bytes that are no message."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import hl7 as outside
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.config import Hl7Sender
from peer.hl7.answer import answer_to
from peer.hl7.framing import HEAD, PIECE, NotFramed, framed, read_rest, read_start
from peer.hl7.message import CONTROL_ID, HEADER, read_header, read_message, unescaped
from peer.hl7.people import names_of, patient_of
from peer.hl7.refused import Refused
from peer.hl7.senders import IDENTIFIER, Sender
from protocol.identifiers import PatientIdentifier

UTF_8 = "UNICODE UTF-8"
NOON = 1_795_000_000
SENDER = Sender(
    Hl7Sender(name="RIS", host="10.0.0.7", authorities={"NGH": "urn:oid:2.999.1"}), "urn:oid:2.999"
)


def header(character_set="", separators="|^~\\&"):
    field = separators[0]
    parts = ["MSH", separators[1:], "RIS", "NGH", "OP", "", "20261118", "", "ADT^A08^ADT_A01"]
    parts[8] = parts[8].replace("^", separators[1])
    parts += ["M1", "P", "2.5", "", "", "", "", "", character_set]
    return field.join(parts)


def message(*segments, character_set="", codec="utf-8"):
    return read_message("\r".join([header(character_set), *segments]).encode(codec), UTF_8)


def pid(text):
    return message(text).first("PID")


def test_fields_are_read_by_their_numbers():
    read = message("PID|1||17^^^NGH&2.999.7&ISO^MR~99||Müller^Jane^^^Dr.||19800517|F")
    assert (read.code, read.event, read.control_id) == ("ADT", "A08", "M1")
    found = read.first("PID")
    assert [each.part(1) for each in found.values(3)] == ["17", "99"]
    assert found.values(3)[0].part(4, 2) == "2.999.7"
    assert (found.text(5, 2), found.text(5, 4), found.text(40)) == ("Jane", "", "")
    with pytest.raises(Refused):
        read.first("MRG")


def test_other_delimiters_and_line_ends_are_understood():
    text = "\n".join([header(separators="#*!?%"), "PID#1##17*x!18##A?S?B*C"])
    found = read_message(text.encode(), UTF_8).first("PID")
    assert [each.part(1) for each in found.values(3)] == ["17", "18"]
    assert found.text(5) == "A*B"


def test_what_is_to_be_deleted_says_nothing():
    assert pid('PID|1||17||""|""^x|""').text(5) == ""
    assert pid('PID|1||17||""^""').text(5) == ""


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"\H\bold\N\ and \.in+4\indented", "bold and indented"),
        (r"one\.br\two\.sp99999999999\three", "one\ntwo\nthree"),
        (r"\XC3BC\ber \Xzz\\Qq\ ", "über  "),
        ("ends \\", "ends "),
    ],
)
def test_escape_sequences_become_characters(raw, text):
    delimiters = read_header(header().encode()).delimiters
    assert unescaped(raw, delimiters) == text


@pytest.mark.parametrize(
    ("character_set", "codec", "name"),
    [
        ("", "utf-8", "Müller"),
        ("8859/1", "latin-1", "Müller"),
        ("8859/5", "iso8859-5", "Иванов"),
        ("8859/7", "iso8859-7", "Παπαδόπουλος"),
        ("~ISO IR87", "iso2022_jp", "山田"),
        ("ASCII~ISO IR159", "iso2022_jp", "山田"),
        ("GB 18030-2000", "gb18030", "王小东"),
        ("KS X 1001", "euc_kr", "홍길동"),
        ("BIG-5", "big5", "王小東"),
        (UTF_8, "utf-8", "王小東"),
    ],
)
def test_characters_are_those_of_msh_18(character_set, codec, name):
    read = message(f"PID|1||17||{name}^A", character_set=character_set, codec=codec)
    assert read.first("PID").text(5) == name


def test_characters_that_are_none_are_refused():
    with pytest.raises(Refused) as unknown:
        message("PID|1", character_set="UNICODE UTF-16")
    assert unknown.value.answer == "AR"
    with pytest.raises(Refused) as wrong:
        message("PID|1||17||M\xfcller", codec="latin-1")
    assert (wrong.value.answer, wrong.value.error) == ("AE", "102")
    assert "ller" not in wrong.value.reason


def test_a_patient_is_described_as_images_describe_them():
    found = patient_of(
        pid(
            "PID|1||99^^^SSA^SS~17^^^NGH^MR||Mueller^Jane^Ann^Jr^Dr^^L~Olsen^Jane^^^^^M"
            "~X^Y^^^^^S||19800517101500|f|Jenny^Mueller"
        ),
        SENDER,
    )
    assert (found.issuer, found.patient_id) == ("urn:oid:2.999.1", "17")
    assert found.other_ids == (PatientIdentifier("SSA", "99"),)
    assert found.names == ("Mueller^Jane^Ann^Dr^Jr", "Olsen^Jane", "Jenny^Mueller")
    assert (found.birth_date, found.sex) == ("19800517", "F")


def test_the_writings_of_one_name_are_one_name():
    found = pid("PID|1||17||Yamada^Tarou^^^^^L^A~山田^太郎^^^^^L^I~やまだ^たろう^^^^^L^P")
    assert names_of(found) == ("Yamada^Tarou=山田^太郎=やまだ^たろう",)
    assert names_of(pid("PID|1||17||山田^太郎^^^^^L^I")) == ("=山田^太郎",)
    assert names_of(pid(r"PID|1||17||A\S\B=C^D")) == ("A B C^D",)


@pytest.mark.parametrize("born", ["1980", "198005", "19801301", "", "2020111x", "20230229"])
def test_half_a_birth_date_is_none(born):
    assert patient_of(pid(f"PID|1||17||A^B||{born}|U"), SENDER).birth_date == ""
    assert patient_of(pid(f"PID|1||17||A^B||{born}|U"), SENDER).sex == ""


def test_who_has_no_identifier_of_the_senders_own_is_refused():
    for field, error in (("", "101"), ("17^^^SOMEWHERE", "204")):
        with pytest.raises(Refused) as refused:
            patient_of(pid(f"PID|1||{field}||A^B"), SENDER)
        assert refused.value.error == error


@pytest.mark.parametrize(
    ("authority", "issuer"),
    [
        ("NGH", "urn:oid:2.999.1"),
        ("NGH&2.999.1&ISO", "urn:oid:2.999.1"),
        ("OTHER&2.999.1&ISO", "urn:oid:2.999.1"),
        ("NGH&2.999.7&ISO", "2.999.7"),
        ("&2.999&ISO", "urn:oid:2.999"),
        ("", "urn:oid:2.999"),
    ],
)
def test_a_universal_id_says_whose_an_identifier_is(authority, issuer):
    found = SENDER.identifiers(pid(f"PID|1||17^^^{authority}"), 3)
    assert found == [PatientIdentifier(issuer, "17")]


def test_identifiers_name_persons_and_are_short():
    found = SENDER.identifiers(pid("PID|1||1^^^NGH^VN~2^^^NGH^MR~3^^^BANK^AN~4^^^SSA^SS"), 3)
    assert [each.value for each in found] == ["2", "4"]
    assert SENDER.identifiers(pid(f"PID|1||{'1' * IDENTIFIER}"), 3)
    for field in ("1" * (IDENTIFIER + 1), f"1^^^{'N' * (IDENTIFIER + 1)}"):
        with pytest.raises(Refused) as refused:
            SENDER.identifiers(pid(f"PID|1||{field}"), 3)
        assert (refused.value.answer, refused.value.error) == ("AE", "102")


def test_an_answer_names_the_message_and_says_why():
    asked = read_header(header().encode())
    taken = outside.parse(answer_to(asked, None, NOON).decode())
    assert [str(taken["MSA"][0][number]) for number in (1, 2)] == ["AA", "M1"]
    assert str(taken["MSH"][0][9]) == "ACK^A08^ACK"
    assert (str(taken["MSH"][0][5]), str(taken["MSH"][0][6])) == ("RIS", "NGH")
    refused = answer_to(asked, Refused("AE", "101", "There is | no ^ identifier."), NOON)
    told = outside.parse(refused.decode())
    assert str(told["MSA"][0][1]) == "AE"
    assert str(told["ERR"][0][3]) == "101^Required field missing^HL70357"
    assert told.unescape(str(told["ERR"][0][8])) == "There is | no ^ identifier."
    assert b"MSA|AR||" in answer_to(None, Refused("AR", "100", "No message."), NOON)


def test_a_long_header_is_refused_before_it_is_split():
    for size, has_room in ((HEADER, True), (HEADER + 1, False), (8_000_000, False)):
        block = f"{header()}|".ljust(size, "|").encode() + b"\rPID|1"
        if has_room:
            assert read_header(block).text(3) == "RIS"
            continue
        with pytest.raises(Refused) as refused:
            read_header(block)
        assert (refused.value.answer, refused.value.error) == ("AR", "100")


def test_an_answer_repeats_no_more_than_a_control_id():
    asked = read_header(header().replace("|M1|", f"|{'M' * 3000}|").encode())
    (line,) = (each for each in answer_to(asked, None, NOON).split(b"\r") if b"MSA" in each)
    assert line == b"MSA|AA|" + b"M" * CONTROL_ID


TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), max_size=9)
PLAIN = TEXT.filter(lambda text: not set(text) & set("|^~\\&") and text != '""')


@given(st.lists(st.lists(st.lists(PLAIN, min_size=1, max_size=3), min_size=1, max_size=3)))
def test_another_program_reads_the_same_fields(fields):
    sent = "|".join("~".join("^".join(each) for each in one) for one in fields)
    ours = pid(f"PID|{sent}")
    theirs = outside.parse(f"{header()}\rPID|{sent}\r")
    for number, repetitions in enumerate(fields, 1):
        there = [each for each in repetitions if any(each) and "^".join(each) != '""']
        if len(there) != len(repetitions):
            continue
        for place, components in enumerate(repetitions):
            for component in range(1, len(components) + 1):
                other = theirs.extract_field("PID", 1, number, place + 1, component)
                assert ours.values(number)[place].part(component) == other.strip()


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_read_or_refused(junk, has_header):
    block = header().encode() + b"\rPID|" + junk if has_header else junk
    with suppress(Refused):
        read_header(block)
        patient_of(read_message(block, UTF_8).first("PID"), SENDER)


async def read(content, most=1000):
    """Return what comes out of a stream of these bytes, and how it ends."""
    stream = asyncio.StreamReader(limit=PIECE)
    stream.feed_data(content)
    stream.feed_eof()
    found = []
    while await read_start(stream):
        found.append(await read_rest(stream, most))
    return found


async def test_messages_follow_each_other_whatever_stands_between():
    content = b"\r\n" + framed(b"one\x1cx\r") + b"\r\n" + framed(b"two")
    assert [each.block for each in await read(content)] == [b"one\x1cx\r", b"two"]


@pytest.mark.parametrize("size", [1000, 1001, PIECE, 3 * PIECE + 1])
async def test_of_a_message_that_is_too_large_the_beginning_is_kept(size):
    block = bytes(range(32, 126)) * (size // 94) + b"x" * (size % 94)
    large, after = await read(framed(block) + framed(b"after"))
    assert (large.whole, after.block) == (size <= 1000, b"after")
    assert large.block == (block if size <= 1000 else block[: len(large.block)])
    assert len(large.block) <= max(HEAD, 1000)


@pytest.mark.parametrize("content", [b"MSH|", b"\x0bMSH|", b"\x0bMSH|\x1c", b"GET / HTTP/1.1\r\n"])
async def test_what_is_not_framed_ends_the_connection(content):
    with pytest.raises(NotFramed):
        await read(content)


@given(st.binary(max_size=300))
def test_any_stream_ends(content):
    with suppress(NotFramed):
        for each in asyncio.run(read(content, most=50)):
            assert not each.whole or len(each.block) <= 50
