"""Attack, or a hospital's firewall: something in between shows a certificate of its own.

Nothing may pass through it, and the operator must read who has issued that certificate.
"""

from __future__ import annotations

import ssl

import pytest

from peer.link import NotConnected
from peer.link.ranges import pack_path
from peer.outbound.certificates import names
from protocol.errors import Refusal
from tests.between import Inspection, WebServer, issue, running
from tests.processes import free_ports
from tests.unit.federation.facility import OPERATOR, Facility, linked, pair, until

PATH = pack_path(b"g" * 16, b"p" * 16)


@pytest.fixture
async def alice(tmp_path):
    async with Facility.open("alice", tmp_path) as facility:
        yield facility


@pytest.fixture
async def carol(tmp_path):
    """Outbound only, so that what is dialled is dialled by her."""
    async with Facility.open("carol", tmp_path, reachable=False) as facility:
        yield facility


async def says(here, there, code):
    await until(lambda: here.links.state(there.peer_id).last_error_code == code, 15)
    return here.links.state(there.peer_id).last_error


async def move(facility, port):
    await facility.stop()
    facility.listen_on(port, facility.pairing_port)
    await facility.start()


@pytest.mark.parametrize("newest", [None, ssl.TLSVersion.TLSv1_2])
@pytest.mark.parametrize("copies_the_subject", [True, False])
async def test_an_inspected_link_names_the_issuer(
    alice, carol, tmp_path, copies_the_subject, newest
):
    await pair(alice, carol)
    await linked(alice, carol)
    shown_port, inner_port = alice.port, free_ports(1)[0]
    subject = names(alice.keys.tls_certificate_der)[0] if copies_the_subject else "127.0.0.1"
    await move(alice, inner_port)
    box = Inspection(inner_port, "Acme Web Gateway CA", subject=subject, newest=newest)
    async with running(box, shown_port, ssl=box.context(tmp_path)):
        sentence = await says(carol, alice, "inspected")
        assert "inspects TLS: a certificate issued by 'Acme Web Gateway CA'" in sentence
        assert f"exempt 127.0.0.1:{shown_port}" in sentence
        with pytest.raises(NotConnected, match="inspects TLS"):
            await carol.links.open_range(alice.peer_id, PATH, 0, 10)
        assert not box.read, "not one byte was told to what stands in between"
    await move(alice, shown_port)
    await linked(alice, carol)


async def test_an_inspected_pairing_names_the_issuer(alice, carol, tmp_path):
    invitation, _ = await alice.partners.invite(OPERATOR)
    shown_port = alice.pairing_port
    await alice.stop()
    alice.listen_on(alice.port, free_ports(1)[0])
    await alice.start()
    box = Inspection(alice.pairing_port, "Acme Web Gateway CA", subject="127.0.0.1")
    async with running(box, shown_port, ssl=box.context(tmp_path)):
        with pytest.raises(Refusal) as refused:
            await carol.partners.join(invitation, OPERATOR)
    assert refused.value.code == "inspected"
    assert "'Acme Web Gateway CA'" in refused.value.reason
    assert f"127.0.0.1:{shown_port}" in refused.value.remedy
    assert b"/v1/pairing" not in box.read, "the proof of the invitation went to nobody"


async def test_another_server_at_the_address_is_no_inspection(alice, carol, tmp_path):
    await pair(alice, carol)
    await linked(alice, carol)
    shown_port = alice.port
    await move(alice, free_ports(1)[0])
    box = Inspection(alice.port, None, subject="printer.example")
    async with running(box, shown_port, ssl=box.context(tmp_path)):
        sentence = await says(carol, alice, "wrong-server")
    assert "is no node: it shows a certificate of its own, for 'printer.example'" in sentence


async def test_what_speaks_no_tls_is_named(alice, carol):
    await pair(alice, carol)
    await linked(alice, carol)
    shown_port = alice.port
    await move(alice, free_ports(1)[0])
    async with running(WebServer(), shown_port):
        assert "does not speak TLS as a node does" in await says(carol, alice, "wrong-server")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Acme\x1b[31m CA\u202e", "Acme[31m CA"),
        ("'; DROP TABLE'", "; DROP TABLE"),
        ("A" * 64, "A" * 64),
        ("\x00\x07", "somebody without a name"),
    ],
)
def test_a_strangers_name_does_nothing_to_a_screen(name, shown):
    der = ssl.PEM_cert_to_DER_cert(issue("x", name)[0].decode())
    assert names(der)[1] == shown


def test_what_is_no_certificate_has_no_name():
    assert names(b"\x30\x00") == ("?", "?")
