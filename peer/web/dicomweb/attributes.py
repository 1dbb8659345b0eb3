"""Studies, series and instances as DICOM JSON (PS3.18 annex F, tables 10.6.3-3 to -5)."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from peer.index.attributes import (
    ONLINE,
    Described,
    describe_instance,
    describe_series,
    describe_study,
    of,
)
from peer.index.patients import PatientRow
from peer.index.studies import InstanceRow, SeriesRow, StudyRow
from peer.search import Result
from peer.search.querying import describe_found

Json: TypeAlias = dict[str, dict[str, Any]]

_UTF8: Final[Described] = {"SpecificCharacterSet": of("CS", "ISO_IR 192")}

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
    return to_json(
        _UTF8
        | describe_study(study, patient)
        | {
            "RetrieveURL": of("UR", f"{service}/studies/{study.study_instance_uid}"),
            "InstanceAvailability": of("CS", ONLINE),
        }
    )


def found_json(found: Result, *, is_reached: bool) -> Json:
    """Return a partner's study that is not held here, without a RetrieveURL."""
    return to_json(_UTF8 | describe_found(found, is_reached=is_reached))


def series_json(series: SeriesRow, service: str, above: Json) -> Json:
    """Return a series; `above` is what else to say, such as of its study."""
    url = f"{service}/studies/{series.study_instance_uid}/series/{series.series_instance_uid}"
    return above | to_json(describe_series(series) | {"RetrieveURL": of("UR", url)})


def instance_json(instance: InstanceRow, service: str, above: Json) -> Json:
    """Return an instance; `above` is what else to say, such as of its study and series."""
    url = (
        f"{service}/studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
        f"/instances/{instance.sop_instance_uid}"
    )
    described = describe_instance(instance) | {
        "InstanceAvailability": of("CS", ONLINE),
        "RetrieveURL": of("UR", url),
    }
    return above | to_json(described)


def to_json(described: Described) -> Json:
    """Return attributes by tag; one without a value is there, with its VR alone (section F.2.5)."""
    return dict(sorted((TAGS[keyword], _element(*found)) for keyword, found in described.items()))


def _element(vr: str, values: tuple[str | int, ...]) -> dict[str, Any]:
    known = [_name(str(each)) if vr == "PN" else each for each in values]
    return {"vr": vr, "Value": known} if known else {"vr": vr}


def _name(written: str) -> dict[str, str]:
    groups = zip(_NAME_GROUPS, written.split("="), strict=False)
    return {group: text for group, text in groups if text}
