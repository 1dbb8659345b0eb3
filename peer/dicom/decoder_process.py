"""A process that decodes compressed frames, and may die of it.

The libraries that decode JPEG and its relatives are native code and meet bytes from anywhere; some
end the process on a damaged frame.  Then it is this process, never the node.

A message in either direction is the length of its head (4 B BE), the length of its body (8 B BE),
the head as JSON, the body.  In: how to decode, and one encoded frame.  Out: shape and type, and the
samples; or the head {"error": class name}.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from typing import IO, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder

Head: TypeAlias = dict[str, Any]

_LENGTHS: Final = struct.Struct(">IQ")


def send(stream: IO[bytes], head: Head, body: bytes) -> None:
    """Write one message; raise OSError if the other side is gone."""
    encoded = json.dumps(head).encode()
    stream.write(_LENGTHS.pack(len(encoded), len(body)) + encoded)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Head, bytes]:
    """Read one message; raise EOFError if the other side is gone."""
    head_length, body_length = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    head: Head = json.loads(_exactly(stream, head_length))
    return head, _exactly(stream, body_length)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise EOFError
    return data


def decode(head: Head, frame: bytes) -> npt.NDArray[Any]:
    """Return the samples of one encoded frame; raises whatever decoders raise."""
    decoder = get_decoder(head["transfer_syntax_uid"])
    options: Any = head["options"] | {"number_of_frames": 1}
    samples, _ = decoder.as_array(encapsulate([frame]), index=0, raw=head["raw"], **options)
    return samples


def main(address_space_bytes: int) -> None:
    """Answer until the other side closes, mapping no more memory than that."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            head, frame = receive(questions)
        except EOFError:
            return
        try:
            samples = decode(head, frame)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next frame may be sound
            send(answers, {"error": type(error).__name__}, b"")
            continue
        answer = {"shape": samples.shape, "type": samples.dtype.str}
        send(answers, answer, np.ascontiguousarray(samples).tobytes())


if __name__ == "__main__":
    main(int(sys.argv[1]))
