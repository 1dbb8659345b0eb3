"""Attack: a partner sends nothing but valid messages, as fast as the line carries them.

It must cost the node a bounded number of handled messages, records and bytes, be seen by the
operator, and keep nobody else waiting.  What is counted is what the node did, never how fast.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from peer import keys as node_keys
from peer.config import load as load_settings
from peer.link.dialling import dial, new_session
from peer.link.metering import BURST_S
from peer.outbound import Proxy
from peer.partners.calls import PairingCalls
from protocol.evaluation import QUESTION_RANDOM_BYTES, ask
from protocol.identifiers import PeerId
from protocol.messages import HAVE_DOMAIN, Evaluate, Have, HaveBody, Kind, Want, encode
from protocol.statements import sign_statement
from tests.processes import Node, Nodes, pair

SMALL = {
    "OPENPRIORS_LINK__REQUESTS_PER_S": "1",
    "OPENPRIORS_LINK__EXCHANGE_MESSAGES_PER_S": "1",
}
"""So that the bound is met within seconds: sixty at once, and one a second."""
FRAMES = 200
"""Messages that are made before the attack, and sent over and over."""
ATTACK_S = 1.5
SLACK = 10
"""What is read before the first pause, and what an exchange says of itself."""


@pytest.fixture(scope="module")
def facilities(tmp_path_factory):
    """Alice, whose budgets are small, and her partners Bob and Mallory, whose node is stopped."""
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    alice, bob, mallory = made(3, started=False)
    alice.start(**SMALL)
    bob.start()
    mallory.start()
    pair(alice, bob)
    pair(alice, mallory)
    alice_id = PeerId(bytes.fromhex(alice.peer_id))
    mallory.stop()
    yield alice, bob, mallory, alice_id
    made.stop()


@asynccontextmanager
async def link_of(mallory: Node, alice: Node, alice_id: PeerId):
    """Open Mallory's link to Alice, as her node would."""
    settings = load_settings(mallory.data)
    keys = node_keys.load(mallory.data, settings)
    pairing_url = str(alice.addresses["pairing_url"])
    _, record = await PairingCalls(10).fetch_record(pairing_url, alice_id)
    partner = SimpleNamespace(peer_id=alice_id, record=record)
    async with new_session(keys, partner, settings.link) as session:
        connection, _ = await dial(session, keys, partner, int(time.time()), settings.link, Proxy())
        yield connection._socket, keys
        connection._socket._conn.transport.abort()
        await connection.close("Enough.")
        await asyncio.sleep(0)


def signed_have(keys, alice_id, _number):
    body = HaveBody(keys.peer_id, alice_id, int(time.time()), ())
    return encode(Have(sign_statement(keys.node_seed, HAVE_DOMAIN, body)), Kind.TELL)


def want(_keys, alice_id, _number):
    """Ask for everything, again and again."""
    return encode(Want(alice_id, 0, 0), Kind.TELL)


def evaluation(_keys, _alice_id, number):
    points = ask(("a", str(number)), b"r" * QUESTION_RANDOM_BYTES).points
    question = Evaluate(number.to_bytes(16, "big"), "p-1", "clinician", "TREAT", points, points)
    return encode(question, Kind.REQUEST, number + 1)


def unknown(keys, alice_id, number):
    """What a later version might say."""
    return want(keys, alice_id, number).replace(b"\xa4want", b"\xa4wont")


def nothing(_keys, _alice_id, _number):
    """The smallest that a WebSocket carries: a ping."""
    return b""


async def send_at_full_speed(mallory, alice, alice_id, make) -> tuple[int, int]:
    """Send for some seconds; return how many frames the line took, and how many were answered."""
    sent, answered = 0, 0
    async with link_of(mallory, alice, alice_id) as (socket, keys):
        frames = [make(keys, alice_id, number) for number in range(FRAMES)]

        async def send():
            nonlocal sent
            for frame in itertools.cycle(frames):
                await (socket.send_bytes(frame) if frame else socket.ping())
                sent += 1

        async def read():
            nonlocal answered
            while (await socket.receive()).data is not None:
                answered += 1

        tasks = [asyncio.create_task(send()), asyncio.create_task(read())]
        await asyncio.wait(tasks, timeout=ATTACK_S, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return sent, answered


def searched_everywhere(bob: Node) -> bool:
    question = {"name": "Doe^Jane", "birth_date": "19800517", "sex": "F"}
    return not bob.post("/search", question)["coverage"]["not_searched"]


def of(mallory: Node, shown: list[dict]) -> list[dict]:
    """Return what is shown of Mallory, whose node does not run."""
    mine = node_keys.load(mallory.data, load_settings(mallory.data)).peer_id.hex()
    return [each for each in shown if mine in {each.get("peer_id"), each.get("partner")}]


@pytest.mark.parametrize("make", [evaluation, signed_have, want, unknown, nothing])
def test_valid_garbage_costs_its_sender_time_and_nobody_else_anything(facilities, make):
    alice, bob, mallory, alice_id = facilities
    began = time.monotonic()

    async def attack():
        flood = asyncio.create_task(send_at_full_speed(mallory, alice, alice_id, make))
        served = 0
        while not flood.done():
            served += await asyncio.to_thread(searched_everywhere, bob)
        return *await flood, served

    sent, answered, served = asyncio.run(attack())
    allowed = BURST_S + (time.monotonic() - began) + SLACK
    assert served, "while one partner floods, the other's searches are answered"
    assert sent > 2 * allowed, "the attack was none"
    assert answered <= allowed
    (shown,) = of(mallory, alice.get("/partners")["partners"])
    assert shown["slowed_at"], "the operator does not see it"
    assert any("more than its budget" in each for each in alice.get("/status")["warnings"])


def test_the_abuse_is_on_record_once_an_hour_for_each_load(facilities):
    alice, _, mallory, _ = facilities
    records = of(mallory, alice.run_json("audit", "export")["records"])
    slowed = [each["detail"]["load"] for each in records if each["action"] == "partner-slowed"]
    assert sorted(slowed) == ["exchange", "requests"]
    assert {each["action"] for each in records} <= {
        "pair",
        "partner-confirm",
        "partner-slowed",
        "evaluate",
    }, "what is told and not asked leaves no record for each message"
