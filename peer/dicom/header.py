"""The header of an instance: the attributes that index, digest and query answers use.

Text is decoded by the instance's Specific Character Set, each value by the one that is in force
where it stands.  What is odd is kept and noted, never put right: notes are codes, not sentences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from pydicom.datadict import tag_for_keyword

from peer.dicom.content import Content
from peer.dicom.part10 import INFLATED_BYTES, Instance, open_instance
from peer.dicom.values import Reader
from protocol.errors import Refusal
from protocol.identifiers import PatientIdentifier, is_uid

BAD_CHARACTER_SET: Final = "bad-character-set"
"""A Specific Character Set that nobody knows, or text that does not fit it."""
UNREADABLE_ATTRIBUTE: Final = "unreadable-attribute"
"""An attribute whose value is not what its VR says; it counts as empty."""
IRREGULAR_STRUCTURE: Final = "irregular-structure"
"""A sequence built against the rules, so that the end of the instance could not be checked."""

NOTES: Final = {
    BAD_CHARACTER_SET: "Its texts do not fit the character set that it names, so names may be "
    "shown wrong and not be found.",
    UNREADABLE_ATTRIBUTE: "An attribute is not what its type says; it counts as empty.",
    IRREGULAR_STRUCTURE: "A sequence is built against the rules, so nobody can say whether the "
    "end is missing.",
}
"""What each note means for whoever brought the instance, which is kept as it came."""


@dataclass(frozen=True, slots=True)
class PatientAttributes:
    """Patient Identification (PS3.3 section C.2.2); absent text is ''."""

    issuer: str
    """Issuer of Patient ID: its Universal Entity ID where there is one, else the local name."""
    patient_id: str
    names: tuple[str, ...]
    """Patient's Name, then other and birth names: "Family^Given=ideographic=phonetic"."""
    birth_date: str
    """YYYYMMDD, a day of the calendar, or ''."""
    sex: str
    other_ids: tuple[PatientIdentifier, ...]


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """General Study (PS3.3 section C.7.2.1)."""

    study_instance_uid: str
    study_date: str
    study_time: str
    timezone: str
    """Timezone Offset From UTC, "&ZZXX"."""
    study_id: str
    description: str
    accession_number: str
    accession_issuer: str
    referring_physician: str
    institution: str


@dataclass(frozen=True, slots=True)
class SeriesAttributes:
    """General Series and Equipment (PS3.3 sections C.7.3.1 and C.7.5.1)."""

    series_instance_uid: str
    modality: str
    series_number: int | None
    description: str
    body_part: str
    laterality: str
    protocol_name: str
    step_date: str
    step_time: str
    station_name: str
    manufacturer: str


