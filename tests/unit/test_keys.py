"""The node's own keys: made once, sealed, never overwritten, never readable by others."""

from __future__ import annotations

import stat
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from peer.errors import ConfigError, Conflict, Damaged, NotFound
from peer.keys import (
    check_certificate,
    create,
    find_root_key,
    load,
    make_certificate,
    read_root_key,
    renew,
)
from protocol.errors import BadSignature, Malformed
from protocol.keyrecord import follow_record, verify_record
from protocol.signing import public_key

NOW = 1_800_000_000


def settings(master_key_file=""):
    return SimpleNamespace(keys=SimpleNamespace(master_key_file=str(master_key_file)))


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root.key"


def test_what_was_made_is_loaded_again(data, root):
    made = create(data, root, "St. Ansgar", now=NOW, federation_url="https://a.example:8441")
    assert load(data, settings()) == made
    assert made.peer_id == public_key(read_root_key(root))
    assert made.key_record.federation_url == "https://a.example:8441"


def test_every_key_is_another_one(data, root):
    made = create(data, root, "A", now=NOW)
    secrets = [
        made.node_seed,
        made.seal_secret,
        made.index_key,
        made.store_key,
        made.search_master,
        made.pseudonym_key,
        made.audit_key,
        read_root_key(root),
        (data / "keys" / "master.key").read_bytes(),
    ]
    assert len(set(secrets)) == len(secrets)
    assert {len(secret) for secret in secrets} == {32}


def test_no_secret_is_shown_or_lies_in_the_open(data, root):
    made = create(data, root, "A", now=NOW)
    sealed = (data / "keys" / "node.sealed").read_bytes()
    for secret in (made.node_seed, made.index_key, made.seal_secret):
        assert secret.hex() not in repr(made)
        assert repr(secret) not in repr(made)
        assert secret not in sealed


def test_key_files_belong_to_their_owner_alone(data, root):
    create(data, root, "A", now=NOW)
    for path in (root, data / "keys" / "master.key", data / "keys" / "node.sealed"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "keys").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["master.key", "node.sealed"])
def test_a_key_file_that_others_can_read_is_refused(data, root, name):
    create(data, root, "A", now=NOW)
    (data / "keys" / name).chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        load(data, settings())


def test_the_root_key_does_not_enter_the_data_directory(data, tmp_path):
    link = tmp_path / "elsewhere"
    data.mkdir()
    link.symlink_to(data)
    for path in (data / "root.key", link / "root.key", data / ".." / "data" / "root.key"):
        with pytest.raises(ConfigError, match="outside"):
            create(data, path, "A", now=NOW)
    assert not (data / "keys" / "node.sealed").exists()


def test_a_root_key_that_strays_into_the_data_directory_is_found(data, root):
    create(data, root, "A", now=NOW)
    assert find_root_key(data) is None
    stray = data / "old" / "copy.txt"
    stray.parent.mkdir()
    stray.write_bytes(root.read_bytes())
    assert find_root_key(data) == stray


def test_keys_are_never_overwritten(data, root, tmp_path):
    create(data, root, "A", now=NOW)
    with pytest.raises(Conflict):
        create(data, tmp_path / "other.key", "A", now=NOW)
    with pytest.raises(Conflict):
        create(tmp_path / "second", root, "A", now=NOW)


def test_another_master_key_does_not_open_the_keys(data, root):
    create(data, root, "A", now=NOW)
    master = data / "keys" / "master.key"
    master.write_bytes(bytes(32))
    with pytest.raises(Damaged, match="master key"):
        load(data, settings())
    master.write_bytes(b"short")
    with pytest.raises(Damaged, match="32"):
        load(data, settings())


def test_a_master_key_from_the_service_manager(data, root, tmp_path):
    credential = tmp_path / "credential"
    credential.write_bytes(b"m" * 32)
    credential.chmod(0o440)
    made = create(data, root, "A", now=NOW, master_key_path=credential)
    assert not (data / "keys" / "master.key").exists()
    assert load(data, settings(credential)) == made
    with pytest.raises(NotFound):
        load(data, settings())


def test_what_partners_would_refuse_is_refused_at_once(data, root):
    with pytest.raises(Malformed):
        create(data, root, "A", now=NOW, federation_url="http://a.example")
    with pytest.raises(Malformed):
        create(data, root, "", now=NOW)


def test_a_renewed_record_follows_the_old_one(data, root):
    made = create(data, root, "A", now=NOW)
    moved = renew(data, settings(), root, now=NOW + 1, pairing_url="https://b.example:8442")
    assert follow_record(made.record, moved.record).pairing_url == "https://b.example:8442"
    assert moved.tls_certificate_der == made.tls_certificate_der
    rotated = renew(data, settings(), root, now=NOW + 2, new_keys_from=(0, 0))
    assert follow_record(moved.record, rotated.record).revision == 3
    assert rotated.node_seed != made.node_seed
    assert rotated.tls_certificate_der != made.tls_certificate_der
    assert rotated.index_key == made.index_key, "what is stored must still open"
    assert load(data, settings()) == rotated


def test_another_facilitys_root_key_does_not_renew(data, root, tmp_path):
    made = create(data, root, "A", now=NOW)
    create(tmp_path / "b", tmp_path / "b.key", "B", now=NOW)
    with pytest.raises(BadSignature):
        renew(data, settings(), tmp_path / "b.key", now=NOW)
    assert load(data, settings()) == made


# -- certificates ---------------------------------------------------------------------------------


def test_a_certificate_can_stand_beside_others(data, root):
    """Names differ and key identifiers are there, or OpenSSL would try only the first anchor."""
    der = create(data, root, "A", now=NOW).tls_certificate_der
    check_certificate(der)
    certificate = x509.load_der_x509_certificate(der)
    other = x509.load_der_x509_certificate(make_certificate(Ed25519PrivateKey.generate()))
    assert certificate.subject != other.subject
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == own
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def forged(key, *, subject=None, ca=False):
    """A certificate of `key` that says something it must not."""
    from cryptography.hazmat.primitives.serialization import Encoding

    genuine = x509.load_der_x509_certificate(make_certificate(key))
    name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        if subject
        else genuine.subject
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(genuine.not_valid_before_utc)
        .not_valid_after(genuine.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return builder.sign(key, None).public_bytes(Encoding.DER)


def test_a_certificate_in_anothers_name_or_for_others_is_refused():
    key = Ed25519PrivateKey.generate()
    victim = x509.load_der_x509_certificate(make_certificate(Ed25519PrivateKey.generate()))
    name = victim.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    check_certificate(forged(key))
    for der in (forged(key, subject=name), forged(key, ca=True), b"", b"\x30\x03abc"):
        with pytest.raises(Malformed):
            check_certificate(der)


def test_a_certificate_that_its_key_has_not_signed_is_refused():
    der = bytearray(make_certificate(Ed25519PrivateKey.generate()))
    der[-1] ^= 1
    with pytest.raises(Malformed):
        check_certificate(bytes(der))


def test_the_record_carries_what_the_keys_are(data, root):
    made = create(data, root, "A", now=NOW)
    record = verify_record(made.record, made.peer_id)
    assert record.node_public == public_key(made.node_seed)
    assert record.tls_certificate == made.tls_certificate_der
    assert record.issued_at == NOW
