"""Links between real nodes: opened from either side, the same in both directions."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from peer import keys as node_keys
from peer.keys.tls import unpinned_context
from peer.link import NotConnected
from peer.link.dialling import LINK_PATH, new_session
from peer.link.ranges import pack_path
from protocol.errors import Refusal
from protocol.limits import IN_FLIGHT
from protocol.messages import Done, Gone, Refused, Want
from protocol.versions import Versions
from tests.unit.federation.facility import OPERATOR, PACK, Facility, linked, pair, until

GRANT, PACK_ID = b"g" * 16, b"p" * 16
PATH = pack_path(GRANT, PACK_ID)


def want(number):
    return Want(bytes(32), 0, number)


async def echo(message, partner):
    return message


async def test_requests_run_both_ways_whoever_dialled(alice, bob):
    alice.links.handle(Want, echo)
    bob.links.handle(Want, echo)
    await pair(alice, bob)
    await linked(alice, bob)
    assert await alice.links.request(bob.peer_id, want(1)) == want(1)
    assert await bob.links.request(alice.peer_id, want(2)) == want(2)


async def test_two_that_dial_at_once_keep_one_link(alice, bob):
    for facility in (alice, bob):
        facility.links.handle(Want, echo)
    await pair(alice, bob)
    await linked(alice, bob)
    await asyncio.sleep(0.2)
    await linked(alice, bob)
    here = alice.links._lines[bob.peer_id].connection
    there = bob.links._lines[alice.peer_id].connection
    assert here.dialler == there.dialler, "both sides must have kept the same one"
    assert await alice.links.request(bob.peer_id, want(3)) == want(3)


async def test_of_two_links_the_one_of_the_lower_peer_id_is_kept(alice, bob, monkeypatch):
    """Each side dials although there is a link: the decision must be the same on both."""
    await pair(alice, bob)
    await linked(alice, bob)
    lower, higher = sorted((alice, bob), key=lambda facility: facility.peer_id)
    for dialler, other in ((lower, higher), (higher, lower)):
        line = dialler.links._line(other.peer_id)
        attempt = asyncio.create_task(dialler.links._redial.dial_once(dialler.knows(other), line))
        await asyncio.sleep(0.3)
        assert attempt.done() == (dialler is higher), "the higher one's link is closed at once"
        for facility in (lower, higher):
            peer_id = (higher if facility is lower else lower).peer_id
            assert facility.links._lines[peer_id].connection.dialler == lower.peer_id
        if dialler is lower:
            kept = attempt
    kept.cancel()
    await asyncio.gather(kept, return_exceptions=True)


async def test_an_outbound_only_partner_gets_everything_over_its_own_link(alice, carol):
    carol.links.handle(Want, echo)
    await pair(alice, carol)
    await linked(alice, carol)
    assert await alice.links.request(carol.peer_id, want(4)) == want(4)
    end = 3 * 1024 * 1024 - 5
    assert await alice.links.open_range(carol.peer_id, PATH, 7, end) == PACK[7:end]
    assert len(carol.pieces) == 3


async def test_three_facilities_hold_three_links(alice, bob, carol):
    for one, other in ((alice, bob), (alice, carol), (bob, carol)):
        await pair(one, other)
    for one, other in ((alice, bob), (alice, carol), (bob, carol)):
        await linked(one, other)
    assert len(alice.links.connected()) == len(carol.links.connected()) == 2


async def test_a_refusal_comes_back_with_its_reason(alice, bob):
    async def refuse(message, partner):
        raise Refusal("no-scope", "Only CT is shared.", "Widen the agreement.")

    bob.links.handle(Want, refuse)
    await pair(alice, bob)
    await linked(alice, bob)
    with pytest.raises(Refusal) as refused:
        await alice.links.request(bob.peer_id, want(1))
    assert (refused.value.code, refused.value.remedy) == ("no-scope", "Widen the agreement.")


async def test_a_handler_without_answer_says_done_and_an_unknown_message_is_named(alice, bob):
    async def nothing(message, partner):
        assert partner.peer_id == alice.peer_id

    bob.links.handle(Want, nothing)
    await pair(alice, bob)
    await linked(alice, bob)
    assert await alice.links.request(bob.peer_id, want(1)) == Done()
    with pytest.raises(Refusal) as refused:
        await alice.links.request(bob.peer_id, Gone("?"))
    assert refused.value.code == "unknown-message"


async def test_a_bug_in_a_handler_costs_one_answer_and_no_link(alice, bob):
    async def buggy(message, partner):
        if message.from_batch == 0:
            raise KeyError
        return message

    bob.links.handle(Want, buggy)
    await pair(alice, bob)
    await linked(alice, bob)
    with pytest.raises(TimeoutError):
        await alice.links.request(bob.peer_id, want(0), 0.3)
    assert await alice.links.request(bob.peer_id, want(1)) == want(1)


async def test_tells_keep_their_order_and_refusals_are_told_too(alice, bob):
    heard = []

    async def hear(message, partner):
        await asyncio.sleep(0.01 if not heard else 0)
        heard.append(message)

    bob.links.handle(Want, hear)
    bob.links.handle(Refused, hear)
    await pair(alice, bob)
    await linked(alice, bob)
    sent = [want(number) for number in range(40)] + [Refused("gap", "One is missing.", "")]
    for message in sent:
        await alice.links.tell(bob.peer_id, message)
    await until(lambda: len(heard) == len(sent))
    assert heard == sent


async def test_requests_in_flight_are_bounded(alice, bob):
    """The asker waits for room; nothing is lost."""
    running, most, gate = 0, 0, asyncio.Event()

    async def slow(message, partner):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return message

    bob.links.handle(Want, slow)
    await pair(alice, bob)
    await linked(alice, bob)
    asked = [
        asyncio.create_task(alice.links.request(bob.peer_id, want(number)))
        for number in range(2 * IN_FLIGHT)
    ]
    await until(lambda: running == IN_FLIGHT)
    await asyncio.sleep(0.1)
    gate.set()
    assert await asyncio.gather(*asked) == [want(number) for number in range(2 * IN_FLIGHT)]
    assert most == IN_FLIGHT


async def test_what_waits_fails_when_the_link_goes_down_and_the_link_comes_back(alice, bob):
    async def never(message, partner):
        await asyncio.Event().wait()

    bob.links.handle(Want, never)
    ups, downs = [], []
    alice.links.on_connected(ups.append)
    alice.links.on_disconnected(downs.append)
    await pair(alice, bob)
    await linked(alice, bob)
    asked = asyncio.create_task(alice.links.request(bob.peer_id, want(1)))
    await asyncio.sleep(0.05)
    await bob.links.cut(alice.peer_id)
    with pytest.raises(NotConnected):
        await asked
    await linked(alice, bob)
    await until(lambda: alice.links.state(bob.peer_id).connected)
    assert ups
    assert downs
    assert set(ups) == set(downs) == {bob.peer_id}


async def test_without_a_link_the_reason_is_told(alice, bob):
    with pytest.raises(NotConnected, match="no partner"):
        await alice.links.request(bob.peer_id, want(1))
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.stop()
    await until(lambda: alice.links.state(bob.peer_id).last_error_code == "unreachable", 15)
    assert str(bob.port) in alice.links.state(bob.peer_id).last_error
    with pytest.raises(NotConnected, match="cannot be reached"):
        await alice.links.tell(bob.peer_id, want(1))
    await bob.start()
    await linked(alice, bob)


async def test_whoever_is_not_accepted_yet_is_told_so(alice, bob):
    """Alice has everything she needs; Bob's index was restored from before his confirmation."""
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.stop()
    forgotten = replace(bob.knows(alice), state="pending")
    await bob.db.write(
        lambda tx: tx.execute("UPDATE partners SET state = 'pending', delivered = 0")
    )
    await bob.start()
    assert bob.knows(alice).state == forgotten.state
    await until(lambda: alice.links.state(bob.peer_id).last_error_code == "not-accepted", 15)
    assert "not accepted you (yet)" in alice.links.state(bob.peer_id).last_error


