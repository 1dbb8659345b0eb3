"""The demonstration's studies: real DICOM files, re-addressed to people who do not exist.

The pixels are those of the samples that ship with pydicom and pydicom-data.  Written anew are what
a sample cannot have: the patient's attributes, the identifiers, and the dates, because the samples
are decades old and a retention lock needs a recent study.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid


@dataclass(frozen=True, slots=True)
class Person:
    """One person as one facility knows her or him."""

    patient_id: str
    name: str
    birth_date: str
    sex: str
    birth_name: str = ""


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """One study to be made: whose, what, when, and from which samples."""

    key: str
    facility: str
    person: Person
    description: str
    body_part: str
    days_ago: int
    series: tuple[tuple[str, ...], ...]
    later: bool = False
    """Made only while the story runs, so it is not among the files of the first import."""

    @property
    def study_instance_uid(self) -> str:
        """The UID that every run of the demonstration gives to this study."""
        return generate_uid(entropy_srcs=["openpriors demo", self.key])


A, B, C = "Northgate General Hospital", "Lakeside Imaging Centre", "St. Brigid University Hospital"
FACILITIES = (A, B, C)
ISSUERS = {A: "urn:oid:2.999.1.1", B: "urn:oid:2.999.1.2", C: "urn:oid:2.999.1.3"}
"""2.999 is the arc that X.660 keeps for examples."""

PATIENT_AT = {
    A: Person("NG-204417", "OKONKWO-BRANDT^Adaeze Maria", "19680417", "F"),
    B: Person("L7731902", "Okonkwo Brandt^Maria Adaeze", "19680417", "F"),
    C: Person("0098117345", "OKONKVO BRANDT^ADAEZE", "19680417", "F"),
}
"""One woman at three facilities: other MRNs, given names in another order, a name misspelt."""

WITHOUT_CONSENT = Person("L5500217", "Lindqvist^Henrik", "19540902", "M")
FOR_ONE_PARTNER = Person("NG-118350", "Moreau^Celestine", "19811123", "F")

MISSPELT = Person("L4410067", "Wiśniewski^Marek", "19590321", "M")
DATE_SWAPPED = Person("0077120419", "Haddad^Karim", "19750904", "M")
"""Born on 9 April 1975, if the letter of referral is right."""
RENAMED_AT = {
    B: Person("L6650318", "Castellanos Rey^Beatriz", "19840712", "F", "Ferreira^Beatriz"),
    C: Person("0061903352", "Castellanos^Beatriz", "19840712", "F"),
}
"""One woman after her marriage; one facility has noted her name at birth too."""
JAPANESE = Person("0042260815", "Yamada^Tarou=山田^太郎=やまだ^たろう", "19620815", "M")
HARD_TO_FIND = (
    (B, MISSPELT), (B, RENAMED_AT[B]), (C, DATE_SWAPPED), (C, RENAMED_AT[C]), (C, JAPANESE),
)  # fmt: skip
"""Facility and patient: what is on file there is not what a clinician elsewhere will type."""

STUDIES = (
    DemoStudy(
        "brain", A, PATIENT_AT[A], "Brain without contrast", "BRAIN", 1200,
        (("MR_small.dcm", "MR_small_implicit.dcm"), ("emri_small.dcm",)),
    ),
    DemoStudy(
        "chest", B, PATIENT_AT[B], "Chest, follow-up of a nodule", "CHEST", 40,
        (
            ("693_UNCR.dcm", "693_UNCI.dcm", "693_J2KR.dcm", "CT_small.dcm"),
            ("eCT_Supplemental.dcm",),
        ),
    ),
    DemoStudy(
        "later", B, PATIENT_AT[B], "Abdomen", "ABDOMEN", 0,
        (("US1_J2KR.dcm",),), later=True,
    ),
    DemoStudy(
        "thorax", C, PATIENT_AT[C], "Chest, two views", "CHEST", 700,
        (("RG1_J2KR.dcm", "RG1_UNCR.dcm"),),
    ),
    DemoStudy(
        "echo", C, PATIENT_AT[C], "Heart, transthoracic", "HEART", 95,
        (("color3d_jpeg_baseline.dcm",),),
    ),
    DemoStudy(
        "silent", B, WITHOUT_CONSENT, "Head without contrast", "HEAD", 30,
        (("693_J2KI.dcm",),),
    ),
    DemoStudy(
        "shoulder", A, FOR_ONE_PARTNER, "Shoulder", "SHOULDER", 20,
        (("MR2_J2KR.dcm", "MR2_J2KI.dcm"),),
    ),
    DemoStudy("knee", B, MISSPELT, "Knee", "KNEE", 310, (("MR_small_RLE.dcm",),)),
    DemoStudy("liver", B, RENAMED_AT[B], "Liver", "LIVER", 400, (("JPEG2000.dcm",),)),
    DemoStudy("pelvis", C, DATE_SWAPPED, "Pelvis", "PELVIS", 150, (("CT_small.dcm",),)),
    DemoStudy("spine", C, RENAMED_AT[C], "Spine", "SPINE", 900, (("MR_small.dcm",),)),
    DemoStudy("neck", C, JAPANESE, "Neck", "NECK", 60, (("JPGExtended.dcm",),)),
)  # fmt: skip


@dataclass(slots=True)
class Corpus:
    """The files as written, by study."""

    folder: Path
    files: dict[str, list[Path]] = field(default_factory=dict)

    def of(self, facility: str) -> Path:
        """Return the folder of one facility's files."""
        return self.folder / str(FACILITIES.index(facility) + 1)


