"""Has compressed frames decoded by processes of their own, started when first needed."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from peer.config import DicomWeb
from peer.dicom.decoder_process import receive, send

COMMAND: Final = (sys.executable, "-m", "peer.dicom.decoder_process")

_Process: TypeAlias = "subprocess.Popen[bytes]"


class DecodingFailed(RuntimeError):
    """The frame cannot be decoded, or its decoder died or hung over it."""


class Decoders:
    """A few processes that decode, one frame each at a time.  Safe for use from many threads."""

    def __init__(self, settings: DicomWeb) -> None:
        self.settings = settings
        self._slots = threading.BoundedSemaphore(settings.decoders)
        self._idle: list[_Process] = []

    def decode(
        self, transfer_syntax_uid: str, frame: bytes, options: dict[str, Any], *, raw: bool
    ) -> npt.NDArray[Any]:
        """Return the samples of one encoded frame; colours as RGB unless `raw`.

        `options` are the attributes of the Image Pixel module (`pydicom.pixels.as_pixel_options`).
        Raises DecodingFailed.
        """
        head = {"transfer_syntax_uid": transfer_syntax_uid, "options": options, "raw": raw}
        with self._slots:
            process = self._idle.pop() if self._idle else self._start()
            timer = threading.Timer(self.settings.decoder_s, process.kill)
            timer.start()
            try:
                answer, samples = _ask(process, head, frame)
            except BaseException as error:
                _end(process)
                if isinstance(error, (OSError, EOFError)):
                    raise DecodingFailed("the decoder died or took too long") from error
                raise
            finally:
                timer.cancel()
            self._idle.append(process)
        if "error" in answer:
            raise DecodingFailed(answer["error"])
        return np.frombuffer(samples, np.dtype(answer["type"])).reshape(answer["shape"])

    def close(self) -> None:
        """End the processes that wait for work."""
        while self._idle:
            _end(self._idle.pop())

    def _start(self) -> _Process:
        return subprocess.Popen(  # noqa: S603 - a constant command and a number
            (*COMMAND, str(self.settings.decoder_bytes)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # Decoders write there what they think of a frame.
        )


def _ask(process: _Process, head: dict[str, Any], frame: bytes) -> tuple[dict[str, Any], bytes]:
    if process.stdin is None or process.stdout is None:
        raise EOFError
    send(process.stdin, head, frame)
    return receive(process.stdout)


def _end(process: _Process) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:
                continue  # What could not be sent to a dead decoder.
