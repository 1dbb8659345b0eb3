"""Headers of real files; what is not all there, or not named, is refused with its reason."""

from __future__ import annotations

import contextlib
import zlib
from io import BytesIO

import pydicom
import pydicom.data
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from peer.dicom import file_meta, open_instance, read_header
from peer.dicom.layout import survey
from protocol.errors import Refusal
from tests.dicom_samples import CT, SAMPLES, data_set, encoded, sample

# pydicom opens each of these; an archive must not keep them.
REFUSED = {
    "MR_truncated.dcm": "truncated",
    "rtplan_truncated.dcm": "truncated",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "truncated",
    "meta_missing_tsyntax.dcm": "missing-transfer-syntax",
    "bad_sequence.dcm": "invalid-uid",
    "no_meta_group_length.dcm": "missing-uid",
    "DICOMDIR": "missing-uid",
}

NAMES = {
    "chrArab.dcm": "قباني^لنزار",
    "chrFren.dcm": "Buc^Jérôme",
    "chrGerm.dcm": "Äneas^Rüdiger",
    "chrGreek.dcm": "Διονυσιος",
    "chrH31.dcm": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "chrH32.dcm": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "chrHbrw.dcm": "שרון^דבורה",
    "chrI2.dcm": "Hong^Gildong=洪^吉洞=홍^길동",
    "chrJapMulti.dcm": "やまだ^たろう",
    "chrJapMultiExplicitIR6.dcm": "やまだ^たろう",
    "chrKoreanMulti.dcm": "김희중",
    "chrRuss.dcm": "Люкceмбypг",
    "chrX1.dcm": "Wang^XiaoDong=王^小東",
    "chrX2.dcm": "Wang^XiaoDong=王^小东",
    "chrFrenMulti.dcm": "Buc^Jérôme",
}


