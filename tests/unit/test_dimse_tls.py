"""DICOM over TLS: dcmtk calls, and is called; who shows no certificate, or stalls, gets nothing."""

from __future__ import annotations

import asyncio
import socket

import pytest
import trustme

from tests.dicom_samples import instance
from tests.unit.test_dimse import listening, run
from tests.unit.test_dimse_retrieve import EVERYTHING, move, storescp, wanted


@pytest.fixture
def pem(tmp_path):
    """Paths of an authority, and of a certificate and key for 127.0.0.1 that it made."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    paths = [tmp_path / name for name in ("ca.pem", "certificate.pem", "key.pem")]
    authority.cert_pem.write_to_path(paths[0])
    made.cert_chain_pems[0].write_to_path(paths[1])
    made.private_key_pem.write_to_path(paths[2])
    return [str(path) for path in paths]


def settings(pem, **more):
    authority, certificate, key = pem
    files = {"tls_certificate": certificate, "tls_key": key, "tls_ca": authority}
    return {"tls_port": 0, **files, **more}


async def test_dcmtk_verifies_over_tls(tmp_path, pem, outside_tool):
    echoscu, (authority, certificate, key) = outside_tool("echoscu"), pem
    known = [{"title": "CT1", "host": "127.0.0.1", "tls": True}]
    async with listening(tmp_path, known_aes=known, **settings(pem)) as (intake, port):
        tls_port = intake.listener.tls_port
        to = ("-aet", "CT1", "-aec", "OPENPRIORS", "127.0.0.1")
        shown = ("+tls", key, certificate, "+cf", authority)
        done = await run(echoscu, *shown, *to, str(tls_port))
        assert done.returncode == 0, done.stderr
        done = await run(echoscu, "+tla", "+cf", authority, *to, str(tls_port))
        assert done.returncode != 0, "it showed no certificate"
        done = await run(echoscu, *to, str(tls_port))
        assert done.returncode != 0, "it spoke no TLS"
        done = await run(echoscu, "-v", *to, str(port))
        assert "0x124" in done.stdout + done.stderr, "it is known to speak TLS alone"


async def test_a_stalled_handshake_keeps_nobody_waiting(tmp_path, pem, outside_tool):
    echoscu, (authority, certificate, key) = outside_tool("echoscu"), pem
    async with listening(tmp_path, **settings(pem, cleartext=False)) as (intake, port):
        assert port == 0
        tls_port = intake.listener.tls_port
        silent = [socket.create_connection(("127.0.0.1", tls_port)) for _ in range(5)]
        done = await run(
            echoscu, "+tls", key, certificate, "+cf", authority,
            "-aet", "CT1", "-aec", "OPENPRIORS", "127.0.0.1", str(tls_port),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for each in silent:
            each.close()


async def test_a_destination_is_called_by_tls(tmp_path, pem, outside_tool):
    authority, certificate, key = pem
    tls = ("+tls", key, certificate, "+cf", authority)
    async with storescp(tmp_path / "moved", outside_tool, *tls) as there:
        asker = {"title": "BOSS", "allowed": EVERYTHING, "move_to": ["WS"]}
        for spoken, expected in ((True, 0x0000), (False, 0xA702)):
            known = {"title": "WS", "host": "127.0.0.1", "port": there, "tls": spoken}
            async with listening(tmp_path, known_aes=[asker, known], **settings(pem)) as (i, port):
                await i.take(instance(1))
                status, _ = (await move(port, wanted(StudyInstanceUID="1.2.3"), title="BOSS"))[-1]
                assert status.Status == expected
    assert len(await asyncio.to_thread(lambda: list((tmp_path / "moved").iterdir()))) == 1
