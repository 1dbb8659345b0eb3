"""Studies, series and instances as DICOM JSON (PS3.18 annex F, tables 10.6.3-3 to -5)."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from peer.index.patients import PatientRow
from peer.index.studies import InstanceRow, SeriesRow, StudyRow
from peer.search import Result

Json: TypeAlias = dict[str, dict[str, Any]]

_NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")

TAGS: Final = {
    "SpecificCharacterSet": "00080005",
    "SOPClassUID": "00080016",
    "SOPInstanceUID": "00080018",
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "AccessionNumber": "00080050",
    "InstanceAvailability": "00080056",
    "Modality": "00080060",
    "ModalitiesInStudy": "00080061",
    "Manufacturer": "00080070",
    "InstitutionName": "00080080",
    "ReferringPhysicianName": "00080090",
    "TimezoneOffsetFromUTC": "00080201",
    "StationName": "00081010",
    "StudyDescription": "00081030",
    "SeriesDescription": "0008103E",
    "RetrieveURL": "00081190",
    "PatientName": "00100010",
    "PatientID": "00100020",
    "IssuerOfPatientID": "00100021",
    "PatientBirthDate": "00100030",
    "PatientSex": "00100040",
    "BodyPartExamined": "00180015",
    "ProtocolName": "00181030",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "StudyID": "00200010",
    "SeriesNumber": "00200011",
    "InstanceNumber": "00200013",
    "Laterality": "00200060",
    "NumberOfStudyRelatedSeries": "00201206",
    "NumberOfStudyRelatedInstances": "00201208",
    "NumberOfSeriesRelatedInstances": "00201209",
    "NumberOfFrames": "00280008",
    "Rows": "00280010",
    "Columns": "00280011",
    "BitsAllocated": "00280100",
    "PerformedProcedureStepStartDate": "00400244",
    "PerformedProcedureStepStartTime": "00400245",
    "AvailableTransferSyntaxUID": "00083002",
}
"""Attributes that answers hold or queries name, by keyword."""


def study_json(study: StudyRow, patient: PatientRow | None, service: str) -> Json:
    """Return a study as an answer to a query; `service` is the address of the service."""
    return _sorted(
        _study(study, patient)
        | {
            "RetrieveURL": _of("UR", f"{service}/studies/{study.study_instance_uid}"),
            "InstanceAvailability": _of("CS", "ONLINE"),
        }
    )


def found_json(found: Result, *, is_reached: bool) -> Json:
    """Return a partner's study that is not held here: named by whose it is, without a RetrieveURL.

    It must be fetched before it can be read: NEARLINE while its facility can be reached, else
    UNAVAILABLE (PS3.3 section C.4.23.1.1).
    """
    person = found.patient
    first = person.identifiers[0] if person.identifiers else None
    return _sorted(
        {
            "SpecificCharacterSet": _of("CS", "ISO_IR 192"),
            "StudyDate": _of("DA", found.study_date),
            "StudyTime": _of("TM", found.study_time),
            "AccessionNumber": _of("SH", found.accession_number),
            "InstanceAvailability": _of("CS", "NEARLINE" if is_reached else "UNAVAILABLE"),
            "ModalitiesInStudy": _of("CS", *found.modalities),
            "InstitutionName": _of("LO", found.facility.name),
            "StudyDescription": _of("LO", found.description),
            "PatientName": _name(person.names[0] if person.names else ""),
            "PatientID": _of("LO", first.value if first else ""),
            "IssuerOfPatientID": _of("LO", first.issuer if first else ""),
            "PatientBirthDate": _of("DA", person.birth_date),
            "PatientSex": _of("CS", person.sex),
            "BodyPartExamined": _of("CS", *found.body_parts),
            "StudyInstanceUID": _of("UI", found.study_instance_uid),
            "NumberOfStudyRelatedSeries": _of("IS", found.series),
            "NumberOfStudyRelatedInstances": _of("IS", found.instances),
        }
    )


def series_json(series: SeriesRow, service: str, above: Json) -> Json:
    """Return a series; `above` is what else to say, such as of its study."""
    url = f"{service}/studies/{series.study_instance_uid}/series/{series.series_instance_uid}"
    return above | _sorted(_series(series) | {"RetrieveURL": _of("UR", url)})


def instance_json(instance: InstanceRow, service: str, above: Json) -> Json:
    """Return an instance; `above` is what else to say, such as of its study and series."""
    url = (
        f"{service}/studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
        f"/instances/{instance.sop_instance_uid}"
    )
    described = {
        "SOPClassUID": _of("UI", instance.sop_class_uid),
        "SOPInstanceUID": _of("UI", instance.sop_instance_uid),
        "StudyInstanceUID": _of("UI", instance.study_instance_uid),
        "SeriesInstanceUID": _of("UI", instance.series_instance_uid),
        "InstanceNumber": _of("IS", instance.instance_number),
        "AvailableTransferSyntaxUID": _of("UI", instance.transfer_syntax_uid),
        "InstanceAvailability": _of("CS", "ONLINE"),
        "RetrieveURL": _of("UR", url),
    }
    if instance.number_of_frames:
        described |= {
            "NumberOfFrames": _of("IS", instance.number_of_frames),
            "Rows": _of("US", instance.rows),
            "Columns": _of("US", instance.columns),
            "BitsAllocated": _of("US", instance.bits_allocated),
        }
    return above | _sorted(described)


def _study(study: StudyRow, patient: PatientRow | None) -> dict[str, dict[str, Any]]:
    return {
        "SpecificCharacterSet": _of("CS", "ISO_IR 192"),
        "StudyDate": _of("DA", study.study_date),
        "StudyTime": _of("TM", study.study_time),
        "AccessionNumber": _of("SH", study.accession_number),
        "ModalitiesInStudy": _of("CS", *study.modalities),
        "InstitutionName": _of("LO", study.institution),
        "ReferringPhysicianName": _name(study.referring_physician),
        "TimezoneOffsetFromUTC": _of("SH", study.timezone),
        "StudyDescription": _of("LO", study.description),
        "StudyInstanceUID": _of("UI", study.study_instance_uid),
        "StudyID": _of("SH", study.study_id),
        "NumberOfStudyRelatedSeries": _of("IS", study.series),
        "NumberOfStudyRelatedInstances": _of("IS", study.instances),
        "PatientName": _name(patient.names[0] if patient and patient.names else ""),
        "PatientID": _of("LO", patient.patient_id if patient else ""),
        "IssuerOfPatientID": _of("LO", patient.issuer if patient else ""),
        "PatientBirthDate": _of("DA", patient.birth_date if patient else ""),
        "PatientSex": _of("CS", patient.sex if patient else ""),
    }


def _series(series: SeriesRow) -> dict[str, dict[str, Any]]:
    return {
        "Modality": _of("CS", series.modality),
        "Manufacturer": _of("LO", series.manufacturer),
        "StationName": _of("SH", series.station_name),
        "SeriesDescription": _of("LO", series.description),
        "BodyPartExamined": _of("CS", series.body_part),
        "ProtocolName": _of("LO", series.protocol_name),
        "StudyInstanceUID": _of("UI", series.study_instance_uid),
        "SeriesInstanceUID": _of("UI", series.series_instance_uid),
        "SeriesNumber": _of("IS", series.series_number),
        "Laterality": _of("CS", series.laterality),
        "NumberOfSeriesRelatedInstances": _of("IS", series.instances),
        "PerformedProcedureStepStartDate": _of("DA", series.step_date),
        "PerformedProcedureStepStartTime": _of("TM", series.step_time),
    }


def _of(vr: str, *values: str | int | None) -> dict[str, Any]:
    """Return an attribute; one without a value is there, with its VR alone (section F.2.5)."""
    known = [value for value in values if value not in ("", None)]
    return {"vr": vr, "Value": known} if known else {"vr": vr}


def _name(written: str) -> dict[str, Any]:
    groups = zip(_NAME_GROUPS, written.split("="), strict=False)
    value = {group: text for group, text in groups if text}
    return {"vr": "PN", "Value": [value]} if value else {"vr": "PN"}


def _sorted(described: dict[str, dict[str, Any]]) -> Json:
    return dict(sorted((TAGS[keyword], value) for keyword, value in described.items()))
