"""Single frames of an instance: as they are encoded, and as pictures to look at.

The pictures are for finding one's way, not for diagnosis: eight bits, one window.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import as_pixel_options, get_expected_length, pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from peer.dicom.decoders import Decoders
from peer.dicom.display import Window, to_eight_bits
from peer.dicom.part10 import UNREADABLE, is_encapsulated
from peer.errors import NotFound
from protocol.errors import Refusal

MediaType: TypeAlias = Literal["image/jpeg", "image/png"]

THUMBNAIL_PIXELS: Final = 160
"""Longer side of a thumbnail."""

JPEG_QUALITY: Final = 90

_MEDIA_TYPES: Final = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.92": "image/jpx",
    "1.2.840.10008.1.2.4.93": "image/jpx",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""PS3.18 table 8.7.3-5; what is not named is application/octet-stream."""

_UNDECODABLE: Final = (*UNREADABLE, RuntimeError, MemoryError, KeyError)
"""What decoders raise for pixel data that is not what it claims to be."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it is encoded; native frames are always little endian."""

    data: bytes
    transfer_syntax_uid: str
    media_type: str


def encoded_frame(data: bytes, number: int) -> Frame:
    """Return frame `number` (from 1) of an instance, not decoded.

    Raises NotFound if there is no such frame, Refusal "no-pixel-data" or "not-decodable".
    """
    data_set = _open(data)
    count = _checked_count(data_set, number)
    syntax = str(data_set.file_meta.TransferSyntaxUID)
    try:
        if is_encapsulated(syntax):
            return Frame(
                _fragmented(data_set, number, count),
                syntax,
                _MEDIA_TYPES.get(syntax, "application/octet-stream"),
            )
        return Frame(_native(data_set, number, count), syntax, "application/octet-stream")
    except _UNDECODABLE as error:
        raise _not_decodable() from error


def decoded_frame(data: bytes, number: int, decoders: Decoders) -> Frame:
    """Return frame `number` (from 1) of an instance as native little endian samples.

    Samples keep their colour space and planar configuration.  Raises as `encoded_frame` does.
    """
    data_set = _open(data)
    _checked_count(data_set, number)
    try:
        pixels = _samples(data_set, number, decoders, raw=True)
        if pixels.ndim == 3 and _number(data_set, "PlanarConfiguration"):  # noqa: PLR2004
            pixels = np.moveaxis(pixels, 2, 0)
        little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    except _UNDECODABLE as error:
        raise _not_decodable() from error
    return Frame(little.tobytes(), str(ExplicitVRLittleEndian), "application/octet-stream")


def render(
    data: bytes,
    number: int = 1,
    *,
    decoders: Decoders,
    window: Window | None = None,
    longer_side: int | None = None,
    media_type: MediaType = "image/jpeg",
) -> bytes:
    """Return frame `number` (from 1) as a picture, at most `longer_side` pixels wide and high.

    `window` replaces what the instance asks for (PS3.3 section C.11.2).  Raises NotFound if there
    is no such frame, Refusal "no-pixel-data" or "not-decodable".
    """
    data_set = _open(data)
    _checked_count(data_set, number)
    samples = _number(data_set, "Rows") * _number(data_set, "Columns")
    if samples * max(1, _number(data_set, "SamplesPerPixel")) > decoders.settings.max_samples:
        raise Refusal(
            "not-decodable",
            "The frame is too large to be rendered here.",
            "Retrieve the instance and open it in a workstation.",
        )
    try:
        pixels = _samples(data_set, number, decoders)
        picture = Image.fromarray(to_eight_bits(pixels, data_set, number - 1, window))
    except _UNDECODABLE as error:
        raise _not_decodable() from error
    if longer_side is not None:
        picture.thumbnail((longer_side, longer_side))
    stream = io.BytesIO()
    if media_type == "image/png":
        picture.save(stream, "PNG")
    else:
        picture.save(stream, "JPEG", quality=JPEG_QUALITY)
    return stream.getvalue()


