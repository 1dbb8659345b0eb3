"""What senders of HL7 tell is done, once, and durable before they are answered."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import hl7 as outside
import pytest
import trustme
from hl7.client import MLLPClient
from hypothesis import given
from hypothesis import strategies as st

from peer.config import Hl7Sender, Settings
from peer.errors import Conflict, NotFound, StorageFull
from peer.hl7 import Hl7, Hl7Listener
from peer.hl7.refused import Refused
from peer.hl7.senders import Senders
from peer.index import hl7, patients
from peer.search import Prefetch, Question
from protocol.errors import Refusal
from tests.facilities import ISSUER, JANE, OFFICER, facilities

OWN, OTHERS = "1.2.3.1", "1.2.3.2"
OLSEN = replace(JANE, patient_id="MRN-00099", names=("Olsen^Jane Ann",))
NEVER = 3600.0
"""How seldom a fault is logged, in seconds."""
DEADLINE_S = 60

PID = "PID|1||MRN-00017^^^NGH^MR||Mueller^Jane^Ann||19800517|F"


def message(event="A08", *segments, number="M1", code="ADT", **header):
    told = {"application": "RIS", "processing": "P", "version": "2.5"} | header
    first = (
        f"MSH|^~\\&|{told['application']}|NGH|OP||20261118101500||{code}^{event}|{number}"
        f"|{told['processing']}|{told['version']}"
    )
    return "\r".join([first, *segments])


def sender(**more):
    return {"name": "RIS", "host": "127.0.0.1", "authorities": {"NGH": ISSUER}, **more}


class Receiver:
    """A facility that takes HL7 messages."""

    def __init__(self, facility, senders, **hl7_settings):
        self.facility = facility
        self.settings = Settings(
            hl7={"port": 0, "senders": senders, **hl7_settings},
            ingest={"default_issuer": ISSUER},
        )
        self.prefetch = Prefetch(facility.db, facility.clock, facility.search, self.settings.search)
        self.room = Hl7(
            facility.db,
            facility.clock,
            settings=self.settings,
            patients=facility.patients,
            prefetch=self.prefetch,
        )
        self.listener = Hl7Listener(self.settings.hl7, self.room, NEVER)

    async def tell(self, text, codec="utf-8"):
        """Send one message on a connection of its own; return (MSA-1, ERR-3.1, the reason)."""
        return answered(await asyncio.to_thread(self._send, text.encode(codec)))

    def _send(self, block):
        with MLLPClient("127.0.0.1", self.port) as client:
            client.socket.settimeout(DEADLINE_S)
            return client.send_message(block)

    async def patient(self, value, issuer=ISSUER):
        return await self.facility.db.read(lambda tx: patients.find(tx, issuer, value))

    async def trail(self, action):
        found = [json.loads(each) async for each in self.facility.audit.export(None, None)]
        return [each for each in found if each["action"] == action]


def answered(block):
    told = outside.parse(block.strip(b"\x0b\x1c\r").decode())
    code = str(told["MSA"][0][1])
    if code == "AA":
        return "AA", "", ""
    return code, str(told["ERR"][0][3]).split("^")[0], told.unescape(str(told["MSA"][0][3]))


@asynccontextmanager
async def receiving(facility, *senders, **hl7_settings):
    receiver = Receiver(facility, senders or (sender(),), **hl7_settings)
    receiver.port = await receiver.listener.start()
    try:
        yield receiver
    finally:
        await receiver.listener.stop()


@pytest.fixture
async def alice(tmp_path):
    async with facilities(tmp_path, "Alice") as (opened,):
        await opened.acquire(OWN, JANE)
        yield opened


@pytest.fixture
async def receiver(alice):
    async with receiving(alice) as opened:
        yield opened


# -- patients -------------------------------------------------------------------------------------


async def test_a_patient_is_described_anew(receiver):
    events = ("A01", "A04", "A08", "A28", "A31")
    for event in events:
        pid = f"PID|1||MRN-00017^^^NGH~4711^^^SSA||{event}^Jane^Ann||19800518|F"
        assert await receiver.tell(message(event, pid, number=event)) == ("AA", "", "")
    known = await receiver.patient("MRN-00017")
    assert known.names == (*(f"{each}^Jane^Ann" for each in reversed(events)), *JANE.names)
    assert known.birth_date == "19800518"
    assert [(each.issuer, each.value) for each in known.other_ids] == [("SSA", "4711")]
    records = await receiver.trail("patient-update")
    assert [each["detail"]["changed"] for each in records] == [
        "names birth_date other_ids",
        *["names"] * 4,
    ]
    assert (records[0]["actor"]["name"], records[0]["actor"]["kind"]) == ("RIS", "hl7")


async def test_partners_find_a_patient_under_the_new_name(tmp_path):
    async with facilities(tmp_path, "Alice", "Bob") as (alice, bob):
        await bob.acquire(OWN, JANE)
        await bob.consent(JANE)
        async with receiving(bob) as receiver:
            pid = "PID|1||MRN-00017^^^NGH||Berg^Jane^Ann||19790411|F"
            assert (await receiver.tell(message("A31", pid)))[0] == "AA"
        await bob.share(alice)
        assert await alice.finds(Question("Berg^Jane", "19790411")) == {("Bob", OWN)}


async def test_whom_nobody_has_images_of_is_not_put_on_record(receiver):
    pid = "PID|1||MRN-5^^^NGH||Berg^Karl||19500101|M"
    assert (await receiver.tell(message("A28", pid)))[0] == "AA"
    assert await receiver.patient("MRN-5") is None


async def test_other_events_of_patients_are_none_of_ours(receiver):
    assert (await receiver.tell(message("A03", PID)))[0] == "AA"
    assert await receiver.trail("patient-update") == []


async def test_the_event_is_that_of_evn_where_the_header_has_none(receiver):
    pid = "PID|1||MRN-00017^^^NGH||Berg^Jane||19800517|F"
    assert (await receiver.tell(message("", "EVN|A08", pid)))[0] == "AA"
    assert (await receiver.patient("MRN-00017")).names[0] == "Berg^Jane"
    assert (await receiver.tell(message("", pid, number="M2")))[:2] == ("AE", "101")


async def test_a_merge_that_is_not_understood_is_not_accepted(alice, receiver):
    await alice.acquire(OTHERS, OLSEN)
    for event in ("A18", "A34", "A36"):
        text = message(event, PID, "MRG|MRN-00099^^^NGH", number=event)
        assert (await receiver.tell(text))[:2] == ("AR", "201")
    assert await alice.patients.list() == []
    waiting = await receiver.room.parked(10)
    assert [each["control_id"] for each in waiting] == ["A18", "A34", "A36"]


async def test_who_is_admitted_is_expected_where_the_sender_may(alice):
    async with receiving(alice, sender(expect=True, purpose="HOPERAT")) as receiver:
        pid = "PID|1||MRN-5^^^NGH||Berg^Karl||19500101|M"
        assert (await receiver.tell(message("A01", pid)))[0] == "AA"
        assert (await receiver.tell(message("A08", pid, number="M2")))[0] == "AA"
        nobody = "PID|1||MRN-00006^^^NGH||Berg^Karl"
        assert (await receiver.tell(message("A04", nobody, number="M3")))[0] == "AA"
        listed = [each.to_json() for each in await receiver.prefetch.list(10)]
    assert [(each["name"], each["by"], each["purpose"]) for each in listed][-1] == (
        "Berg^Karl",
        "RIS",
        "HOPERAT",
    )
    assert len(listed) == 2, "an identifier with its issuer narrows a question enough"


async def test_who_is_admitted_is_not_expected_otherwise(receiver):
    assert (await receiver.tell(message("A01", PID)))[0] == "AA"
    assert await receiver.prefetch.list(10) == []


# -- once, and durable ----------------------------------------------------------------------------


async def test_a_message_that_comes_again_is_done_once(alice, receiver):
    text = message("A08", "PID|1||MRN-00017^^^NGH||Berg^Jane||19800517|F")
    for _ in range(3):
        assert (await receiver.tell(text))[0] == "AA"
    assert len(await receiver.trail("patient-update")) == 1
    async with receiving(alice) as after_a_restart:
        assert (await after_a_restart.tell(text))[0] == "AA"
    assert len(await receiver.trail("patient-update")) == 1


async def test_another_message_under_the_same_number_waits_for_somebody(receiver):
    assert (await receiver.tell(message("A08", PID)))[0] == "AA"
    other = message("A08", "PID|1||MRN-00017^^^NGH||Berg^Jane||19800517|F")
    assert (await receiver.tell(other))[:2] == ("AE", "205")
    (waiting,) = await receiver.room.parked(10)
    await receiver.room.retry(waiting["parked"], OFFICER)
    assert (await receiver.patient("MRN-00017")).names[0] == "Berg^Jane"
    assert await receiver.room.parked(10) == []


async def test_the_same_number_of_two_senders_is_two_messages(alice):
    both = sender(application="RIS"), sender(name="HIS", application="HIS")
    async with receiving(alice, *both) as receiver:
        for application, name in (("RIS", "Berg"), ("HIS", "Tal")):
            pid = f"PID|1||MRN-00017^^^NGH||{name}^Jane||19800517|F"
            told = await receiver.tell(message("A08", pid, application=application))
            assert told[0] == "AA"
        assert [each["actor"]["name"] for each in await receiver.trail("patient-update")] == [
            "RIS",
            "HIS",
        ]


async def test_what_was_taken_long_ago_is_forgotten(receiver):
    assert (await receiver.tell(message("A08", PID)))[0] == "AA"
    receiver.facility.clock.advance(receiver.settings.hl7.remembered_s + 1)
    await receiver.room._forget()
    found = await receiver.facility.db.read(lambda tx: hl7.taken(tx, "RIS", "M1"))
    assert found is None


async def test_what_is_not_durable_is_not_accepted(receiver, monkeypatch):
    def full(*_arguments):
        raise StorageFull("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(hl7, "take", full)
        told = await receiver.tell(message("A08", PID.replace("Mueller", "Berg")))
        assert told[:2] == ("AR", "207")
    assert (await receiver.patient("MRN-00017")).names == JANE.names
    assert await receiver.room.parked(10) == [], "its sender still has it"


async def test_what_is_durable_is_accepted_whatever_fails_after_it(receiver, monkeypatch):
    async def broken():
        raise ZeroDivisionError

    pid = "PID|1||MRN-00017^^^NGH||Berg^Jane||19800517|F"
    monkeypatch.setattr(receiver.facility.patients, "changed", broken)
    assert await receiver.tell(message("A08", pid)) == ("AA", "", "")
    assert (await receiver.patient("MRN-00017")).names[0] == "Berg^Jane"


async def test_who_is_refused_is_answered_although_it_cannot_be_kept(receiver, monkeypatch):
    def broken(*_arguments, **_more):
        raise ZeroDivisionError

    monkeypatch.setattr(hl7, "park", broken)
    assert (await receiver.tell(message("A08")))[:2] == ("AE", "100")
    assert await receiver.room.parked(10) == []


async def test_a_message_that_we_fail_at_is_answered_and_kept(receiver, monkeypatch):
    def broken(*_arguments):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(receiver.room._kinds, "take", broken)
        assert (await receiver.tell(message("A08", PID)))[:2] == ("AE", "207")
    (waiting,) = await receiver.room.parked(10)
    await receiver.room.retry(waiting["parked"], OFFICER)


# -- refused --------------------------------------------------------------------------------------


BAD = [
    (message("A08", PID, application="OTHER"), "AR", "103"),
    (message("A08", PID, processing="T"), "AR", "202"),
    (message("A08", PID, version="3.0"), "AR", "203"),
    (message("Z99", PID, code="SIU"), "AR", "200"),
    (message("A08", number="M2"), "AE", "100"),
    (message("A08", "PID|1||||Mueller^Jane", number="M3"), "AE", "101"),
    (message("A08", "PID|1||17^^^ELSEWHERE", number="M4"), "AE", "204"),
    (message("A08", PID, number=""), "AE", "101"),
    ("PID|1", "AR", "100"),
    ("MSH|^^\\&|RIS", "AR", "100"),
]


async def test_bad_messages_are_refused_with_the_reason_and_kept(alice):
    async with receiving(alice, sender(application="RIS")) as receiver:
        for text, code, error in BAD:
            told = await receiver.tell(text)
            assert told[:2] == (code, error)
            assert told[2]
        waiting = await receiver.room.parked(20)
        # Nothing of a stranger's is kept.
        # Nor what is never taken.
        assert [(each["answer"], each["error"]) for each in waiting] == [
            (code, error) for _, code, error in BAD if error not in {"103", "200"}
        ]


async def test_what_is_refused_again_waits_once_until_it_is_discarded(receiver):
    for _ in range(2):
        assert (await receiver.tell(message("A08")))[0] == "AE"
    (one,) = await receiver.room.parked(10)
    assert one["times"] == 2
    assert "openpriors hl7 parked" in "".join(receiver.room.warnings())
    await receiver.room.discard(one["parked"], OFFICER)
    assert await receiver.room.parked(10) == []
    assert "".join(receiver.room.warnings()) == ""
    with pytest.raises(NotFound):
        await receiver.room.discard(one["parked"], OFFICER)
    records = await receiver.trail("hl7")
    assert [each["detail"]["what"] for each in records] == ["parked", "discarded"]


async def test_a_message_is_taken_once_what_stood_against_it_is_put_right(alice):
    pid = "PID|1||MRN-00017^^^ANNEX||Berg^Jane||19800517|F"
    async with receiving(alice) as receiver:
        assert (await receiver.tell(message("A08", pid)))[1] == "204"
        (waiting,) = await receiver.room.parked(10)
        with pytest.raises(Refusal) as still:
            await receiver.room.retry(waiting["parked"], OFFICER)
        assert still.value.code == "hl7-refused"
    async with receiving(alice, sender(name="HIS")) as receiver:
        with pytest.raises(Conflict):
            await receiver.room.retry(waiting["parked"], OFFICER)
    authorities = {"NGH": ISSUER, "ANNEX": ISSUER}
    async with receiving(alice, sender(authorities=authorities)) as receiver:
        await receiver.room.retry(waiting["parked"], OFFICER)
        assert (await receiver.patient("MRN-00017")).names[0] == "Berg^Jane"
        assert await receiver.room.parked(10) == []


async def test_the_corrected_message_takes_the_place_of_the_refused_one(receiver):
    assert (await receiver.tell(message("A08", "PID|1||||Berg^Jane")))[1] == "101"
    assert (await receiver.tell(message("A08", PID)))[0] == "AA"
    assert await receiver.room.parked(10) == []


async def test_only_so_many_refused_messages_are_kept(alice):
    async with receiving(alice, max_parked=2) as receiver:
        for number in range(4):
            assert (await receiver.tell(message("A08", number=f"M{number}")))[0] == "AE"
        waiting = await receiver.room.parked(10)
        assert [each["control_id"] for each in waiting] == ["M0", "M1"], "the oldest first"
        assert "hl7.max_parked" in "".join(receiver.room.warnings())
        await receiver.room.discard(waiting[0]["parked"], OFFICER)
        assert "hl7.max_parked" not in "".join(receiver.room.warnings())


@pytest.mark.parametrize(
    ("bound", "kept"), [({"max_parked_each": 1}, 2), ({"max_parked_bytes": 300}, 1)]
)
async def test_one_sender_leaves_room_to_the_others(alice, bound, kept, capsys):
    both = sender(application="RIS"), sender(name="HIS", application="HIS")
    async with receiving(alice, *both, **bound) as receiver:
        for number, application in enumerate(("RIS", "RIS", "HIS")):
            text = message("A08", f"NTE|{'x' * 200}", number=str(number), application=application)
            assert (await receiver.tell(text))[0] == "AE"
        assert len(await receiver.room.parked(10)) == kept
    assert "hl7-parked-full" in "".join(capsys.readouterr())


async def test_nothing_of_a_patient_is_shown_or_logged(receiver, capsys):
    pid = "PID|1||MRN-00017^^^ELSEWHERE||Mueller^Jane||19800517|F"
    told = await receiver.tell(message("A08", pid))
    shown = json.dumps(await receiver.room.parked(10)) + str(told) + capsys.readouterr().err
    for secret in ("Mueller", "MRN-00017", "19800517"):
        assert secret not in shown


# -- connections ----------------------------------------------------------------------------------


async def test_many_messages_come_on_one_connection_from_an_outside_program(receiver, tmp_path):
    names = ("Berg", "Tal", "Wald")
    blocks = [
        f"\x0b{message('A08', PID.replace('Mueller', name), number=f'M{number}')}\x1c\r"
        for number, name in enumerate(names)
    ]
    file = tmp_path / "messages.hl7"
    file.write_text("".join(blocks), newline="")
    command = [sys.executable, "-m", "hl7.client", "-p", str(receiver.port), "-f", str(file)]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "127.0.0.1"], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("MSA|AA|") == len(names)
    assert (await receiver.patient("MRN-00017")).names[:3] == tuple(
        f"{name}^Jane^Ann" for name in reversed(names)
    )


async def test_a_message_that_is_too_large_is_refused_and_the_next_one_taken(alice):
    async with receiving(alice, max_message_bytes=4096) as receiver:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        for text in (message("A08", PID, "NTE|" + "x" * 300_000), message("A08", PID)):
            writer.write(f"\x0b{text}\x1c\r".encode())
        async with asyncio.timeout(DEADLINE_S):
            told = [answered(await reader.readuntil(b"\x1c\r")) for _ in range(2)]
        writer.close()
        assert [each[0] for each in told] == ["AR", "AA"]
        assert await receiver.room.parked(10) == []


async def ends(reader):
    """Whether the other side ends the connection without a word."""
    async with asyncio.timeout(DEADLINE_S):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


async def test_a_stranger_is_not_heard(alice):
    async with receiving(alice, sender(host="192.0.2.7")) as receiver:
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.write(f"\x0b{message('A08', PID)}\x1c\r".encode())
        assert await ends(reader)
        writer.close()


async def test_who_sends_no_message_is_cut_off(alice):
    async with receiving(alice, message_s=1, idle_s=1) as receiver:
        for content in (b"GET / HTTP/1.1\r\n\r\n", b"\x0bMSH|^~", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            writer.write(content)
            assert await ends(reader)
            writer.close()


async def test_who_reads_no_answers_is_cut_off(receiver):
    receiver.listener._settings = receiver.settings.hl7.model_copy(update={"message_s": 0.01})
    stream = asyncio.StreamReader()
    stream.feed_data(f"\x0b{message('A08', PID)}\x1c\r".encode())
    aborted = []

    async def drain():
        await asyncio.Event().wait()

    writer = SimpleNamespace(
        get_extra_info=lambda _name: ("127.0.0.1", 1),
        write=lambda _content: None,
        drain=drain,
        transport=SimpleNamespace(abort=lambda: aborted.append(True)),
    )
    with pytest.raises(TimeoutError):
        await receiver.listener._serve(stream, writer)
    assert aborted == [True]


async def test_whether_a_sender_is_still_there_is_asked(receiver, monkeypatch):
    asked = []

    async def serve(_stream, writer):
        accepted = writer.get_extra_info("socket")
        asked.append(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    monkeypatch.setattr(receiver.listener, "_serve", serve)
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    assert await ends(reader)
    writer.close()
    assert asked == [1]


@pytest.mark.parametrize("host", ["10.0.0.7", "2001:db8::7", "2001:DB8:0::7"])
def test_an_address_is_not_looked_up(monkeypatch, host):
    def broken(*_arguments):
        raise AssertionError

    monkeypatch.setattr(socket, "getaddrinfo", broken)
    table = Senders([Hl7Sender(**sender(host=host))], ISSUER)
    assert bool(table.at("10.0.0.7")) == (host == "10.0.0.7")
    assert bool(table.at("2001:db8::7")) == (host != "10.0.0.7")


async def test_one_address_has_only_so_many_connections(alice):
    async with receiving(alice, max_connections_each=1) as receiver:
        _, first = await asyncio.open_connection("127.0.0.1", receiver.port)
        reader, second = await asyncio.open_connection("127.0.0.1", receiver.port)
        assert await ends(reader)
        first.close()
        second.close()


async def test_over_tls_only_who_shows_a_certificate_is_heard(alice, tmp_path):
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    paths = [str(tmp_path / name) for name in ("ca.pem", "certificate.pem", "key.pem")]
    authority.cert_pem.write_to_path(paths[0])
    made.cert_chain_pems[0].write_to_path(paths[1])
    made.private_key_pem.write_to_path(paths[2])
    files = dict(zip(("tls_ca", "tls_certificate", "tls_key"), paths, strict=True))
    async with receiving(alice, **files) as receiver:
        for shows in (True, False):
            context = ssl.create_default_context(cafile=paths[0])
            if shows:
                context.load_cert_chain(*paths[1:])
            told = b""
            try:
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", receiver.port, ssl=context
                )
                writer.write(f"\x0b{message('A08', PID)}\x1c\r".encode())
                async with asyncio.timeout(DEADLINE_S):
                    told = await reader.readuntil(b"\x1c\r")
                writer.close()
            except (OSError, asyncio.IncompleteReadError):
                assert not shows
            assert (b"MSA|AA|M1" in told) == shows


async def test_any_segments_are_taken_or_refused(alice):
    receiver = Receiver(alice, (sender(expect=True),))
    known = receiver.room.senders.named("RIS")
    pieces = st.sampled_from(
        [PID, "MRG|MRN-00099^^^NGH", "MRG|^^^&&", "PID|1||~^~&\\~", "PID", "MRG", "\\X\\", "EVN"]
    )

    @given(
        st.sampled_from(["A01", "A08", "A40", "A03", ""]),
        st.lists(pieces | st.text(max_size=20), max_size=6),
    )
    def take(tx, event, segments):
        block = message(event, *segments).encode("utf-8", "replace")
        with suppress(Refused):
            receiver.room.take_in(tx, block, known, again=True)

    await alice.db.write(take)
