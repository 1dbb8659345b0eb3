"""Studies, series and instances as the attributes that queries return.

By keyword: the value representation and the values (PS3.4 section C.6, PS3.18 section 10.6.3).
QIDO-RS writes them as JSON, C-FIND as a data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from peer.index.patients import PatientRow
from peer.index.studies import InstanceRow, SeriesRow, StudyRow

Described: TypeAlias = dict[str, tuple[str, tuple[str | int, ...]]]
"""VR and values of each attribute by its keyword; one without a value has an empty tuple."""

ONLINE: Final = "ONLINE"
"""Instance Availability of what is held here (PS3.3 section C.4.23.1.1)."""


def describe_patient(patient: PatientRow | None) -> Described:
    """Return the attributes of a patient; None for one who is not on record."""
    names = patient.names[0] if patient and patient.names else ""
    return {
        "PatientName": of("PN", names),
        "PatientID": of("LO", patient.patient_id if patient else ""),
        "IssuerOfPatientID": of("LO", patient.issuer if patient else ""),
        "PatientBirthDate": of("DA", patient.birth_date if patient else ""),
        "PatientSex": of("CS", patient.sex if patient else ""),
    }


def describe_counts(counts: Mapping[str, int]) -> Described:
    """Return numbers of related objects, such as NumberOfPatientRelatedStudies."""
    return {keyword: of("IS", number) for keyword, number in counts.items()}


def describe_study(study: StudyRow, patient: PatientRow | None) -> Described:
    """Return the attributes of a study and of its patient."""
    return {
        "StudyDate": of("DA", study.study_date),
        "StudyTime": of("TM", study.study_time),
        "AccessionNumber": of("SH", study.accession_number),
        "ModalitiesInStudy": of("CS", *study.modalities),
        "InstitutionName": of("LO", study.institution),
        "ReferringPhysicianName": of("PN", study.referring_physician),
        "TimezoneOffsetFromUTC": of("SH", study.timezone),
        "StudyDescription": of("LO", study.description),
        "StudyInstanceUID": of("UI", study.study_instance_uid),
        "StudyID": of("SH", study.study_id),
        "NumberOfStudyRelatedSeries": of("IS", study.series),
        "NumberOfStudyRelatedInstances": of("IS", study.instances),
        **describe_patient(patient),
    }


def describe_series(series: SeriesRow) -> Described:
    """Return the attributes of a series."""
    return {
        "Modality": of("CS", series.modality),
        "Manufacturer": of("LO", series.manufacturer),
        "StationName": of("SH", series.station_name),
        "SeriesDescription": of("LO", series.description),
        "BodyPartExamined": of("CS", series.body_part),
        "ProtocolName": of("LO", series.protocol_name),
        "StudyInstanceUID": of("UI", series.study_instance_uid),
        "SeriesInstanceUID": of("UI", series.series_instance_uid),
        "SeriesNumber": of("IS", series.series_number),
        "Laterality": of("CS", series.laterality),
        "NumberOfSeriesRelatedInstances": of("IS", series.instances),
        "PerformedProcedureStepStartDate": of("DA", series.step_date),
        "PerformedProcedureStepStartTime": of("TM", series.step_time),
    }


def describe_instance(instance: InstanceRow) -> Described:
    """Return the attributes of an instance."""
    described = {
        "SOPClassUID": of("UI", instance.sop_class_uid),
        "SOPInstanceUID": of("UI", instance.sop_instance_uid),
        "StudyInstanceUID": of("UI", instance.study_instance_uid),
        "SeriesInstanceUID": of("UI", instance.series_instance_uid),
        "InstanceNumber": of("IS", instance.instance_number),
        "AvailableTransferSyntaxUID": of("UI", instance.transfer_syntax_uid),
    }
    if instance.number_of_frames:
        described |= {
            "NumberOfFrames": of("IS", instance.number_of_frames),
            "Rows": of("US", instance.rows),
            "Columns": of("US", instance.columns),
            "BitsAllocated": of("US", instance.bits_allocated),
        }
    return described


def of(vr: str, *values: str | int | None) -> tuple[str, tuple[str | int, ...]]:
    """Return VR and those values that are known."""
    return vr, tuple(value for value in values if value is not None and value != "")
