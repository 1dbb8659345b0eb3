"""A DICOM query for studies as a question to every facility, and its matches as attributes.

Only who asks for one person can be answered: partners are asked blindly, by match keys.
"""

from __future__ import annotations

import re

from peer.actors import Actor
from peer.index.attributes import Described, of
from peer.index.conditions import StudyQuery
from peer.index.queries import matches_text
from peer.search.answer import Question, Result
from protocol.identifiers import PatientIdentifier


def question_of(study: StudyQuery, who: Actor) -> Question:
    """Return who is looked for.  A Patient ID needs its issuer, a name no wildcard within."""
    name = study.name.rstrip("*")
    issuer = study.issuer if study.issuer is not None else who.issuer
    known = bool(study.patient_id and issuer) and not _is_pattern(study.patient_id + issuer)
    return Question(
        name="" if _is_pattern(name) else name,
        birth_date=study.birth_date,
        identifiers=(PatientIdentifier(issuer, study.patient_id),) if known else (),
    )


def is_asked_for(study: StudyQuery, found: Result) -> bool:
    """Whether a study of the person is asked for; who the person is has been matched already.

    Of Study ID, referring physician and the issuer of the accession number nothing is published.
    """
    date, time = found.study_date, found.study_time
    return (
        (not study.study_instance_uids or found.study_instance_uid in study.study_instance_uids)
        and (not study.date_from or (bool(date) and study.date_from <= date))
        and (not study.date_to or (bool(date) and date <= study.date_to))
        and (not study.time_from or (bool(time) and study.time_from <= time))
        and (not study.time_to or (bool(time) and time[: len(study.time_to)] <= study.time_to))
        and (not found.patient.sex or _is_like(study.sex, found.patient.sex))
        and (not study.modalities or bool(set(study.modalities) & set(found.modalities)))
        and _is_like(study.accession_number, found.accession_number)
        and _is_like(study.description, found.description)
    )


def describe_found(found: Result, *, is_reached: bool) -> Described:
    """Return the attributes of a partner's study that is not held here: named by whose it is.

    It must be fetched before it can be read: NEARLINE while its facility can be reached, else
    UNAVAILABLE (PS3.3 section C.4.23.1.1).
    """
    person = found.patient
    first = person.identifiers[0] if person.identifiers else None
    return {
        "StudyDate": of("DA", found.study_date),
        "StudyTime": of("TM", found.study_time),
        "AccessionNumber": of("SH", found.accession_number),
        "InstanceAvailability": of("CS", "NEARLINE" if is_reached else "UNAVAILABLE"),
        "ModalitiesInStudy": of("CS", *found.modalities),
        "InstitutionName": of("LO", found.facility.name),
        "StudyDescription": of("LO", found.description),
        "PatientName": of("PN", person.names[0] if person.names else ""),
        "PatientID": of("LO", first.value if first else ""),
        "IssuerOfPatientID": of("LO", first.issuer if first else ""),
        "PatientBirthDate": of("DA", person.birth_date),
        "PatientSex": of("CS", person.sex),
        "BodyPartExamined": of("CS", *found.body_parts),
        "StudyInstanceUID": of("UI", found.study_instance_uid),
        "NumberOfStudyRelatedSeries": of("IS", found.series),
        "NumberOfStudyRelatedInstances": of("IS", found.instances),
    }


def _is_pattern(text: str) -> bool:
    return re.search(r"[*?]", text) is not None


def _is_like(wanted: str, found: str) -> bool:
    return not wanted or matches_text(wanted, found)
