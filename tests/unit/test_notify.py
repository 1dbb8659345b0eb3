"""Notices: from an outbox to an inbox and back, over restarts, absences and a webhook."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from dataclasses import replace

import pytest
from aiohttp import web

from peer.config import Settings
from peer.errors import ConfigError, NotFound
from peer.index import notices
from peer.notify import NotTaken, Webhook
from peer.notify.signing import sign_acknowledgement
from protocol.errors import BadSignature, Refusal
from protocol.limits import NOTICE_STUDIES
from protocol.messages import Notice, NoticeAcknowledged
from tests.facilities import CLINICIAN, JANE, OFFICER
from tests.transfers import STUDY, files_below, hospitals

SECRET = b"a secret of the facility's own that is long enough"
READER = replace(CLINICIAN, name="dr.yang", pseudonym="p-yang")


@pytest.fixture
async def pair(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as opened:
        yield opened


async def eventually(find):
    """Return what `find()` returns as soon as it is something."""
    async with asyncio.timeout(60):
        while not (found := await find()):  # noqa: ASYNC110 - seen through the API, as a page does
            await asyncio.sleep(0.01)
    return found


async def consented(bob):
    await bob.scan(count=1)
    return await bob.consent()


async def test_a_notice_is_delivered_seen_and_acknowledged_on_both_sides(pair):
    alice, bob = pair
    await consented(bob)
    sent = await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN, "Please compare.")
    assert sent.to_json()["acknowledged_at"] is None

    (notice,) = await eventually(alice.notify.inbox)
    shown = notice.to_json()
    assert shown["notice_id"] == sent.to_json()["notice_id"]
    assert shown["name"] == "Bob"
    assert shown["patient"] == {"name": JANE.names[0], "birth_date": "19800517", "sex": "F"}
    assert shown["study_instance_uids"] == [STUDY]
    assert shown["studies"][0]["modalities"] == ["CT"]
    assert shown["message"] == "Please compare."
    alice.clock.advance(60)
    await alice.notify.acknowledge(notice.notice_id, READER)

    async def acknowledged():
        (row,) = await bob.notify.outbox()
        return row.acknowledged_at and row

    row = await eventually(acknowledged)
    assert (row.acknowledged_at, row.acknowledged_by) == (alice.clock.now(), "p-yang")
    assert row.delivered_at is not None
    (record,) = await bob.actions("acknowledge")
    assert record["study_instance_uid"] == STUDY
    assert record["partner"] == alice.peer_id.hex()
    (mine,) = await alice.actions("acknowledge")
    assert mine["actor"]["name"] == "dr.yang"
    (told,) = await alice.actions("notify")
    assert record["actor"]["pseudonym"] == "p-yang"
    assert told["actor"]["pseudonym"] not in {"", CLINICIAN.name}, "the name stays at home"
    for there in (told, record):
        assert there["actor"]["roles"] == ["clinician"]
        assert there["actor"]["purpose"] == "TREAT"


async def test_a_notice_is_a_disclosure_of_its_sender_and_not_of_its_reader(pair):
    alice, bob = pair
    await consented(bob)
    await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN)
    await eventually(alice.notify.inbox)
    (disclosure,) = await bob.audit.disclosures([], [STUDY])
    assert disclosure.recipient == alice.peer_id.hex()
    assert await alice.audit.disclosures([], [STUDY]) == []


async def test_a_notice_waits_for_a_partner_that_is_away_and_survives_a_restart(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob") as (alice, bob):
        await consented(bob)
        bob.links.cut(alice)
        await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN)
        await asyncio.sleep(0.1)
        assert await alice.notify.inbox() == []
        (waiting,) = await bob.notify.outbox()
        assert waiting.delivered_at is None
    async with bob.open(tmp_path / "Bob"):
        await asyncio.sleep(0.1)
        (waiting,) = await bob.notify.outbox()
        assert waiting.delivered_at is None
        async with alice.open(tmp_path / "Alice"):
            bob.links.connect(alice)
            (notice,) = await eventually(alice.notify.inbox)
            bob.links.cut(alice)
            await alice.notify.acknowledge(notice.notice_id, READER)
            await asyncio.sleep(0.1)
            (row,) = await bob.notify.outbox()
            assert row.acknowledged_at is None
        async with alice.open(tmp_path / "Alice"):
            alice.links.connect(bob)

            async def acknowledged():
                return (await bob.notify.outbox())[0].acknowledged_at

            assert await eventually(acknowledged)


async def test_what_is_delivered_twice_stands_in_the_inbox_once(pair):
    alice, bob = pair
    await consented(bob)
    request, lost = bob.links.request, []

    async def lose_the_answer(peer_id, message, timeout_s):
        answer = await request(peer_id, message, timeout_s)
        if isinstance(message, Notice) and not lost:
            lost.append(message)
            raise TimeoutError
        return answer

    bob.links.request = lose_the_answer
    await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN)
    await eventually(alice.notify.inbox)
    bob.links.connect(alice)

    async def delivered():
        return (await bob.notify.outbox())[0].delivered_at

    await eventually(delivered)
    assert lost
    assert len(await alice.notify.inbox()) == 1


async def test_without_consent_nobody_is_told(pair):
    alice, bob = pair
    await bob.scan(count=1)
    with pytest.raises(Refusal) as caught:
        await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN)
    assert caught.value.code == "no-directive"
    assert await bob.notify.outbox() == []
    with pytest.raises(NotFound):
        await bob.notify.send(alice.peer_id, ["1.2.3"], CLINICIAN)
    with pytest.raises(Refusal):
        await bob.notify.send(alice.peer_id, [f"1.{n}" for n in range(NOTICE_STUDIES + 1)], OFFICER)
    with pytest.raises(Refusal):
        await bob.notify.send(bytes(32), [STUDY], CLINICIAN)


async def test_one_notice_is_about_one_patient(pair):
    alice, bob = pair
    await consented(bob)
    john = replace(JANE, patient_id="MRN-2", names=("Doe^John",), birth_date="19610203", sex="M")
    await bob.scan("1.2.3.4", count=1, patient=john)
    await bob.consent(john)
    with pytest.raises(Refusal) as caught:
        await bob.notify.send(alice.peer_id, [STUDY, "1.2.3.4"], CLINICIAN)
    assert caught.value.code == "several-patients"


async def test_nothing_of_a_notice_lies_in_the_clear(pair, tmp_path):
    alice, bob = pair
    await consented(bob)
    wire = []
    request = bob.links.request

    async def listen(peer_id, message, timeout_s):
        wire.append(message.statement.payload)
        return await request(peer_id, message, timeout_s)

    bob.links.request = listen
    await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN, "Please compare.")
    await eventually(alice.notify.inbox)
    places = [*wire, *files_below(tmp_path).values()]
    for attribute in (JANE.names[0].encode(), STUDY.encode(), b"Please compare."):
        assert not any(attribute in place for place in places)


async def test_a_notice_or_acknowledgement_in_anothers_name_is_refused(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob", "Eve") as (alice, bob, eve):
        await consented(bob)
        caught = []
        request = bob.links.request

        async def listen(peer_id, message, timeout_s):
            caught.append(message)
            return await request(peer_id, message, timeout_s)

        bob.links.request = listen
        await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN)
        (notice,) = await eventually(alice.notify.inbox)
        as_eve = next(p for p in alice.partners if p.peer_id == eve.peer_id)
        with pytest.raises(BadSignature):
            await alice.notify.receive(caught[0], as_eve)

        eve_at_bob = next(p for p in bob.partners if p.peer_id == eve.peer_id)
        row = replace(
            (await alice.db.read(lambda tx: notices.inbox(tx, 9)))[0],
            partner=bob.peer_id,
            acknowledged_at=1,
        )
        forged = sign_acknowledgement(eve.keys, row, eve.clock.now())
        assert isinstance(forged, NoticeAcknowledged)
        with pytest.raises(Refusal):
            await bob.notify.receive_acknowledgement(forged, eve_at_bob)
        assert (await bob.notify.outbox())[0].acknowledged_at is None
        assert notice.acknowledged_at is None


# -- the webhook ------------------------------------------------------------------------------


class Receiver:
    """A system of the facility that fails a number of times first."""

    def __init__(self, failures):
        self.failures = failures
        self.posts = []
        self.taken = asyncio.Event()

    async def take(self, request):
        self.posts.append((dict(request.headers), await request.read()))
        if len(self.posts) <= self.failures:
            return web.Response(status=503)
        self.taken.set()
        return web.Response(status=204)


@pytest.fixture
async def receiver(unused_tcp_port):
    found = Receiver(failures=1)
    application = web.Application()
    application.router.add_post("/hook", found.take)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    found.url = f"http://127.0.0.1:{unused_tcp_port}/hook"
    yield found
    await runner.cleanup()


async def test_the_webhook_is_told_signed_and_told_again_until_it_answers(
    tmp_path, receiver, outside_tool
):
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    hook = {"webhook_url": receiver.url, "webhook_secret_file": str(secret)}
    async with hospitals(tmp_path, "Alice", "Bob", notify=hook) as (alice, bob):
        await consented(bob)
        await bob.notify.send(alice.peer_id, [STUDY], CLINICIAN)
        async with asyncio.timeout(60):
            await receiver.taken.wait()
        (notice,) = await alice.notify.inbox()
    assert len(receiver.posts) == 2, "the post was not tried again"
    headers, body = receiver.posts[-1]
    assert json.loads(body) == {
        "type": "notice.received",
        "timestamp": int(headers["webhook-timestamp"]),
        "data": {
            "notice_id": notice.notice_id.hex(),
            "peer_id": bob.peer_id.hex(),
            "studies": 1,
        },
    }
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    openssl = outside_tool("openssl")
    digest = await asyncio.to_thread(
        subprocess.run,
        [
            openssl,
            "dgst",
            "-sha256",
            "-mac",
            "HMAC",
            "-macopt",
            f"hexkey:{SECRET.hex()}",
            "-binary",
        ],
        input=signed,
        capture_output=True,
        check=True,
    )
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest.stdout).decode()


async def test_a_webhook_that_never_answers_is_named_with_its_remedy(receiver):
    receiver.failures = 99
    hook = Webhook(receiver.url, SECRET, attempts=2, timeout_s=1)
    with pytest.raises(NotTaken, match=r"503.*notify\.webhook_url"):
        await hook.post("notice.received", "id", 1, {})
    assert len(receiver.posts) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"short", "too short"), (b"whsec_%%%", "base64"), (b"\xff\xfe" * 20, "cannot be read")],
)
def test_a_secret_that_is_no_secret_is_refused_at_start(tmp_path, content, sentence):
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    wanted = {"webhook_url": "https://pacs.example/hook", "webhook_secret_file": str(secret)}
    with pytest.raises(ConfigError, match=sentence):
        Webhook.configured(Settings(facility={"name": "Alice"}, notify=wanted))


def test_a_secret_in_the_form_of_standard_webhooks_is_decoded(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + base64.b64encode(SECRET).decode() + "\n")
    wanted = {"webhook_url": "https://pacs.example/hook", "webhook_secret_file": str(secret)}
    hook = Webhook.configured(Settings(facility={"name": "Alice"}, notify=wanted))
    assert hook.secret == SECRET
