"""Whoever copies, alters or forges a backup learns nothing of a patient and restores nothing."""

from __future__ import annotations

import asyncio
import os

import pytest

from peer import backup
from peer.backup import BackupDirectory, manifest, passphrase
from peer.backup.manifest import MANIFEST, Manifest, sign_manifest
from peer.errors import Conflict, Damaged
from peer.keys import read_root_key
from tests.backups import PASSPHRASE, new_node, opened
from tests.dicom_samples import instance
from tests.intake import NOW
from tests.security.test_nothing_in_clear import SECRETS, STUDY, contents, spellings

NAME = "20260101T000000Z-0001"


@pytest.fixture(autouse=True)
def quick_stretching(monkeypatch):
    monkeypatch.setattr(passphrase, "_OPERATIONS", 1)
    monkeypatch.setattr(passphrase, "_MEMORY_BYTES", 8192)


@pytest.fixture
async def stolen(tmp_path):
    """A backup of a node with images, and the node."""
    data = new_node(tmp_path / "hospital", issuer="Kreisspital")
    backup.set_passphrase(data, PASSPHRASE, replace=False)
    target = BackupDirectory(tmp_path / "backups")
    async with opened(data) as node:
        for number in (1, 2, 3):
            await node.take(instance(number, study=STUDY, pixels=os.urandom(300_000), **SECRETS))
        await node.ingest.settle()
        await asyncio.to_thread(backup.make, data, target, NAME, NOW, lambda _: None)
        yield target, node


async def test_no_attribute_lies_open_in_a_backup(stolen):
    target, _ = stolen
    files = contents(target.root)
    assert sum(len(each) for each in files.values()) > 900_000
    names = "\n".join(str(path.relative_to(target.root)) for path in target.root.rglob("*"))
    for secret in [*SECRETS.values(), STUDY, f"{STUDY}.1.1", "Kreisspital"]:
        for spelling in spellings(secret):
            found = [path.name for path, content in files.items() if spelling in content]
            assert not found, f"{spelling!r} lies open in {found}"
            assert spelling.decode("latin-1") not in names


async def test_no_key_lies_open_in_a_backup(stolen, tmp_path):
    target, node = stolen
    kept = node.keys
    secrets = [
        read_root_key(tmp_path / "hospital" / "root.key"),
        (node.data / "keys" / "master.key").read_bytes(),
        *(kept.node_seed, kept.index_key, kept.store_key, kept.search_master, kept.audit_key),
        PASSPHRASE.encode(),
    ]
    for path, content in contents(target.root).items():
        for secret in secrets:
            assert secret not in content, path
            assert secret.hex().encode() not in content, path


async def test_nobody_else_may_read_the_files(stolen):
    target, _ = stolen
    assert all(path.stat().st_mode & 0o077 == 0 for path in contents(target.root))
    assert target.root.stat().st_mode & 0o077 == 0


async def test_a_manifest_that_another_facility_signed_is_another_facility(stolen, tmp_path):
    """Eve can sign what she likes with her own keys; it then bears her identity."""
    target, node = stolen
    eve = new_node(tmp_path / "eve")
    folder = target.sets_folder / NAME
    said = target.read().manifest
    async with opened(eve) as thief:
        # Hers under his record: not what his node signed.
        (folder / MANIFEST).write_bytes(sign_manifest(said, thief.keys))
        with pytest.raises(Damaged, match="not what the node signed"):
            target.read()
        hers = manifest.record_of(thief.keys)
        changed = Manifest.model_validate({**said.model_dump(), "key_record": hers})
        (folder / MANIFEST).write_bytes(sign_manifest(changed, thief.keys))
        assert target.read().peer_id == thief.keys.peer_id
        with pytest.raises(Damaged, match="another facility"):
            backup.restore(target, None, PASSPHRASE, tmp_path / "new", lambda _: None)
        assert not list((tmp_path / "new").glob("*"))
        with pytest.raises(Conflict, match="another facility"):
            await asyncio.to_thread(
                backup.make, node.data, target, f"{NAME[:-1]}2", NOW, lambda _: None
            )


async def test_a_list_of_packs_leads_nowhere_else(stolen):
    for line in (
        b"../../../../etc/passwd 1 " + b"0" * 64 + b"\n",
        b"0" * 32 + b" 1 ../../../../etc/passwd\n",
        b"0" * 32 + b" 1 " + b"0" * 64,
        b"0" * 32 + b" -1 " + b"0" * 64 + b"\n",
    ):
        with pytest.raises(Damaged):
            list(manifest.listed_packs([line]))


async def test_a_node_in_foreign_hands_opens_none_of_its_backups(stolen):
    target, node = stolen
    held = b"".join(path.read_bytes() for path in (node.data / "keys").iterdir())
    said = target.read().manifest
    for guess in (held.hex(), node.keys.node_seed.hex(), said.backup_key.public):
        with pytest.raises(backup.WrongPassphrase):
            said.backup_key.open(guess, bytes.fromhex(said.sealed_key))
