"""Frames as they are encoded, and as they are looked at."""

from __future__ import annotations

import io
import re
from functools import partial

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from peer.config import DicomWeb
from peer.dicom import read_header
from peer.dicom.decoders import Decoders
from peer.dicom.display import Window
from peer.dicom.frames import encoded_frame, render
from peer.errors import NotFound
from protocol.errors import Refusal
from tests.dicom_samples import SAMPLES, data_set, encoded, sample

# What no permissive decoder reads, or what is damaged on purpose.
UNDECODABLE = {
    "JPEG-lossy.dcm",
    "JPGExtended.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "badVR.dcm",
}


def pictured():
    for path in SAMPLES:
        try:
            header = read_header(path.read_bytes())
        except Refusal:
            continue
        if header.instance.number_of_frames:
            yield path


DECODERS = Decoders(DicomWeb())

PICTURED = list(pictured())


@pytest.fixture(scope="module", autouse=True)
def _decoders_end():
    yield
    DECODERS.close()


def opened(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)))


def grey(values, **changes) -> bytes:
    pixels = np.asarray(values, dtype=np.uint16)
    return encoded(
        data_set(
            Rows=pixels.shape[-2],
            Columns=pixels.shape[-1],
            BitsAllocated=16,
            BitsStored=16,
            HighBit=15,
            PixelData=pixels.astype("<u2").tobytes(),
            **changes,
        )
    )


def png(data, **options) -> np.ndarray:
    return opened(render(data, decoders=DECODERS, media_type="image/png", **options))


@pytest.mark.parametrize("path", PICTURED, ids=[path.name for path in PICTURED])
def test_every_sample_is_shown_or_refused(path):
    data = path.read_bytes()
    said = re.match(r"[1-9]\d*", str(pydicom.dcmread(path).get("NumberOfFrames", "")))
    count = int(said[0]) if said else 1
    if path.name in UNDECODABLE:
        with pytest.raises(Refusal) as caught:
            render(data, decoders=DECODERS)
        assert caught.value.code == "not-decodable"
        return
    read = pydicom.dcmread(path)
    picture = png(data, number=count)
    assert picture.shape[:2] == (read.Rows, read.Columns)
    small = opened(render(data, count, decoders=DECODERS, longer_side=160))
    assert max(small.shape[:2]) <= 160
    frame = encoded_frame(data, count)
    assert frame.data
    assert frame.transfer_syntax_uid == read.file_meta.TransferSyntaxUID


def test_there_is_no_frame_zero_and_none_behind_the_last():
    data = sample("CT_small.dcm")
    for number in (-1, 0, 2):
        with pytest.raises(NotFound):
            encoded_frame(data, number)
        with pytest.raises(NotFound):
            render(data, number, decoders=DECODERS)


def test_an_instance_without_images_says_so():
    data = sample("reportsi.dcm")
    for read in (partial(render, decoders=DECODERS), lambda data: encoded_frame(data, 1)):
        with pytest.raises(Refusal) as caught:
            read(data)
        assert caught.value.code == "no-pixel-data"


def test_native_frames_are_the_bytes_of_the_pixel_data():
    values = np.arange(24).reshape(3, 2, 4)
    data = grey(values, NumberOfFrames=3)
    for number in (1, 2, 3):
        frame = encoded_frame(data, number)
        assert frame.data == values[number - 1].astype("<u2").tobytes()
        assert frame.media_type == "application/octet-stream"


def test_big_endian_frames_are_sent_little_endian():
    made = data_set(
        Rows=2,
        Columns=2,
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelData=b"\0\1\0\2\0\3\0\4",
    )
    made["PixelData"].VR = "OW"
    frame = encoded_frame(encoded(made, ExplicitVRBigEndian), 1)
    assert frame.data == b"\1\0\2\0\3\0\4\0"