def make(corpus: Corpus, today: date | None = None) -> None:
    """Write every study's files: one folder for each facility, and one for what comes later."""
    today = today or datetime.now(UTC).date()
    for study in STUDIES:
        target = corpus.folder / "later" if study.later else corpus.of(study.facility)
        target.mkdir(parents=True, exist_ok=True)
        study_date = (today - timedelta(days=study.days_ago)).strftime("%Y%m%d")
        for series_number, samples in enumerate(study.series, 1):
            for instance_number, sample in enumerate(samples, 1):
                dataset = _sample(sample)
                _readdress(dataset, study, study_date, series_number, instance_number)
                path = target / f"{study.key}-{series_number}-{instance_number}.dcm"
                dataset.save_as(path, enforce_file_format=True)
                corpus.files.setdefault(study.key, []).append(path)


def study(key: str) -> DemoStudy:
    """Return the study that is called `key` in this module."""
    return next(each for each in STUDIES if each.key == key)


def _sample(name: str) -> FileDataset:
    path = get_testdata_file(name, download=False)
    if path is None:
        raise FileNotFoundError(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the samples are old and break small rules
        return dcmread(str(path))


def _readdress(
    dataset: FileDataset,
    study: DemoStudy,
    study_date: str,
    series_number: int,
    instance_number: int,
) -> None:
    person = study.person
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = person.name
    dataset.PatientID = person.patient_id
    dataset.IssuerOfPatientID = ISSUERS[study.facility]
    dataset.PatientBirthDate = person.birth_date
    dataset.PatientSex = person.sex
    for keyword in ("OtherPatientIDs", "OtherPatientIDsSequence", "OtherPatientNames"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.PatientBirthName = person.birth_name
    dataset.InstitutionName = study.facility
    dataset.StudyInstanceUID = study.study_instance_uid
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = study_date
    dataset.StudyTime = "093000"
    dataset.StudyDescription = study.description
    dataset.BodyPartExamined = study.body_part
    dataset.AccessionNumber = f"{person.patient_id[-5:]}{study.days_ago:04d}"
    dataset.SeriesInstanceUID = generate_uid(
        entropy_srcs=["openpriors demo", study.key, str(series_number)]
    )
    dataset.SeriesNumber = series_number
    dataset.InstanceNumber = instance_number
    sop_instance_uid = generate_uid(
        entropy_srcs=["openpriors demo", study.key, str(series_number), str(instance_number)]
    )
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = sop_instance_uid