async def test_a_server_with_another_certificate_is_named(alice, bob, tmp_path):
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.stop()
    async with Facility.open("eve", tmp_path) as eve:
        await eve.federation.stop()
        impostor = type(eve.federation)(
            eve.keys, eve.partners, eve.links, eve.read_pack, bob.settings
        )
        await impostor.start()
        await until(
            lambda: alice.links.state(bob.peer_id).last_error_code == "wrong-certificate", 15
        )
        await impostor.stop()
    await bob.start()
    await linked(alice, bob)


async def test_a_partner_with_new_keys_is_followed(alice, bob, monkeypatch):
    """Bob rotated while Alice was offline: she asks his pairing listener for the key record."""
    await pair(alice, bob)
    await linked(alice, bob)
    await bob.stop()
    settings = type("S", (), {"keys": type("K", (), {"master_key_file": ""})})()
    before = bob.keys.tls_certificate_der
    bob.keys = node_keys.renew(
        bob.folder / "data",
        settings,
        bob.folder / "root.key",
        now=bob.clock.now(),
        new_keys_from=(0, 0),
    )
    assert bob.keys.tls_certificate_der != before
    await bob.start()
    await until(lambda: alice.knows(bob).record.revision == 2, 15)
    await linked(alice, bob)


async def test_a_wrong_clock_is_shown(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    bob.clock.advance(300)
    await alice.links.cut(bob.peer_id)
    await until(lambda: alice.links.state(bob.peer_id).clock_offset_s == 300)


# -- ranges ---------------------------------------------------------------------------------------


async def drain(stream):
    async for _ in stream:
        pass


async def test_a_range_comes_in_parts_and_is_read_in_pieces_of_a_mebibyte(alice, bob):
    await pair(alice, bob)
    pieces = [
        piece async for piece in alice.links.stream_range(bob.peer_id, PATH, 3, len(PACK) - 3)
    ]
    assert b"".join(pieces) == PACK[3:-3]
    assert len(pieces) > 1
    assert max(until - at for _, _, at, until in bob.pieces) == 1024 * 1024
    assert {(grant, pack) for grant, pack, _, _ in bob.pieces} == {(GRANT, PACK_ID)}


async def test_a_refused_range_says_why(alice, bob):
    await pair(alice, bob)
    bob.refuse_packs = True
    with pytest.raises(Refusal) as refused:
        await alice.links.open_range(bob.peer_id, PATH, 0, 10)
    assert (refused.value.code, refused.value.reason) == ("revoked", "The consent was revoked.")


async def test_a_revocation_in_mid_stream_ends_it(alice, bob):
    await pair(alice, bob)
    stream = alice.links.stream_range(bob.peer_id, PATH, 0, len(PACK))
    await anext(stream)
    bob.refuse_packs = True  # What sockets and buffers hold still comes, the rest does not.
    with pytest.raises(NotConnected):
        await drain(stream)
    bob.refuse_packs = False
    assert await alice.links.open_range(bob.peer_id, PATH, 0, 9) == PACK[:9]


async def test_a_damaged_pack_is_not_passed_on(alice, bob, monkeypatch):
    await pair(alice, bob)

    async def short(partner, grant_id, pack_id, start, end):
        return PACK[start : end - 1]

    monkeypatch.setattr(bob.federation, "_packs", short)
    with pytest.raises(Refusal) as refused:
        await alice.links.open_range(bob.peer_id, PATH, 0, 100)
    assert refused.value.code == "failed"


@pytest.mark.parametrize("header", ["", "bytes=5-", "bytes=9-3", "bytes=0-1,4-5", "lines=1-2"])
async def test_only_one_closed_range_can_be_asked_for(alice, bob, header):
    await pair(alice, bob)
    session = alice.links._line(bob.peer_id).open_session(
        alice.keys, alice.knows(bob), alice.settings.link
    )
    url = bob.keys.key_record.federation_url + PATH
    async with session.get(url, headers={"Range": header} if header else {}) as response:
        assert response.status == 400


# -- sockets --------------------------------------------------------------------------------------


async def test_nagle_is_off_on_every_socket(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    nodelay = []
    for facility, other in ((alice, bob), (bob, alice)):
        link = facility.links._lines[other.peer_id].connection._socket
        raw = link.get_extra_info("socket")
        nodelay.append(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    assert all(nodelay)


async def test_older_tls_is_refused(alice):
    old = unpinned_context()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    for port in (alice.port, alice.pairing_port):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port, ssl=old)


async def test_the_private_key_never_touches_the_disk(alice):
    secret = alice.keys.tls_key.split(b"\n")[1]
    for path in alice.folder.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), f"{path.name} holds the TLS key"


async def test_removal_ends_links_and_downloads_at_once_and_tells_the_partner(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    stream = bob.links.stream_range(alice.peer_id, PATH, 0, len(PACK))
    await anext(stream)
    await alice.partners.remove(bob.peer_id, OPERATOR, "contract ended")
    assert not alice.links.state(bob.peer_id).connected
    with pytest.raises(NotConnected):
        await drain(stream)
    await until(lambda: bob.knows(alice).state == "removed")
    assert bob.knows(alice).reason == "They have ended the partnership."
    with pytest.raises(NotConnected):
        await bob.links.request(alice.peer_id, want(1))


async def test_a_partner_that_never_says_hello_fills_no_log(alice, bob):
    await pair(alice, bob)
    partner = bob.knows(alice)
    session = new_session(bob.keys, partner, bob.settings.link)
    try:
        with capture_logs() as lines:
            for _ in range(5):
                socket = await session.ws_connect(partner.record.federation_url + LINK_PATH)
                await socket.send_bytes(b"no hello")
                await socket.receive()
                await socket.close()
    finally:
        await session.close()
    failed = [line for line in lines if line["event"] == "link-hello-failed"]
    assert len(failed) == 1


# -- versions -------------------------------------------------------------------------------------


async def test_a_link_speaks_the_highest_common_version(alice, bob):
    alice.speaks, bob.speaks = Versions(1, 2), Versions(2, 5)
    for facility in (alice, bob):
        await facility.stop()
        await facility.start()
    await pair(alice, bob)
    await linked(alice, bob)
    for here, there in ((alice, bob), (bob, alice)):
        assert here.links.state(there.peer_id).version == 2


@pytest.mark.parametrize("dialled_by_the_older", [True, False])
async def test_without_a_common_version_the_older_side_is_told_to_update(
    alice, carol, dialled_by_the_older
):
    """Carol dials, as she can be reached by nobody; either of the two may be the older one."""
    older, newer = (carol, alice) if dialled_by_the_older else (alice, carol)
    await pair(alice, carol)
    await linked(alice, carol)
    newer.speaks = Versions(2, 3)
    await newer.stop()
    await newer.start()
    states = (older.links.state, newer.links.state)
    ids = (newer.peer_id, older.peer_id)
    for state, peer_id in zip(states, ids, strict=True):
        await until(lambda s=state, p=peer_id: s(p).last_error_code == "no-common-version", 15)
    told_older, told_newer = (s(p).last_error for s, p in zip(states, ids, strict=True))
    assert told_older.startswith("This node is too old")
    assert told_older.endswith("Update this node.")
    assert told_newer.startswith("The partner's node is too old")
    older.speaks = Versions(1, 2)
    await older.stop()
    await older.start()
    await linked(alice, carol)
    assert older.links.state(newer.peer_id).version == 2
