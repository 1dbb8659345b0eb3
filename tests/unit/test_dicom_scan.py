"""The scan of a header finds what parsing finds, or leaves the instance to the parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from peer.dicom.header import parse_header
from peer.dicom.scan import scan_header
from protocol.errors import Refusal
from tests.dicom_samples import SAMPLES, data_set, encoded, instance


def parsed(data):
    try:
        return parse_header(data)
    except Refusal as refusal:
        return refusal.code


def test_every_sample_is_scanned_as_it_is_parsed_or_left_to_the_parser():
    scanned = 0
    for path in SAMPLES:
        data = path.read_bytes()
        found = scan_header(data)
        if found is not None:
            assert found == parsed(data), path.name
            scanned += 1
    assert scanned > len(SAMPLES) / 2, "most real files are built in a regular way"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_plain_instance_is_scanned(syntax):
    data = encoded(data_set(StudyDate="20250102", InstanceNumber=3), syntax)
    assert scan_header(data) == parse_header(data)
    assert scan_header(data).series.modality == "CT"


@pytest.mark.parametrize(
    "changes",
    [
        {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Jürgen=山田^太郎"},
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen"},
        {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг"},
        {"PatientName": ["One^Name", "Two^Names"], "OtherPatientIDs": ["A", "B", "", "A"]},
        {"PatientName": "Doe^^^^", "PatientID": "", "StudyDescription": "  inside  both  "},
        {"SeriesNumber": "0012", "NumberOfFrames": "7", "PatientBirthDate": "1999.02.03"},
        {"StudyDate": "20250231", "StudyTime": "10:15:00", "PatientSex": "f"},
        {"StudyDescription": "x" * 2000},
        {"PixelData": None},
    ],
)
def test_attributes_are_the_parsers(changes):
    data = encoded(data_set(**changes))
    assert scan_header(data) == parse_header(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 1000,
        instance(1)[:-2],
        instance(1, StudyInstanceUID=None),
        instance(1, SpecificCharacterSet=["", "ISO 2022 IR 87"]),
        encoded(data_set(), DeflatedExplicitVRLittleEndian),
        instance(1).replace(b"Doe^Jane", b"Doe^J\xfcrg"),
    ],
    ids=["empty", "noise", "cut", "unnamed", "escapes", "deflated", "undeclared-umlaut"],
)
def test_what_is_unusual_is_left_to_the_parser(data):
    assert scan_header(data) is None


PLAIN = [
    instance(1, PatientName="Doe^Jane", PatientBirthDate="19700101", StudyTime="101500"),
    encoded(data_set(SeriesNumber=4, StudyDate="20250102"), ImplicitVRLittleEndian),
]


@given(st.sampled_from(PLAIN), st.data())
def test_damage_is_never_read_otherwise_than_by_the_parser(data, draw):
    position = draw.draw(st.integers(128, len(data) - 1))
    value = draw.draw(st.integers(0, 255))
    damaged = data[:position] + bytes([value]) + data[position + 1 :]
    found = scan_header(damaged)
    if found is not None:
        assert found == parsed(damaged)
