"""An adversary who can reach the listeners could: nothing."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

import aiohttp
import pytest

from peer.keys.tls import federation_context, partner_context, pinned_context
from peer.link.dialling import DialFailed, dial, new_session
from peer.link.ranges import pack_path
from peer.outbound import Proxy
from protocol.errors import Refusal, RemoteProtocolError
from protocol.limits import INVITATION_ATTEMPTS, MESSAGE_BYTES, PAIRING_BYTES, PROTOCOL_VERSION
from protocol.messages import Hello, Kind, Refused, Want, decode, encode
from tests.unit.federation.facility import OPERATOR, Facility, linked, pair, until

PATH = pack_path(b"g" * 16, b"p" * 16)


@pytest.fixture
async def alice(tmp_path):
    async with Facility.open("alice", tmp_path) as facility:
        yield facility


@pytest.fixture
async def bob(tmp_path):
    async with Facility.open("bob", tmp_path) as facility:
        yield facility


@pytest.fixture
async def eve(tmp_path):
    """A facility that nobody trusts."""
    async with Facility.open("eve", tmp_path) as facility:
        yield facility


def raw_get(facility, context, session=None):
    """Ask for a range over a plain TLS socket; return the answer and the TLS session."""
    import socket

    with (
        socket.create_connection(("127.0.0.1", facility.port), timeout=5) as plain,
        context.wrap_socket(plain, session=session) as tls,
    ):
        request = f"GET {PATH} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9\r\nConnection: close\r\n\r\n"
        tls.sendall(request.encode())
        answer = b""
        while part := tls.recv(65536):
            answer += part
        return answer, tls.session, tls.session_reused


async def is_turned_away(facility, context, session=None):
    """Whether TLS itself refuses: not one byte of HTTP comes back."""
    try:
        answer, _, _ = await asyncio.to_thread(raw_get, facility, context, session)
    except (ssl.SSLError, ConnectionError):
        return True
    return answer == b""


def socket_of(links, peer_id):
    return links._lines[peer_id].connection._socket


# -- unknown partner ------------------------------------------------------------------------------


async def test_an_unknown_partner_gets_nothing(alice, bob, eve):
    await pair(alice, bob)
    context = partner_context(eve.keys, alice.keys.tls_certificate_der)
    assert await is_turned_away(alice, context)
    assert await is_turned_away(alice, pinned_context(alice.keys.tls_certificate_der))
    assert not alice.pieces


async def test_an_unknown_partner_is_told_nothing_but_that_it_is_not_accepted(alice, eve):
    partner = type("P", (), {})()
    partner.record, partner.peer_id = alice.keys.key_record, alice.peer_id
    session = new_session(eve.keys, partner, eve.settings.link)
    try:
        with pytest.raises(DialFailed) as failed:
            await dial(session, eve.keys, partner, eve.clock.now(), eve.settings.link, Proxy())
    finally:
        await session.close()
    assert failed.value.code == "not-accepted"


async def test_a_pending_partner_gets_nothing(alice, bob):
    await pair(alice, bob, confirm=False)
    await alice.partners.confirm(bob.peer_id, OPERATOR)
    context = partner_context(bob.keys, alice.keys.tls_certificate_der)
    assert await is_turned_away(alice, context)


async def test_a_certificate_issued_by_a_partners_key_is_not_the_partner(alice, bob, eve):
    """Bob's key signs a certificate for Eve: OpenSSL might chain it, the trust table does not."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    await pair(alice, bob)
    issuer = x509.load_der_x509_certificate(bob.keys.tls_certificate_der)
    mine = load_pem_private_key(eve.keys.tls_key, None)
    assert isinstance(mine, Ed25519PrivateKey)
    issued = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(mine.public_key())
        .serial_number(2)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .sign(load_pem_private_key(bob.keys.tls_key, None), None)
    )
    disguised = replace(eve.keys, tls_certificate_der=issued.public_bytes(Encoding.DER))
    context = partner_context(disguised, alice.keys.tls_certificate_der)
    try:
        answer, _, _ = await asyncio.to_thread(raw_get, alice, context)
    except (ssl.SSLError, ConnectionError):
        answer = b""
    assert b" 206 " not in answer
    assert not alice.pieces


# -- removed partner ------------------------------------------------------------------------------


