"""DICOM JSON of a header, its bulk data by reference."""

from __future__ import annotations

import json
from io import BytesIO

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from peer.dicom import open_instance, read_header
from peer.dicom.metadata import bulk_data, metadata
from peer.errors import NotFound
from protocol.errors import Refusal
from tests.dicom_samples import SAMPLES, data_set, encoded, sample

BASE = "https://here/bulkdata"


def described(data: bytes):
    instance = open_instance(data)
    header = data[: instance.header_length]
    return metadata(header, instance.transfer_syntax_uid, instance.pixel_tag, BASE)


@pytest.mark.parametrize("path", SAMPLES, ids=[path.name for path in SAMPLES])
def test_every_sample_is_described(path):
    data = path.read_bytes()
    try:
        header = read_header(data)
    except Refusal:
        return
    said = described(data)
    json.dumps(said)
    assert said["0020000D"] == {"vr": "UI", "Value": [header.study.study_instance_uid]}
    assert said["00080018"]["Value"] == [header.instance.sop_instance_uid]
    again = Dataset.from_json(said, bulk_data_uri_handler=lambda *_: b"")
    assert again.SOPClassUID == header.instance.sop_class_uid
    if header.instance.number_of_frames:
        (pixels,) = [tag for tag in ("7FE00008", "7FE00009", "7FE00010") if tag in said]
        assert said[pixels]["BulkDataURI"] == f"{BASE}/{pixels}"
    else:
        assert "7FE00010" not in said


def test_names_in_other_scripts_have_their_groups():
    (name,) = described(sample("chrH31.dcm"))["00100010"]["Value"]
    assert name == {
        "Alphabetic": "Yamada^Tarou",
        "Ideographic": "山田^太郎",
        "Phonetic": "やまだ^たろう",
    }


def test_bulk_data_is_referred_to_and_found_again():
    inner = Dataset()
    inner.add_new(0x00091002, "OB", bytes(range(256)) * 8)
    made = data_set(ReferencedImageSequence=[Dataset(), inner])
    made.add_new(0x00091001, "OB", b"small")
    for syntax in ("1.2.840.10008.1.2.1", DeflatedExplicitVRLittleEndian):
        data = encoded(made, syntax)
        said = described(data)
        assert said["00091001"]["InlineBinary"]
        uri = said["00081140"]["Value"][1]["00091002"]["BulkDataURI"]
        assert uri == f"{BASE}/00081140/1/00091002"
        assert bulk_data(data, uri.removeprefix(f"{BASE}/")) == bytes(range(256)) * 8
        pixels = said["7FE00010"]["BulkDataURI"].removeprefix(f"{BASE}/")
        assert bulk_data(data, pixels) == b"\1\2\3\4"


@pytest.mark.parametrize(
    "path",
    ["", "x", "00091001", "7FE00010/0", "00100010", "../../etc/passwd", "00081140/9/00091002"],
)
def test_a_path_that_leads_nowhere(path):
    with pytest.raises(NotFound):
        bulk_data(encoded(data_set()), path)


def test_big_endian_words_are_sent_little_endian():
    made = data_set(BitsAllocated=16, PixelData=b"\0\1\0\2\0\3\0\4")
    made["PixelData"].VR = "OW"
    assert bulk_data(encoded(made, ExplicitVRBigEndian), "7FE00010") == b"\1\0\2\0\3\0\4\0"


def test_an_attribute_that_cannot_be_read_is_left_out():
    said = described(sample("badVR.dcm"))
    assert "0020000D" in said


def test_the_pixels_are_not_needed():
    data = sample("CT_small.dcm")
    length = read_header(data).header_length
    assert length < len(data) / 4
    reference = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
    assert len(described(data)) == len(reference) + 2  # Transfer syntax and pixel data.
