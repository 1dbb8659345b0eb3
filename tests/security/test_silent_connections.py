"""A stranger opens connections and says nothing: the node keeps few, and serves everybody else."""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from peer.config import Settings
from tests.processes import Nodes, wait_until

STRANGERS = 120
SPARE = 6
"""Descriptors that the node itself may open meanwhile."""
DESCRIPTORS = 1024
"""What a process commonly may have open; select(2), by which DICOM waits, knows no more."""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    yield made()[0]
    made.stop()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def held(node) -> int:
    return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))


def call_silently(stack: ExitStack, port: int, first: bytes) -> None:
    for _ in range(STRANGERS):
        with suppress(OSError):
            caller = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            caller.sendall(first)


def test_no_port_is_the_way_to_use_up_the_node(node):
    pairing = port_of(node.addresses["pairing_url"])
    local, federation = port_of(node.local_url), port_of(node.federation_url)
    settings = Settings()
    bounds = {
        pairing: settings.pairing.max_connections_each,
        federation: settings.federation.max_connections_each,
        local: settings.local.max_connections,
    }
    with ExitStack() as stack:
        for port, most in bounds.items():
            before = held(node)
            call_silently(stack, port, b"\x01")
            assert node.get("/status")["facility"]
            assert held(node) - before <= most + SPARE, f"port {port} holds too many connections"
        assert held(node) < DESCRIPTORS / 2
        assert node.run_json("invite")["invitation"], "the databases have no descriptors left"
    wait_until(lambda: answers(pairing), "the pairing port does not recover")
    assert "crashed" not in node.log_lines()


def answers(pairing: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", pairing, timeout=10, context=context)
    try:
        connection.request("GET", "/v1/record")
        return connection.getresponse().status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    except OSError:
        return False
    finally:
        connection.close()
