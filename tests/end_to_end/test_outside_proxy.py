"""A node that reaches its partners only through a proxy of other people's making (tinyproxy)."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager

from tests.processes import free_ports, pair, wait_until

CONFIGURATION = """
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 50
LogLevel Connect
LogFile "{log}"
BasicAuth carol s3cret
"""


@contextmanager
def tinyproxy(program, folder, port):
    log = folder / "proxy.log"
    configuration = folder / "proxy.conf"
    configuration.write_text(CONFIGURATION.format(port=port, log=log))
    process = subprocess.Popen(
        [program, "-d", "-c", str(configuration)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        yield log
    finally:
        process.terminate()
        process.wait()


def test_an_outbound_only_node_pairs_and_exchanges_through_a_real_proxy(
    nodes, tmp_path, outside_tool
):
    program = outside_tool("tinyproxy")
    (alice,) = nodes()
    (carol,) = nodes(started=False, reachable=False)
    (port,) = free_ports(1)
    secret = tmp_path / "credentials"
    secret.write_text("carol:wr0ng")
    secret.chmod(0o600)
    environment = {
        "OPENPRIORS_FEDERATION__PROXY": f"http://127.0.0.1:{port}",
        "OPENPRIORS_FEDERATION__PROXY_CREDENTIALS_FILE": str(secret),
    }
    with tinyproxy(program, tmp_path, port) as log:
        carol.start(**environment)
        invitation = alice.run_json("invite")["invitation"]
        status, answer = carol.api("POST", "/pairings", {"invitation": invitation})
        assert (status, answer["error"]["code"]) == (502, "proxy-credentials")
        carol.stop()
        secret.write_text("carol:s3cret\n")
        carol.start(**environment)
        pair(alice, carol)
        listener = alice.federation_url.removeprefix("https://")
        assert f"CONNECT {listener}" in log.read_text(), "the link did not go through the proxy"
        assert "s3cret" not in carol.log.read_text()
    sentence = wait_until(
        lambda: carol.partner(alice)["last_error"], "carol does not notice that the proxy has gone"
    )
    wait_until(
        lambda: carol.partner(alice)["last_error_code"] == "proxy-unreachable",
        f"carol says {sentence}",
    )
