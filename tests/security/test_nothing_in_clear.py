"""Whoever takes the disk without the keys finds no name, identifier or UID, in any encoding."""

from __future__ import annotations

import base64
import os
import subprocess

import pytest

from peer.index import packs
from peer.index.packs import ManifestRow
from protocol.manifest import root, sign_manifest
from tests.dicom_samples import instance
from tests.intake import open_intake

SECRETS = {
    "PatientName": "Wolkenstein^Oswald",
    "PatientID": "MRN-7741930",
    "AccessionNumber": "ACC-55812",
    "StudyDescription": "Kniegelenk beidseits",
    "OtherPatientNames": "Selkirk^Alexander",
    "ReferringPhysicianName": "Paracelsus^Theo",
}
STUDY = "1.2.826.0.1.3680043.8.498.778899"


def spellings(text: str) -> set[bytes]:
    """Return the byte strings under which `text` could lie on a disk."""
    found = set()
    for variant in {
        text,
        text.upper(),
        text.lower(),
        text.split("^", maxsplit=1)[0],
        text.replace("^", " "),
    }:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            plain = variant.encode(encoding)
            found |= {plain, plain.hex().encode(), plain.hex().upper().encode()}
            # The bytes may stand at any offset of what was encoded.
            for shift in range(3):
                coded = base64.b64encode(bytes(shift) + plain)
                inner = coded[4 if shift else 0 : len(coded) // 4 * 4 - 4]
                found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return {each for each in found if len(each) >= 8}


@pytest.fixture
async def data(tmp_path):
    """A data directory with everything that ingest writes, still open: the log is there too."""
    async with open_intake(tmp_path / "data", default_issuer="Kreisspital") as intake:
        for number in range(1, 6):
            await intake.take(
                instance(number, study=STUDY, pixels=os.urandom(300_000), **SECRETS), "test"
            )
        await intake.ingest.settle()
        manifest = await intake.db.read(lambda tx: packs.build_manifest(tx, STUDY))
        row = ManifestRow(1, root(manifest), sign_manifest(manifest, lambda _: bytes(64)), 0)
        await intake.db.write(lambda tx: packs.put_manifest(tx, STUDY, row))
        yield intake.root


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_search_finds_what_lies_open(tmp_path):
    for number, secret in enumerate([*SECRETS.values(), STUDY]):
        for spelling in (
            secret.encode(),
            secret.encode("utf-16-le"),
            secret.encode().hex().encode(),
            base64.b64encode(b"ab" + secret.encode() + b"xyz"),
        ):
            (tmp_path / str(number)).write_bytes(b"..." + spelling + b"...")
            assert any(each in spelling for each in spellings(secret)), (secret, spelling)


def test_no_attribute_lies_open(data):
    files = contents(data)
    assert any(path.suffix == ".db" for path in files)
    assert sum(len(each) for each in files.values()) > 1_500_000
    for secret in [*SECRETS.values(), STUDY, f"{STUDY}.1.1", "Kreisspital"]:
        for spelling in spellings(secret):
            found = [path.name for path, content in files.items() if spelling in content]
            assert not found, f"{spelling!r} lies open in {found}"


def test_no_name_of_a_file_says_anything(data):
    names = "\n".join(str(path.relative_to(data)) for path in data.rglob("*"))
    for secret in [*SECRETS.values(), STUDY]:
        for spelling in spellings(secret):
            assert spelling.decode("latin-1") not in names


def test_grep_finds_nothing(data):
    for secret in (SECRETS["PatientName"], SECRETS["PatientID"], STUDY):
        found = subprocess.run(
            ["grep", "-rail", "--fixed-strings", secret, str(data)],
            capture_output=True,
            check=False,
        )
        assert found.returncode == 1, found.stdout


def test_no_one_else_may_read_the_files(data):
    for path in data.rglob("*"):
        assert path.stat().st_mode & 0o007 == 0 or path.is_dir()
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path.name


async def test_a_destroyed_study_is_in_no_file_even_with_the_keys(tmp_path):
    async with open_intake(tmp_path / "data") as intake:
        await intake.take(instance(1, study=STUDY, **SECRETS))
        await intake.take(instance(1, study="1.2.3", PatientID="OTHER"))
        wrapped = await intake.db.read(lambda tx: packs.wrapped_study_key(tx, STUDY))
        before = await intake.db.read(dump)
        assert wrapped.hex() in before
        assert SECRETS["PatientName"] in before
        await intake.ingest.remove_study(STUDY, lambda _: None)
        after = await intake.db.read(dump)
        assert wrapped.hex() not in after
        assert SECRETS["PatientName"] not in after
        log = intake.root / "index.db-wal"
        assert log.stat().st_size == 0, "pages of before the erasure are still in the log"


def dump(tx):
    tables = [row[0] for row in tx.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    cells = [
        cell.hex() if isinstance(cell, bytes) else str(cell)
        for table in tables
        if not table.startswith("audit")
        for row in tx.execute(f"SELECT * FROM {table}")  # noqa: S608 - its own tables
        for cell in tuple(row)
    ]
    return "\n".join(cells)