async def test_a_removed_partner_with_a_kept_alive_connection_is_refused(alice, bob):
    await pair(alice, bob)
    context = partner_context(bob.keys, alice.keys.tls_certificate_der)
    url = alice.keys.key_record.federation_url + PATH
    connector = aiohttp.TCPConnector(ssl=context, limit=1)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(url, headers={"Range": "bytes=0-9"}) as response:
            assert response.status == 206
            await response.read()
        (kept,) = [each for pool in connector._conns.values() for each in pool]
        await alice.partners.remove(bob.peer_id, OPERATOR, "contract ended")
        async with session.get(url, headers={"Range": "bytes=0-9"}) as response:
            assert response.status == 403
            assert not response.headers.get("Connection", "").startswith("keep")
        assert kept[0].transport is None or kept[0].transport.is_closing(), "it was the same one"
    assert len(alice.pieces) == 1


async def test_a_removed_partner_cannot_connect_again(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await alice.partners.remove(bob.peer_id, OPERATOR, "contract ended")
    context = partner_context(bob.keys, alice.keys.tls_certificate_der)
    assert await is_turned_away(alice, context)


async def test_no_session_can_be_resumed(alice, bob):
    """A client that keeps its session has nothing to resume, before or after its removal."""
    await pair(alice, bob)
    context = partner_context(bob.keys, alice.keys.tls_certificate_der)
    answer, session, _ = await asyncio.to_thread(raw_get, alice, context)
    assert b" 206 " in answer
    assert session is None or not session.has_ticket
    answer, session, reused = await asyncio.to_thread(raw_get, alice, context, session)
    assert b" 206 " in answer
    assert not reused
    await alice.partners.remove(bob.peer_id, OPERATOR, "contract ended")
    assert await is_turned_away(alice, context, session)


async def test_the_attack_works_against_a_server_that_gives_tickets(alice, bob, monkeypatch):
    """The mutant: with tickets the removed partner's handshake succeeds, as the trap says.

    Even then the trust table refuses its request.
    """
    await pair(alice, bob)
    alice.federation._server._context.num_tickets = 2
    context = partner_context(bob.keys, alice.keys.tls_certificate_der)
    _, session, _ = await asyncio.to_thread(raw_get, alice, context)
    assert session is not None
    assert session.has_ticket, "the outer context decides about tickets"
    await alice.partners.remove(bob.peer_id, OPERATOR, "contract ended")
    try:
        answer, _, reused = await asyncio.to_thread(raw_get, alice, context, session)
    except (ssl.SSLError, ConnectionError):
        return
    assert reused
    assert b" 403 " in answer
    assert b" 206 " not in answer


async def test_trust_is_added_and_taken_away_without_a_restart(alice, bob, eve):
    await pair(alice, bob)
    await pair(alice, eve)
    await alice.partners.remove(eve.peer_id, OPERATOR, "contract ended")
    context = partner_context(bob.keys, alice.keys.tls_certificate_der)
    answer, _, _ = await asyncio.to_thread(raw_get, alice, context)
    assert b" 206 " in answer


async def test_the_outer_context_trusts_nobody(alice, bob):
    """`sni_callback` puts the context of the moment in; without it nobody would pass."""
    await pair(alice, bob)
    outer = alice.federation._server._context
    assert outer.verify_mode is ssl.CERT_REQUIRED
    assert not outer.get_ca_certs(binary_form=True)
    assert outer.num_tickets == 0
    assert federation_context(alice.keys, ()).minimum_version is ssl.TLSVersion.TLSv1_3


# -- on the link ----------------------------------------------------------------------------------


async def test_an_oversized_message_ends_the_link_unparsed(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await asyncio.sleep(0.1)
    victim = alice.links._lines[bob.peer_id].connection
    await socket_of(bob.links, alice.peer_id).send_bytes(bytes(MESSAGE_BYTES + 1))
    await until(victim.closed.is_set)
    await until(lambda: victim.reason != "")
    assert str(MESSAGE_BYTES) in victim.reason


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1",
        encode(Want(bytes(32), 0, 0), Kind.TELL)[:-1],
    ],
    ids=["noise", "cut off"],
)
async def test_a_malformed_message_ends_the_link_and_no_more(alice, bob, frame):
    await pair(alice, bob)
    await linked(alice, bob)
    await asyncio.sleep(0.1)
    victim = alice.links._lines[bob.peer_id].connection
    await socket_of(bob.links, alice.peer_id).send_bytes(frame)
    await until(victim.closed.is_set)
    await linked(alice, bob)
    await until(lambda: alice.links._lines[bob.peer_id].connection is not victim)