def test_frames_of_single_bits():
    bits = np.random.default_rng(1).integers(0, 2, (3, 3, 5), dtype=np.uint8)
    data = encoded(
        data_set(
            Rows=3,
            Columns=5,
            BitsAllocated=1,
            BitsStored=1,
            HighBit=0,
            NumberOfFrames=3,
            PixelData=np.packbits(bits.ravel(), bitorder="little").tobytes(),
        )
    )
    for number in (1, 2, 3):
        unpacked = np.unpackbits(
            np.frombuffer(encoded_frame(data, number).data, np.uint8), bitorder="little"
        )
        assert (unpacked[:15].reshape(3, 5) == bits[number - 1]).all()
        assert (png(data, number=number) == 255 * bits[number - 1]).all()


def test_compressed_frames_carry_their_media_type():
    for name, media_type in (
        ("JPEG2000.dcm", "image/jp2"),
        ("SC_rgb_jpeg_dcmtk.dcm", "image/jpeg"),
        ("MR_small_RLE.dcm", "image/dicom-rle"),
        ("MR_small_jpeg_ls_lossless.dcm", "image/jls"),
    ):
        assert encoded_frame(sample(name), 1).media_type == media_type
    assert encoded_frame(sample("SC_rgb_jpeg_dcmtk.dcm"), 1).data[:2] == b"\xff\xd8"


def test_a_window_maps_its_range_to_the_screen():
    data = grey([[0, 100, 200, 1000]], WindowCenter=150.5, WindowWidth=101)
    assert png(data).tolist() == [[0, 0, 255, 255]]
    assert png(data, window=Window(500, 1001)).tolist() == [[0, 26, 51, 255]]


def test_rescaling_comes_before_the_window():
    data = grey(
        [[0, 1024, 2048]], RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0.5, WindowWidth=3
    )
    assert png(data).tolist() == [[0, 128, 255]]


def test_without_a_window_the_values_found_are_spread():
    assert png(grey([[100, 200, 300]])).tolist() == [[0, 128, 255]]
    assert png(grey([[7, 7]])).tolist() == [[0, 0]]


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_other_window_functions(function):
    data = grey([[0, 500, 1000]], WindowCenter=500, WindowWidth=1000, VOILUTFunction=function)
    low, middle, high = png(data)[0].tolist()
    assert low < 40
    assert middle == 128
    assert high > 215


def test_monochrome1_is_shown_inverted():
    normal = grey([[0, 50, 100]])
    inverted = grey([[0, 50, 100]], PhotometricInterpretation="MONOCHROME1")
    assert (png(normal).astype(int) + png(inverted) == 255).all()


def test_each_frame_of_an_enhanced_instance_has_its_own_window():
    def group(center, width):
        voi, made = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = center, width
        made.FrameVOILUTSequence = [voi]
        return made

    data = grey(
        [[[0, 100]], [[0, 100]]],
        NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=[group(50.5, 101), group(1000, 2)],
    )
    assert png(data, number=1).tolist() == [[0, 253]] or png(data, number=1)[0][1] > 250
    assert png(data, number=2).tolist() == [[0, 0]]


def test_colours_are_colours():
    picture = png(sample("SC_rgb_rle.dcm"))
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert tuple(picture[5, 50]) == (255, 0, 0)
    palette = png(sample("OBXXXX1A.dcm"))
    assert palette.ndim == 3


def test_a_picture_is_no_larger_than_asked_for():
    assert max(png(sample("CT_small.dcm"), longer_side=32).shape) == 32
    assert png(sample("CT_small.dcm"), longer_side=5000).shape == (128, 128)


def test_a_frame_too_large_to_render_is_refused():
    bomb = encoded(data_set(Rows=1024, Columns=1025, SamplesPerPixel=1, PixelData=b"\1\2"))
    few = Decoders(DicomWeb(max_samples=2**20))
    with pytest.raises(Refusal) as caught:
        render(bomb, decoders=few)
    assert "too large" in caught.value.reason
    assert caught.value.code == "not-decodable"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_pixel_data_that_is_too_short_is_refused(syntax):
    data = encoded(data_set(PixelData=b"\1\2"), syntax)
    with pytest.raises(Refusal):
        render(data, decoders=DECODERS)
    with pytest.raises(Refusal):
        encoded_frame(data, 1)
