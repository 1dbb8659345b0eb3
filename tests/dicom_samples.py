"""Instances for tests: real ones that ship with pydicom, and small ones made to measure."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import data_store
import pydicom
import pydicom.data
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT = "1.2.840.10008.5.1.4.1.1.2"

SAMPLES = sorted(
    {
        path.name: path
        for path in (
            *map(Path, pydicom.data.get_testdata_files()),
            *map(Path, pydicom.data.get_charset_files()),
            *Path(data_store.__file__).parent.rglob("*.dcm"),
        )
        if path.is_file()
    }.values()
)


def data_set(**changes) -> Dataset:
    values = {
        "SOPClassUID": CT,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "PatientName": "Doe^Jane",
        "PatientID": "MRN-1",
        "Modality": "CT",
        "Rows": 2,
        "Columns": 2,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": b"\1\2\3\4",
    } | changes
    made = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(made, keyword, value)
    if "PixelData" in made:
        made["PixelData"].VR = "OB"
    return made


def encoded(made: Dataset, syntax=ExplicitVRLittleEndian) -> bytes:
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.get("SOPClassUID") or CT
    made.file_meta.MediaStorageSOPInstanceUID = made.get("SOPInstanceUID") or "1.2.3.4"
    stream = BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


def sample(name: str) -> bytes:
    """Return the bytes of one of SAMPLES."""
    return next(path for path in SAMPLES if path.name == name).read_bytes()


def instance(number: int = 1, *, study: str = "1.2.3", pixels: bytes = b"", **changes) -> bytes:
    """Return a small valid instance; the same arguments make the same bytes."""
    values = {
        "SOPInstanceUID": f"{study}.1.{number}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1",
        "InstanceNumber": number,
        "StudyDate": "20250102",
    } | changes
    if pixels:
        values["PixelData"] = pixels
    return encoded(data_set(**values))
