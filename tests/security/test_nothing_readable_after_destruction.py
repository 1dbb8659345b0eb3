"""A study is destroyed key first: what stays on the disk opens nothing, no copy of a pack either.

Here the thief has the master key, and so reads the index page by page, free pages and log included.
"""

from __future__ import annotations

import json
import random

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from peer.actors import Actor, Role
from peer.index import instances
from peer.retention import Retention
from peer.store import unwrap_pack_key, unwrap_study_key
from tests.dicom_samples import instance
from tests.intake import STORE_KEY, open_intake

OPERATOR = Actor("Olga", "person", frozenset({Role.OPERATOR}))
STUDY = "1.2.826.0.1.3680043.8.498.55"
PIXELS = random.Random(5).randbytes(300_000)
PAGE_BYTES = 4096
RESERVE_BYTES = 80
"""Of a page of SQLCipher 4: 16 B initialisation vector, 64 B HMAC."""
SALT_BYTES = 16
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24


def pages_of(root):
    """Return every page of the index and of its log, deciphered with the index's key."""
    main, log = root / "index.db", root / "index.db-wal"
    whole = main.read_bytes()
    found = [whole[at : at + PAGE_BYTES] for at in range(0, len(whole), PAGE_BYTES)]
    logged = log.read_bytes()[WAL_HEADER_BYTES:] if log.exists() else b""
    step = FRAME_HEADER_BYTES + PAGE_BYTES
    found += [logged[at + FRAME_HEADER_BYTES : at + step] for at in range(0, len(logged), step)]
    return b"".join(_deciphered(page) for page in found if len(page) == PAGE_BYTES)


def _deciphered(page):
    body, vector = page[:-RESERVE_BYTES], page[-RESERVE_BYTES:][:16]
    # The first page begins with the salt, which is not enciphered: both are tried.
    out = b""
    for start in (0, SALT_BYTES):
        decryptor = Cipher(algorithms.AES(bytes(32)), modes.CBC(vector)).decryptor()
        out += decryptor.update(body[start : start + (len(body) - start) // 16 * 16])
    return out


def raw_of(root):
    return b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


async def test_neither_key_nor_pixels_nor_name_can_be_read(tmp_path):
    async with open_intake(tmp_path / "data") as intake:
        data = instance(1, study=STUDY, pixels=PIXELS, PatientName="Wolkenstein^Oswald")
        assert (await intake.take(data)).status == "accepted"
        found = await intake.db.read(lambda tx: instances.locate(tx, f"{STUDY}.1.1"))
        study_key = unwrap_study_key(STORE_KEY, found.wrapped_study_key, STUDY)
        pack_key = unwrap_pack_key(study_key, found.wrapped_pack_key, found.pack_id)
        secrets = {
            "study key": study_key,
            "pack key": pack_key,
            "pixels": PIXELS[1000:1064],
        }
        wrapped = {
            "wrapped study key": bytes(found.wrapped_study_key),
            "wrapped pack key": bytes(found.wrapped_pack_key),
            "content hash": found.content_hash,
            "name": b"Wolkenstein",
        }
        pack = intake.store.read_range(found.pack_id, 1000, 64)
        for name, secret in secrets.items():
            assert secret not in raw_of(intake.root), f"{name} lies open"
        assert pack in raw_of(intake.root)
        before = pages_of(intake.root)
        for name, secret in wrapped.items():
            assert secret in before, f"this search would not find the {name}"

        room = Retention(
            intake.db, intake.ingest, intake.clock, intake.settings, lambda tx, uid: None
        )
        intake.clock.advance(10 * 365 * 24 * 3600)
        await room.purge(STUDY, OPERATOR)

        after, raw = pages_of(intake.root), raw_of(intake.root)
        for name, secret in {**secrets, **wrapped}.items():
            assert secret not in after, f"the {name} is still in the index"
            assert secret not in raw, f"the {name} lies open"
        assert pack not in raw, "the ciphertext is still there"
        assert intake.store.sizes() == {}
        lines = [json.loads(line) async for line in intake.audit.export(None, None)]
        (purged,) = [each for each in lines if each["action"] == "purge"]
        assert purged["study_instance_uid"] == STUDY
