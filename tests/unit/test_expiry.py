"""What is about to end is said in time, in the log once at each step; nothing is switched off."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from peer.clock import ManualClock
from peer.expiry import Expiry
from peer.index.database import INDEX_MIGRATIONS, Database
from peer.keys import check_certificate, create, ends_at, make_certificate

NOW, DAY = 1_800_000_000, 86_400
DUE = NOW + 730 * DAY


def ending_certificate(at):
    """A certificate as another implementation may make them: with an end."""
    key = Ed25519PrivateKey.generate()
    ours = x509.load_der_x509_certificate(make_certificate(key))
    builder = (
        x509.CertificateBuilder()
        .issuer_name(ours.issuer)
        .subject_name(ours.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ours.not_valid_before_utc)
        .not_valid_after(datetime.fromtimestamp(at, UTC))
    )
    for extension in ours.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, None)


@pytest.fixture
async def node(tmp_path):
    keys = create(tmp_path / "data", tmp_path / "root.key", "A", now=NOW)
    db = await Database.open(tmp_path / "index.db", keys.index_key, INDEX_MIGRATIONS)
    known, settings = [], SimpleNamespace(local=SimpleNamespace(tls_certificate=""))
    clock = ManualClock(NOW)

    def expiry():
        return Expiry(
            db=db,
            keys=keys,
            partners=SimpleNamespace(active=lambda: tuple(known)),
            clock=clock,
            settings=settings,
        )

    yield SimpleNamespace(
        keys=keys, clock=clock, known=known, settings=settings, expiry=expiry, folder=tmp_path
    )
    await db.close()


def at(node, instant):
    node.clock.advance(instant - node.clock.now())


def test_our_own_certificates_have_no_end(node):
    assert ends_at(node.keys.tls_certificate_der) is None


@pytest.mark.parametrize(
    ("days", "when"), [(61, None), (60, "in 60 days"), (7, "in 7 days"), (0, "today"), (-9, "over")]
)
async def test_keys_that_are_due_are_in_the_status(node, days, when):
    at(node, DUE - days * DAY)
    found = list(node.expiry().warnings())
    assert len(found) == (when is not None)
    assert all(when in each and "keys rotate" in each for each in found)


async def test_the_log_has_each_step_once_across_restarts(node, capsys):
    for days in (70, 60, 59, 31, 30, 29, 8, 7, 6, 1, 0, -1, -400):
        at(node, DUE - days * DAY)
        await node.expiry().look()
        await node.expiry().look()
    said = [line for line in capsys.readouterr().out.splitlines() if "ends-soon" in line]
    assert [line.split("days=")[1].split()[0] for line in said] == ["60", "30", "7", "0"]


async def test_after_a_rotation_it_begins_anew(node, capsys):
    at(node, DUE - DAY)
    await node.expiry().look()
    from peer.keys import renew
    from tests.unit.federation.facility import SETTINGS

    node.keys.adopt(
        renew(
            node.folder / "data",
            SETTINGS,
            node.folder / "root.key",
            now=node.clock.now(),
            new_keys_from=(0, 0),
        )
    )
    assert list(node.expiry().warnings()) == []
    at(node, DUE + 700 * DAY)
    await node.expiry().look()
    assert capsys.readouterr().out.count("ends-soon") == 2


async def test_a_partners_certificate_that_ends_is_named(node):
    der = ending_certificate(NOW + 20 * DAY).public_bytes(Encoding.DER)
    check_certificate(der)
    record = replace(node.keys.key_record, tls_certificate=der)
    node.known.append(SimpleNamespace(peer_id=bytes(32), name="City Clinic", record=record))
    (warning,) = node.expiry().warnings()
    assert "The certificate of City Clinic ends (in 20 days)" in warning


async def test_the_local_listeners_certificate_is_read(node):
    path = node.folder / "local.pem"
    path.write_bytes(ending_certificate(NOW + 5 * DAY).public_bytes(Encoding.PEM))
    node.settings.local.tls_certificate = str(path)
    (warning,) = node.expiry().warnings()
    assert "local listener ends (in 5 days)" in warning
    path.write_text("no certificate")
    assert list(node.expiry().warnings()) == []