def _open(data: bytes) -> Dataset:
    try:
        return dcmread(io.BytesIO(data))
    except UNREADABLE as error:
        raise _not_decodable() from error


def _pixel_keyword(data_set: Dataset) -> str:
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
        if keyword in data_set:
            return keyword
    return ""


def _number(data_set: Dataset, keyword: str) -> int:
    try:
        return int(data_set.get(keyword, 0) or 0)
    except UNREADABLE:
        return 0


def _count(data_set: Dataset) -> int:
    return max(1, _number(data_set, "NumberOfFrames"))


def _checked_count(data_set: Dataset, number: int) -> int:
    if not _pixel_keyword(data_set):
        raise Refusal(
            "no-pixel-data",
            "The instance holds no images.",
            "Show its content in another way, or retrieve the instance.",
        )
    count = _count(data_set)
    if not 1 <= number <= count:
        raise NotFound(f"There is no frame {number}; the instance has {count}.")
    return count


def _not_decodable() -> Refusal:
    return Refusal(
        "not-decodable",
        "The pixel data of this instance cannot be decoded here.",
        "Retrieve the instance and open it in a workstation.",
    )


def _fragmented(data_set: Dataset, number: int, count: int) -> bytes:
    offsets: Any = None
    if "ExtendedOffsetTable" in data_set:
        offsets = (data_set.ExtendedOffsetTable, data_set.ExtendedOffsetTableLengths)
    return get_frame(
        data_set.PixelData, number - 1, extended_offsets=offsets, number_of_frames=count
    )


def _native(data_set: Dataset, number: int, count: int) -> bytes:
    bits = int(data_set.BitsAllocated)
    if bits == 1:
        pixels = _single_bits(data_set, number)
        return np.packbits(pixels.ravel(), bitorder="little").tobytes()
    length = get_expected_length(data_set) // count
    pixels_at = length * (number - 1)
    frame = bytes(data_set[_pixel_keyword(data_set)].value[pixels_at : pixels_at + length])
    if len(frame) != length:
        raise EOFError
    if data_set.file_meta.TransferSyntaxUID == ExplicitVRBigEndian and bits > 8:  # noqa: PLR2004
        swapped: npt.NDArray[Any] = np.frombuffer(frame, dtype=f">u{bits // 8}")
        return swapped.astype(f"<u{bits // 8}").tobytes()
    return frame


def _samples(
    data_set: Dataset, number: int, decoders: Decoders, *, raw: bool = False
) -> npt.NDArray[Any]:
    """Return a frame decoded, colours as RGB unless `raw`."""
    syntax = str(data_set.file_meta.TransferSyntaxUID)
    if is_encapsulated(syntax):
        encoded = _fragmented(data_set, number, _count(data_set))
        found = as_pixel_options(data_set)
        options = {name: value for name, value in found.items() if name in _IMAGE_PIXEL}
        return decoders.decode(syntax, encoded, options, raw=raw)
    if data_set.BitsAllocated == 1:
        return _single_bits(data_set, number)
    return pixel_array(data_set, index=number - 1, raw=raw)


_IMAGE_PIXEL: Final = (
    "bits_allocated",
    "bits_stored",
    "columns",
    "photometric_interpretation",
    "pixel_representation",
    "planar_configuration",
    "rows",
    "samples_per_pixel",
)


def _single_bits(data_set: Dataset, number: int) -> npt.NDArray[np.uint8]:
    """Return a frame of single bits; frames are not aligned to bytes (PS3.5 section 8.1.1)."""
    shape = (int(data_set.Rows), int(data_set.Columns))
    count = shape[0] * shape[1]
    first = count * (number - 1)
    whole = np.frombuffer(data_set.PixelData, np.uint8)
    bits = np.unpackbits(whole[first // 8 : -(-(first + count) // 8)], bitorder="little")
    return bits[first % 8 : first % 8 + count].reshape(shape)
