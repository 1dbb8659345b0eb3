"""A modality that speaks DICOM over a plain socket: one association, C-STORE after C-STORE.

It notices at once when the other side is gone, which the library does not always.
"""

from __future__ import annotations

import socket
import struct
from typing import Self

from peer.dicom import read_header
from tests.dicom_samples import CT

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
ACCEPTED, DATA = 2, 4
CONTEXT_ID = 1
COMMAND, LAST = 1, 2
C_STORE_RQ, STATUS = 0x0001, 0x0900
FRAGMENT_BYTES = 16_000
"""Every receiver takes PDUs of 16 KiB."""


def _item(kind, content):
    return struct.pack(">BBH", kind, 0, len(content)) + content


def _title(text):
    return text.encode().ljust(16)


def _request(calling, called, max_pdu_bytes):
    """Return an A-ASSOCIATE-RQ for CT images (PS3.8 section 9.3.2)."""
    context = bytes((CONTEXT_ID, 0, 0, 0))
    context += _item(0x30, CT.encode()) + _item(0x40, EXPLICIT_LITTLE_ENDIAN.encode())
    user = _item(0x51, struct.pack(">I", max_pdu_bytes)) + _item(0x52, b"2.999.1")
    body = struct.pack(">HH", 1, 0) + _title(called) + _title(calling) + bytes(32)
    body += _item(0x10, APPLICATION_CONTEXT.encode()) + _item(0x20, context) + _item(0x50, user)
    return struct.pack(">BBI", 1, 0, len(body)) + body


def _element(number, value):
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value)) + value


def _fragment(control, data):
    head = struct.pack(">IBB", len(data) + 2, CONTEXT_ID, control)
    return struct.pack(">BBI", DATA, 0, len(head) + len(data)) + head + data


class Modality:
    """An association that is established; raises ConnectionError when the other side is gone."""

    def __init__(self, port, calling="CT1", called="OPENPRIORS"):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._messages = 0
        self._socket.sendall(_request(calling, called, 16_384))
        kind, _ = self._read()
        assert kind == ACCEPTED, "the association is refused"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self._socket.close()

    def store(self, file):
        """Send one CT image, the bytes of its file; return the status of the answer."""
        header = read_header(file)
        self._messages += 1
        elements = b"".join((
            _element(0x0002, header.instance.sop_class_uid.encode()),
            _element(0x0100, struct.pack("<H", C_STORE_RQ)),
            _element(0x0110, struct.pack("<H", self._messages % 65_536)),
            _element(0x0700, struct.pack("<H", 0)),
            _element(0x0800, struct.pack("<H", 0)),
            _element(0x1000, header.instance.sop_instance_uid.encode()),
        ))  # fmt: skip
        command = _element(0, struct.pack("<I", len(elements))) + elements
        pieces = [_fragment(COMMAND | LAST, command)]
        data_set = file[header.data_set_offset :]
        for start in range(0, len(data_set), FRAGMENT_BYTES):
            piece = data_set[start : start + FRAGMENT_BYTES]
            ends = start + len(piece) == len(data_set)
            pieces.append(_fragment(LAST if ends else 0, piece))
        self._socket.sendall(b"".join(pieces))
        kind, body = self._read()
        assert kind == DATA, "the association was aborted"
        at = body.index(struct.pack("<HHI", 0, STATUS, 2)) + 8
        return struct.unpack_from("<H", body, at)[0]

    def _read(self):
        kind, _, length = struct.unpack(">BBI", self._exactly(6))
        return kind, self._exactly(length)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError("the other side is gone")
            data += piece
        return data
