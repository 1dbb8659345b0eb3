"""From stored pixel values to what a screen shows (PS3.3 sections C.11.1, C.11.2; PS3.4 N.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi

from peer.dicom.part10 import UNREADABLE

Pixels: TypeAlias = npt.NDArray[Any]

WHITE: Final = 255


@dataclass(frozen=True, slots=True)
class Window:
    """Window Center and Window Width, in the units of the modality."""

    center: float
    width: float
    function: str = "LINEAR"
    """VOI LUT Function (0028,1056)."""


def to_eight_bits(
    pixels: Pixels, data_set: Dataset, index: int, window: Window | None
) -> npt.NDArray[np.uint8]:
    """Return one decoded frame as (rows, columns) grey or (rows, columns, 3) RGB.

    `index` counts frames from 0.  Raises what pydicom raises for look-up tables that are wrong.
    """
    photometric = str(data_set.get("PhotometricInterpretation", "")).strip()
    if photometric == "PALETTE COLOR":
        return _color(apply_color_lut(pixels, data_set))
    if pixels.ndim == 3:  # noqa: PLR2004 - rows, columns, samples
        return _color(pixels[..., :3])
    grey = _grey(pixels, data_set, index, window)
    return WHITE - grey if photometric == "MONOCHROME1" else grey


def _color(pixels: Pixels) -> npt.NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels
    top = max(1, int(pixels.max(initial=0)))
    bits = max(8, top.bit_length())
    return (pixels >> (bits - 8)).astype(np.uint8)


def _grey(
    pixels: Pixels, data_set: Dataset, index: int, window: Window | None
) -> npt.NDArray[np.uint8]:
    values = _rescale(pixels, data_set, index)
    if window is None:
        if "VOILUTSequence" in data_set:
            return _stretch(apply_voi(values, data_set), None)
        window = _declared_window(data_set, index)
    return _stretch(values, window)


def _rescale(pixels: Pixels, data_set: Dataset, index: int) -> Pixels:
    group = _functional_group(data_set, "PixelValueTransformationSequence", index)
    return apply_modality_lut(pixels, data_set if group is None else group)


def _declared_window(data_set: Dataset, index: int) -> Window | None:
    group = _functional_group(data_set, "FrameVOILUTSequence", index)
    source = data_set if group is None else group
    try:
        center = _first(source.get("WindowCenter"))
        width = _first(source.get("WindowWidth"))
        function = str(source.get("VOILUTFunction", "LINEAR") or "LINEAR").strip()
    except UNREADABLE:
        return None
    if center is None or width is None or width <= 0:
        return None
    return Window(center, width, function)


def _functional_group(data_set: Dataset, keyword: str, index: int) -> Dataset | None:
    """Return the functional group of a frame, its own before the shared one (C.7.6.16)."""
    own = data_set.get("PerFrameFunctionalGroupsSequence") or ()
    shared = data_set.get("SharedFunctionalGroupsSequence") or ()
    for group in (*own[index : index + 1], *shared[:1]):
        items = group.get(keyword)
        if items:
            found: Dataset = items[0]
            return found
    return None


def _first(value: object) -> float | None:
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return None if value is None else float(str(value))


def _stretch(values: Pixels, window: Window | None) -> npt.NDArray[np.uint8]:
    """Map a window, or else the values found, to 0..255 (PS3.3 section C.11.2.1.2)."""
    values = values.astype(np.float32)
    if window is None:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    elif window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            scaled = 1 / (1 + np.exp(-4 * (values - window.center) / window.width))
    elif window.function == "LINEAR_EXACT" or window.width <= 1:
        scaled = (values - window.center) / window.width + 0.5
    else:
        scaled = (values - (window.center - 0.5)) / (window.width - 1) + 0.5
    shown: npt.NDArray[np.uint8] = (np.clip(np.nan_to_num(scaled), 0, 1) * WHITE + 0.5).astype(
        np.uint8
    )
    return shown
