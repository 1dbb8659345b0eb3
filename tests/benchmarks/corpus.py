"""Folders of instances for the benchmarks: the same arguments make the same bytes."""

from __future__ import annotations

import random
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

CT, SERIES_OF = "1.2.840.10008.5.1.4.1.1.2", 100
CT_PIXELS, SMALL_PIXELS = 512, 139
"""Rows and columns, two bytes each: instances of 526 KB and of 39 KB."""
PER_STUDY = 400


def _data_set(study, number, pixels):
    """Return a CT image with the attributes that scanners write (PS3.3 table A.3-1)."""
    patient, series = study // 2, number // SERIES_OF
    values = {
        "SpecificCharacterSet": "ISO_IR 192", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": CT, "SOPInstanceUID": f"2.999.7.{study}.{series}.{number + 1}",
        "StudyDate": "20240312", "SeriesDate": "20240312", "ContentDate": "20240312",
        "StudyTime": "101500", "SeriesTime": "101730", "ContentTime": "101731.25",
        "AccessionNumber": f"A{study:07d}", "Modality": "CT", "Manufacturer": "BENCH",
        "InstitutionName": "Bench Hospital", "ReferringPhysicianName": "Ref^Doctor",
        "StationName": "CT1", "StudyDescription": "CT Thorax", "ManufacturerModelName": "Synthetic",
        "SeriesDescription": f"Thorax 1.25 {series}", "PatientName": f"Müller{patient}^Jürgen",
        "PatientID": f"B{patient:06d}", "PatientBirthDate": "19500417", "PatientSex": "M",
        "PatientAge": "073Y", "BodyPartExamined": "CHEST", "SliceThickness": "1.25", "KVP": "120",
        "SoftwareVersions": "1.0", "ProtocolName": "Thorax", "ExposureTime": "500",
        "XRayTubeCurrent": "210", "ConvolutionKernel": "B30f", "PatientPosition": "HFS",
        "StudyInstanceUID": f"2.999.7.{study}", "SeriesInstanceUID": f"2.999.7.{study}.{series}",
        "StudyID": str(study), "SeriesNumber": series, "InstanceNumber": number + 1,
        "ImagePositionPatient": ["-180", "-180", f"{-200 + 1.25 * number:.2f}"],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "FrameOfReferenceUID": f"2.999.7.{study}.9", "SliceLocation": f"{1.25 * number:.2f}",
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": pixels,
        "Columns": pixels, "PixelSpacing": ["0.7", "0.7"], "BitsAllocated": 16, "BitsStored": 12,
        "HighBit": 11, "PixelRepresentation": 0, "WindowCenter": "40", "WindowWidth": "400",
        "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU",
    }  # fmt: skip
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = CT
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def make(folder, count, pixels, per_study=PER_STUDY):
    """Write `count` instances, `per_study` to a study; return their bytes.

    Pixels are noise: nothing here compresses, and no two instances are alike.
    """
    total = 0
    for index in range(count):
        study, number = divmod(index, per_study)
        made = _data_set(study, number, pixels)
        made.PixelData = random.Random(index).randbytes(2 * pixels * pixels)
        stream = BytesIO()
        pydicom.dcmwrite(stream, made, enforce_file_format=True)
        path = folder / f"S{study:03d}" / f"I{number:05d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getbuffer())
        total += stream.tell()
    return total
