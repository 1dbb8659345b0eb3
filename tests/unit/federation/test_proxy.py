"""Everything that is dialled goes through the proxy, and what the proxy says is named."""

from __future__ import annotations

import pytest
from aiohttp import encode_basic_auth

from peer.config import Federation
from peer.errors import ConfigError
from peer.outbound import Proxy
from protocol.errors import Refusal
from tests.between import ConnectProxy, running
from tests.processes import free_ports
from tests.unit.federation.facility import OPERATOR, PACK, linked, pair, until
from tests.unit.federation.test_links import PATH


def target(facility):
    return f"127.0.0.1:{facility.port}"


async def use(facility, proxy):
    """Restart a facility behind a proxy."""
    await facility.stop()
    facility.proxy = proxy
    await facility.start()


async def says(here, there, code):
    """Wait until the link's state has this code; return its sentence."""
    await until(lambda: here.links.state(there.peer_id).last_error_code == code, 15)
    return here.links.state(there.peer_id).last_error


async def test_pairing_link_and_ranges_go_through_the_proxy(alice, carol):
    async with running(ConnectProxy("carol:s3cret")) as proxy:
        await use(carol, Proxy(proxy.url, encode_basic_auth("carol", "s3cret")))
        await pair(alice, carol)
        await linked(alice, carol)
        assert await carol.links.open_range(alice.peer_id, PATH, 5, 5_000_000) == PACK[5:5_000_000]
        link_and_range = [each for each in proxy.targets if each == target(alice)]
        assert len(link_and_range) == 2, "the link and the download each have a tunnel"
        assert f"127.0.0.1:{alice.pairing_port}" in proxy.targets


async def test_no_call_passes_by_a_proxy_that_is_down(alice, carol):
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    await pair(alice, carol)
    await linked(alice, carol)
    await use(carol, Proxy(dead))
    sentence = await says(carol, alice, "proxy-unreachable")
    assert dead in sentence
    assert "federation.proxy" in sentence
    invitation, _ = await alice.partners.invite(OPERATOR)
    with pytest.raises(Refusal) as refused:
        await carol.partners.join(invitation, OPERATOR)
    assert refused.value.code == "proxy-unreachable"


@pytest.mark.parametrize(
    ("credentials", "told"),
    [
        ("", "wants a user name and a password"),
        (encode_basic_auth("carol", "wr0ng-one"), "does not accept this node's user name"),
    ],
)
async def test_what_a_proxy_wants_is_named(alice, carol, credentials, told):
    await pair(alice, carol)
    await linked(alice, carol)
    async with running(ConnectProxy("carol:s3cret")) as proxy:
        await use(carol, Proxy(proxy.url, credentials))
        sentence = await says(carol, alice, "proxy-credentials")
    assert told in sentence
    assert "proxy_credentials_file" in sentence
    assert "wr0ng-one" not in sentence
    assert carol.proxy.authorization not in sentence + repr(carol.proxy) or not credentials, (
        "a password is shown to nobody"
    )


async def test_a_host_that_the_proxy_refuses_is_named(alice, carol):
    await pair(alice, carol)
    await linked(alice, carol)
    async with running(ConnectProxy(refused=[target(alice)])) as proxy:
        await use(carol, Proxy(proxy.url))
        sentence = await says(carol, alice, "proxy-refused")
    assert f"allow CONNECT to {target(alice)}" in sentence


async def test_a_partner_that_the_proxy_cannot_reach_is_named(alice, carol):
    await pair(alice, carol)
    await linked(alice, carol)
    async with running(ConnectProxy()) as proxy:
        await use(carol, Proxy(proxy.url))
        await linked(alice, carol)
        await alice.stop()
        sentence = await says(carol, alice, "unreachable")
        assert f"cannot reach {target(alice)} (HTTP status 502)" in sentence
        await alice.start()
        await linked(alice, carol)


async def test_what_takes_a_connection_and_says_nothing_is_named(alice, carol):
    await pair(alice, carol)
    await linked(alice, carol)

    class Silent(ConnectProxy):
        async def serve(self, reader, writer):
            await reader.read()

    async with running(Silent()) as proxy:
        carol.settings = carol.settings.model_copy(
            update={"link": carol.settings.link.model_copy(update={"open_s": 0.2})}
        )
        await use(carol, Proxy(proxy.url))
        assert "does not answer" in await says(carol, alice, "no-answer")


async def test_ranges_take_the_link_where_the_listener_cannot_be_reached(alice, bob):
    """Alice's firewall lets nothing out; Bob has dialled her, and she wants his images."""
    await pair(alice, bob)
    await use(alice, Proxy(f"http://127.0.0.1:{free_ports(1)[0]}"))
    await linked(alice, bob)
    assert alice.links._lines[bob.peer_id].connection.dialler == bob.peer_id
    for _ in range(2):
        assert await alice.links.open_range(bob.peer_id, PATH, 3, 2_000_000) == PACK[3:2_000_000]
    assert len(bob.pieces) == 4


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address", ["https://proxy:3128", "proxy:3128", "http://u:p@proxy:3128", "http://proxy/x"]
)
def test_a_proxy_is_an_http_address_without_secrets(address):
    with pytest.raises(ValueError, match="must"):
        Federation(proxy=address)


def test_credentials_come_from_a_file(tmp_path):
    path = tmp_path / "proxy"
    path.write_text("carol:s3:cret\n")
    settings = Federation(proxy="http://proxy:3128", proxy_credentials_file=str(path))
    proxy = Proxy.configured(settings)
    assert proxy.authorization == encode_basic_auth("carol", "s3:cret")
    assert "s3:cret" not in repr(proxy)
    path.write_text("no colon")
    with pytest.raises(ConfigError, match="user:password") as error:
        Proxy.configured(settings)
    assert "no colon" not in str(error.value)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        Proxy.configured(settings)
    with pytest.raises(ValueError, match="needs proxy"):
        Federation(proxy_credentials_file=str(path))