def code_of(data: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        read_header(data)
    assert caught.value.reason
    return caught.value.code


@pytest.mark.parametrize("path", SAMPLES, ids=[path.name for path in SAMPLES])
def test_a_sample_is_read_or_refused(path):
    data = path.read_bytes()
    header = refusal = None
    try:
        header = read_header(data)
    except Refusal as refused:
        refusal = refused
    if path.name in REFUSED:
        assert refusal is not None, "this file is damaged and was kept"
        assert refusal.code == REFUSED[path.name]
    if header is None:
        assert refusal.reason
        assert refusal.remedy
        return
    reference = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
    assert header.study.study_instance_uid == reference.StudyInstanceUID
    assert header.series.series_instance_uid == reference.SeriesInstanceUID
    assert header.instance.sop_instance_uid == reference.SOPInstanceUID
    assert header.series.modality == (reference.get("Modality") or "")
    assert header.patient.patient_id == (reference.get("PatientID") or "").strip()
    assert 0 < header.data_set_offset < header.header_length <= len(data)
    again = pydicom.dcmread(BytesIO(data[: header.header_length]), stop_before_pixels=True)
    assert again == reference, "what is said to hold the header does not"


@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_in_their_own_script(name):
    header = read_header(sample(name))
    assert header.patient.names == (NAMES[name],)
    assert header.notes == ()


@pytest.mark.parametrize(
    "name",
    ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "693_J2KR.dcm", "MR_small_bigendian.dcm"],
)
def test_no_shortened_sample_passes_for_whole(name):
    data = sample(name)
    read_header(data)
    start = read_header(data).data_set_offset
    uncut = []
    for length in [*range(start + 8, len(data), max(1, len(data) // 200)), len(data) - 1]:
        with contextlib.suppress(Refusal):
            read_header(data[:length])
            uncut.append(length)
    for length in uncut:
        # Only a cut between two elements goes unseen, and then an element is missing whole.
        assert open_instance(data[:length]).pixel_tag == 0


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_every_encoding_says_the_same(syntax):
    header = read_header(encoded(data_set(), syntax))
    assert header.patient.names == ("Doe^Jane",)
    assert header.instance.transfer_syntax_uid == syntax
    assert header.instance.number_of_frames == 1
    assert header.instance.rows == 2


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_an_instance_without_its_names_is_refused(keyword):
    assert code_of(encoded(data_set(**{keyword: None}))) == "missing-uid"
    assert code_of(encoded(data_set(**{keyword: ""}))) == "missing-uid"


@pytest.mark.parametrize(
    "uid",
    ["../../../etc/passwd", "1.2/3", "1..2", "1.2.", "1.2.3\n4", "１.2", "1" * 65, "1.2\\1.3"],
)
def test_a_name_that_is_no_uid_is_refused(uid):
    made = encoded(data_set(StudyInstanceUID="9.8.7"))
    raw = uid.encode()
    raw += b"\0" * (len(raw) % 2)
    placed = made.replace(
        b"\x20\x00\x0d\x00UI\x06\x009.8.7\0",
        b"\x20\x00\x0d\x00UI" + len(raw).to_bytes(2, "little") + raw,
    )
    assert placed != made
    assert code_of(placed) == "invalid-uid"


def test_bytes_that_are_no_dicom_are_refused():
    assert code_of(b"") == "not-dicom"
    assert code_of(b"\0" * 10_000) == "not-dicom"
    assert code_of(b"\x89PNG\r\n" + b"x" * 500) == "not-dicom"
    assert code_of(bytes(128) + b"DICM") == "truncated"


@given(st.binary(max_size=400))
def test_any_bytes_behind_the_prefix_are_read_or_refused(tail):
    try:
        read_header(bytes(128) + b"DICM" + tail)
    except Refusal:
        return


@given(st.data())
def test_a_damaged_instance_is_read_or_refused(data):
    whole = bytearray(encoded(data_set(StudyDate="20250101", OtherPatientNames=["A^B", "C^D"])))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(132, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
    try:
        read_header(bytes(whole))
    except Refusal:
        return


def test_a_deflated_bomb_is_refused_before_it_unfolds():
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = compressor.compress(bytes(1_000_000)) + compressor.flush()
    data = file_meta(CT, "1.2.3.4", DeflatedExplicitVRLittleEndian) + bomb
    with pytest.raises(Refusal) as caught:
        read_header(data, 100_000)
    assert caught.value.code == "oversized"


def test_a_cut_deflated_stream_is_refused():
    data = encoded(data_set(), DeflatedExplicitVRLittleEndian)
    assert code_of(data[:-20]) == "truncated"


def test_endless_nesting_is_refused():
    opened = b"\x40\x00\x75\xa1SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data = file_meta(CT, "1.2.3.4", ExplicitVRLittleEndian) + opened * 5000
    assert code_of(data) == "malformed"


def test_an_unknown_character_set_is_kept_with_a_note():
    made = data_set(SpecificCharacterSet="ISO_IR 100")
    data = encoded(made).replace(b"ISO_IR 100", b"ISO_IR 999")
    header = read_header(data)
    assert header.notes == ("bad-character-set",)
    assert header.instance.sop_instance_uid == "1.2.3.4"


def test_odd_values_count_as_empty():
    header = read_header(
        encoded(
            data_set(
                StudyDate=None,
                PatientBirthDate=None,
                StudyTime=None,
                InstanceNumber=None,
            )
        )
    )
    assert (header.study.study_date, header.patient.birth_date) == ("", "")
    assert header.instance.instance_number is None
    made = encoded(data_set(StudyDate="20250230", PatientBirthDate="1970.01.31"))
    assert read_header(made).study.study_date == "", "30 February is a day"
    assert read_header(made).patient.birth_date == "19700131"


def test_identifiers_with_their_issuers():
    other = Dataset()
    other.PatientID = "INS-7"
    other.IssuerOfPatientID = "INSURER"
    qualifier = Dataset()
    qualifier.UniversalEntityID = "1.2.3.99"
    qualifier.UniversalEntityIDType = "ISO"
    made = data_set(
        IssuerOfPatientID="LOCAL",
        IssuerOfPatientIDQualifiersSequence=[qualifier],
        OtherPatientIDsSequence=[other],
        OtherPatientNames=["Roe^Jane", "Doe^Jane"],
    )
    patient = read_header(encoded(made)).patient
    assert (patient.issuer, patient.patient_id) == ("1.2.3.99", "MRN-1")
    assert [(each.issuer, each.value) for each in patient.other_ids] == [("INSURER", "INS-7")]
    assert patient.names == ("Doe^Jane", "Roe^Jane")


def test_a_data_set_from_the_network_becomes_a_file():
    made = encoded(data_set())
    header = read_header(made)
    body = made[header.data_set_offset :]
    file = file_meta(CT, "1.2.3.4", ExplicitVRLittleEndian) + body
    again = read_header(file)
    assert file[again.data_set_offset :] == body
    assert (again.patient, again.study, again.series) == (
        header.patient,
        header.study,
        header.series,
    )
    meta = pydicom.dcmread(BytesIO(file)).file_meta
    assert meta.MediaStorageSOPInstanceUID == "1.2.3.4"
    assert meta.FileMetaInformationGroupLength == again.data_set_offset - 144


def test_zeros_behind_the_last_element_are_padding():
    data = encoded(data_set())
    read_header(data + b"\0")
    read_header(data + b"\0" * 7)
    assert code_of(data + b"\0\0\1") == "truncated"


def test_the_pixel_data_is_found_where_it_is():
    data = encoded(data_set())
    layout = survey(data, read_header(data).data_set_offset, explicit=True, little_endian=True)
    assert data[layout.pixel_data :][:6] == b"\xe0\x7f\x10\x00OB"
    assert layout.pixel_tag == 0x7FE00010