async def test_a_text_message_ends_the_link(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await asyncio.sleep(0.1)
    victim = alice.links._lines[bob.peer_id].connection
    await socket_of(bob.links, alice.peer_id).send_str("hello")
    await until(victim.closed.is_set)


@pytest.mark.parametrize("fault", ["version", "author", "addressee"])
async def test_a_wrongly_addressed_hello_is_refused(alice, bob, fault):
    await pair(alice, bob)
    await bob.stop()
    hello = Hello(1, PROTOCOL_VERSION, bob.peer_id, alice.peer_id, 1, bob.clock.now())
    hello = {
        "version": replace(hello, oldest_version=2, newest_version=2),
        "author": replace(hello, peer_id=bytes(32)),
        "addressee": replace(hello, addressee=bytes(32)),
    }[fault]
    context = partner_context(bob.keys, alice.keys.tls_certificate_der)
    url = alice.keys.key_record.federation_url + "/v1/link"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.ws_connect(url) as link,
    ):
        await link.send_bytes(encode(hello, Kind.REQUEST, 0))
        _, refused = decode((await link.receive()).data)
        assert isinstance(refused, Refused)
        assert refused.code == ("no-common-version" if fault == "version" else "wrong-addressee")
        assert (await link.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    assert not alice.links.state(bob.peer_id).connected
    await bob.start()


async def test_a_link_begins_with_a_hello_or_ends(alice, bob):
    await pair(alice, bob)
    await bob.stop()
    context = partner_context(bob.keys, alice.keys.tls_certificate_der)
    url = alice.keys.key_record.federation_url + "/v1/link"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.ws_connect(url) as link,
    ):
        await link.send_bytes(encode(Want(bytes(32), 0, 0), Kind.REQUEST, 1))
        assert (await link.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await bob.start()


# -- pairing --------------------------------------------------------------------------------------


async def test_a_pairing_secret_cannot_be_used_twice(alice, bob, eve):
    invitation = await pair(alice, bob, confirm=False)
    with pytest.raises(Refusal) as refused:
        await eve.partners.join(invitation, OPERATOR)
    assert refused.value.code == "invitation-used"
    assert alice.knows(eve) is None
    assert eve.knows(alice) is None


async def test_an_expired_pairing_secret_is_refused_by_the_inviter(alice, eve):
    invitation, _ = await alice.partners.invite(OPERATOR, 60)
    alice.clock.advance(60)
    eve.clock.advance(-600)
    with pytest.raises((Refusal, RemoteProtocolError)) as refused:
        await eve.partners.join(invitation, OPERATOR)
    assert refused.value.code in ("invitation-expired", "expired")
    assert alice.knows(eve) is None


async def test_attempts_with_one_secret_are_limited(alice, eve, monkeypatch):
    invitation, _ = await alice.partners.invite(OPERATOR)

    async def never(*_):
        raise Refusal("no-answer", "dropped")

    monkeypatch.setattr(type(eve.partners.pairings), "_reveal", never)
    for _ in range(INVITATION_ATTEMPTS):
        await eve.partners.join(invitation, OPERATOR)
    with pytest.raises(Refusal) as refused:
        await eve.partners.join(invitation, OPERATOR)
    assert refused.value.code == "invitation-exhausted"


async def test_an_oversized_or_malformed_pairing_message_is_not_worked_on(alice):
    context = pinned_context(alice.keys.tls_certificate_der)
    url = alice.keys.key_record.pairing_url + "/v1/pairing/join"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        for body, status in ((bytes(PAIRING_BYTES + 1), 400), (b"\xc1", 400), (b"", 400)):
            async with session.post(url, data=body) as response:
                assert response.status == status
        async with session.get(alice.keys.key_record.pairing_url + "/v1/link") as response:
            assert response.status == 404


async def test_a_stranger_cannot_replace_a_partners_key_record(alice, bob, eve):
    await pair(alice, bob)
    with pytest.raises(Refusal) as refused:
        await alice.partners.accept_record(eve.keys.record)
    assert refused.value.code == "not-a-partner"
    forged = replace(bob.keys.record, signature=eve.keys.record.signature)
    with pytest.raises(RemoteProtocolError):
        await alice.partners.accept_record(forged)
    assert alice.knows(bob).record == bob.keys.key_record
