"""A frame that a decoder dies of costs that frame, not the node."""

from __future__ import annotations

import concurrent.futures
import os
import time

import pytest

from peer.config import DicomWeb
from peer.dicom import decoders as module
from peer.dicom.decoders import Decoders
from peer.dicom.frames import decoded_frame, render
from protocol.errors import Refusal
from tests.dicom_samples import sample

# One byte each, found by changing bytes at random: GDCM ends its process over every one of them.
FATAL = [
    ("SC_rgb_jpeg_lossy_gdcm.dcm", 1820, 0x00),
    ("SC_rgb_jpeg.dcm", 975, 0xFF),
    ("MR_small_jp2klossless.dcm", 1590, 0xA7),
    ("SC_rgb_small_odd_jpeg.dcm", 1946, 0xFF),
    ("SC_rgb_jpeg_dcmtk.dcm", 1869, 0xCC),
]


@pytest.fixture(scope="module")
def decoders():
    made = Decoders(DicomWeb())
    yield made
    made.close()


def damaged(name, position, value) -> bytes:
    data = bytearray(sample(name))
    data[position] = value
    return bytes(data)


@pytest.mark.parametrize("case", FATAL, ids=[case[0] for case in FATAL])
def test_a_fatal_frame_is_refused_and_the_next_is_shown(case, decoders):
    for read in (
        lambda data: render(data, decoders=decoders),
        lambda data: decoded_frame(data, 1, decoders),
    ):
        with pytest.raises(Refusal) as caught:
            read(damaged(*case))
        assert caught.value.code == "not-decodable"
        assert read(sample(case[0]))


def test_compressed_frames_are_decoded_elsewhere(decoders):
    render(sample("JPEG2000.dcm"), decoders=decoders)
    assert decoders._idle
    assert os.getpid() not in {process.pid for process in decoders._idle}


def test_many_threads_share_few_decoders(decoders):
    names = ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "SC_rgb_jpeg_dcmtk.dcm"] * 8
    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        pictures = list(threads.map(lambda name: render(sample(name), decoders=decoders), names))
    assert all(pictures)
    assert len(decoders._idle) <= decoders.settings.decoders
    fatal = [damaged(*FATAL[0]), sample("JPEG2000.dcm")] * 6

    def shown(data):
        try:
            return bool(render(data, decoders=decoders))
        except Refusal:
            return False

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        assert list(threads.map(shown, fatal)) == [False, True] * 6


def test_a_decoder_that_hangs_is_ended(monkeypatch):
    # The shell takes the bound of memory as its first argument, and heeds it not.
    monkeypatch.setattr(module, "COMMAND", ["sh", "-c", "exec sleep 60"])
    hanging = Decoders(DicomWeb(decoder_s=1))
    began = time.monotonic()
    with pytest.raises(module.DecodingFailed):
        hanging.decode("1.2.840.10008.1.2.4.50", b"frame", {}, raw=False)
    assert time.monotonic() - began < 10
    assert hanging._idle == []
