"""Names are received, file names are not: no UID, however formed, becomes part of a path."""

from __future__ import annotations

import pytest

from tests.dicom_samples import instance
from tests.intake import open_intake

PLACE = "9.8.7.6.5.4.3.2.1.0.11.22"

EVIL = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    "1.2/../3",
    "1.2\\..\\3",
    "1.2%2f..%2f3",
    "~root",
    "1.2.3;rm -rf",
    "C:1.2",
    "1.2..3",
    ".1.2",
]


def everything(folder):
    return {path for path in folder.rglob("*") if not path.name.startswith("index.db")}


def named(keyword: str, uid: str) -> bytes:
    """Return an instance whose `keyword` is `uid`, put there behind the encoder's back."""
    made = instance(1, **{keyword: PLACE})
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    length = len(PLACE) + len(PLACE) % 2
    old = b"UI" + length.to_bytes(2, "little") + PLACE.encode().ljust(length, b"\0")
    return made.replace(old, b"UI" + len(padded).to_bytes(2, "little") + padded)


@pytest.mark.parametrize("uid", EVIL)
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
async def test_an_evil_uid_touches_no_file(tmp_path, keyword, uid):
    async with open_intake(tmp_path / "data") as intake:
        before = everything(tmp_path)
        data = named(keyword, uid)
        assert uid.encode() in data
        outcome = await intake.take(data)
        assert (outcome.status, outcome.code) == ("refused", "invalid-uid")
        assert uid not in outcome.reason
        assert everything(tmp_path) == before


async def test_a_good_uid_is_no_file_name_either(tmp_path):
    async with open_intake(tmp_path / "data") as intake:
        await intake.take(instance(1, study=PLACE))
        names = {path.name for path in everything(tmp_path)}
        assert not any(PLACE in name for name in names)
        assert len(intake.store.sizes()) == 1