@dataclass(frozen=True, slots=True)
class InstanceAttributes:
    """SOP Common and Image Pixel (PS3.3 sections C.12.1 and C.7.6.3)."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    number_of_frames: int
    """0 if there is no pixel data."""
    rows: int
    columns: int
    bits_allocated: int


@dataclass(frozen=True, slots=True)
class Header:
    """What the node knows of an instance without its pixels."""

    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes
    instance: InstanceAttributes
    header_length: int
    """Bytes from the start of the file that hold everything before the pixel data."""
    data_set_offset: int
    """Where the file meta information ends."""
    notes: tuple[str, ...]


def parse_header(data: Content, inflated_bytes: int = INFLATED_BYTES) -> Header:
    """Return the header of a complete instance, parsed; `inflated_bytes` as in `open_instance`.

    Raises Refusal with the codes of `open_instance`, and "missing-uid" or "invalid-uid" if study,
    series, instance or SOP class is not named as PS3.5 section 9.1 demands.
    """
    instance = open_instance(data, inflated_bytes, _tags)
    return header_of(instance, Reader(instance.data_set))


Common: TypeAlias = tuple[PatientAttributes, StudyAttributes, SeriesAttributes]
"""What all instances of a series say alike as a rule."""


def common_of(reader: Reader) -> Common:
    """Return patient, study and series; raise Refusal as `parse_header` does."""
    study = _study(reader, _uid(reader, "StudyInstanceUID"))
    return _patient(reader), study, _series(reader, _uid(reader, "SeriesInstanceUID"))


def header_of(instance: Instance, reader: Reader, common: Common | None = None) -> Header:
    """Return the header of an opened instance, its attributes as `reader` reads them.

    `common` is `common_of` the reader, if that is known already.
    """
    sop_class, sop_instance = _uid(reader, "SOPClassUID"), _uid(reader, "SOPInstanceUID")
    patient, study, series = common or common_of(reader)
    described = _instance(reader, instance, sop_class, sop_instance)
    notes = (
        (BAD_CHARACTER_SET, reader.text_is_damaged),
        (UNREADABLE_ATTRIBUTE, reader.value_is_damaged),
        (IRREGULAR_STRUCTURE, not instance.regular),
    )
    return Header(
        patient,
        study,
        series,
        described,
        instance.header_length,
        instance.data_set_offset,
        tuple(note for note, applies in notes if applies),
    )


_UIDS: Final = {
    "SOPClassUID": "SOP Class UID",
    "SOPInstanceUID": "SOP Instance UID",
    "StudyInstanceUID": "Study Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
}


def _uid(reader: Reader, keyword: str) -> str:
    uid = reader.uid(keyword)
    if not uid:
        raise Refusal(
            "missing-uid",
            f"The instance has no {_UIDS[keyword]}.",
            "Only complete instances can be kept; check the software that made it.",
        )
    if not is_uid(uid):
        raise Refusal(
            "invalid-uid",
            f"The {_UIDS[keyword]} is not digits and dots of at most 64 characters.",
            "Check the software that made it; UIDs are never altered here.",
        )
    return uid


def _patient(reader: Reader) -> PatientAttributes:
    issuer = reader.universal_id("IssuerOfPatientIDQualifiersSequence") or reader.text(
        "IssuerOfPatientID"
    )
    names = (
        *reader.names("PatientName"),
        *reader.names("OtherPatientNames"),
        *reader.names("PatientBirthName"),
    )
    return PatientAttributes(
        issuer=issuer,
        patient_id=reader.text("PatientID"),
        names=tuple(dict.fromkeys(names)),
        birth_date=reader.date("PatientBirthDate"),
        sex=reader.text("PatientSex").upper(),
        other_ids=reader.identifiers("OtherPatientIDsSequence", "OtherPatientIDs"),
    )


def _study(reader: Reader, uid: str) -> StudyAttributes:
    return StudyAttributes(
        study_instance_uid=uid,
        study_date=reader.date("StudyDate"),
        study_time=reader.time("StudyTime"),
        timezone=reader.text("TimezoneOffsetFromUTC"),
        study_id=reader.text("StudyID"),
        description=reader.text("StudyDescription"),
        accession_number=reader.text("AccessionNumber"),
        accession_issuer=reader.issuer("IssuerOfAccessionNumberSequence"),
        referring_physician=next(iter(reader.names("ReferringPhysicianName")), ""),
        institution=reader.text("InstitutionName"),
    )


def _series(reader: Reader, uid: str) -> SeriesAttributes:
    return SeriesAttributes(
        series_instance_uid=uid,
        modality=reader.text("Modality").upper(),
        series_number=reader.integer("SeriesNumber"),
        description=reader.text("SeriesDescription"),
        body_part=reader.text("BodyPartExamined").upper(),
        laterality=reader.text("Laterality").upper(),
        protocol_name=reader.text("ProtocolName"),
        step_date=reader.date("PerformedProcedureStepStartDate"),
        step_time=reader.time("PerformedProcedureStepStartTime"),
        station_name=reader.text("StationName"),
        manufacturer=reader.text("Manufacturer"),
    )


def _instance(reader: Reader, instance: Instance, sop_class: str, uid: str) -> InstanceAttributes:
    frames = reader.natural("NumberOfFrames") or 1
    return InstanceAttributes(
        sop_class_uid=sop_class,
        sop_instance_uid=uid,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        instance_number=reader.integer("InstanceNumber"),
        number_of_frames=frames if instance.pixel_tag else 0,
        rows=reader.natural("Rows"),
        columns=reader.natural("Columns"),
        bits_allocated=reader.natural("BitsAllocated"),
    )


KEYWORDS: Final = (
    "AccessionNumber",
    "BitsAllocated",
    "BodyPartExamined",
    "Columns",
    "InstanceNumber",
    "InstitutionName",
    "IssuerOfAccessionNumberSequence",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "Laterality",
    "Manufacturer",
    "Modality",
    "NumberOfFrames",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "PatientBirthDate",
    "PatientBirthName",
    "PatientID",
    "PatientName",
    "PatientSex",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "ProtocolName",
    "ReferringPhysicianName",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SpecificCharacterSet",
    "StationName",
    "StudyDate",
    "StudyDescription",
    "StudyID",
    "StudyInstanceUID",
    "StudyTime",
    "TimezoneOffsetFromUTC",
)
"""Every attribute of the data set that is read here, and what its texts are decoded by."""

_tags = tuple(tag_for_keyword(keyword) or 0 for keyword in KEYWORDS)
