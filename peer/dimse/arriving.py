"""What a caller may make the node hold: PDUs and messages read within bounds.

The library reads a PDU of whatever length its head announces, and keeps a message's fragments until
the last one, however many come.  `bound` puts readers of ours in the place of both.
"""

from __future__ import annotations

import io
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from pynetdicom import evt
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu import A_ABORT_RQ

from peer.ingest import Memory, Share
from protocol.errors import Refusal

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import P_DATA
    from pynetdicom.transport import AssociationSocket
    from typing_extensions import Buffer

    from peer.config import Settings
    from peer.logs import Seldom

HEAD_BYTES: Final = 6
"""Type and length of a PDU (PS3.8 section 9.3)."""

PDU_TYPES: Final = frozenset(range(1, 8))
DATA_PDU: Final = 4

SLACK_BYTES: Final = 1024
"""Some callers do not count the heads of what is in a PDU."""

ASSOCIATE_BYTES: Final = 1024 * 1024
"""Longest PDU but P-DATA-TF: 128 presentation contexts with every transfer syntax have a fifth."""

COMMAND_BYTES: Final = 64 * 1024
"""Longest command set: a C-STORE request has some 200 bytes."""

WAITING: Final = 8
"""Requests of one association that wait for their turn: nobody may send a second one before the
answer to the first, for we negotiate no asynchronous operations (PS3.7 section D.3.3.3)."""

_SERVICE_PROVIDER: Final = 2
_UNEXPECTED_PARAMETER: Final = 5
"""Source and reason of an A-ABORT (PS3.8 section 9.3.8)."""

_log = structlog.get_logger(__name__)


class Arriving(io.BytesIO):
    """A data set that is coming in, within its share of the node's memory.

    What cannot be kept is read and dropped, so that the caller can be answered: `refusal` is why.
    """

    def __init__(self, share: Share, most: int) -> None:
        super().__init__()
        self.refusal: Refusal | None = None
        self.is_taken = False
        """Whether somebody is at work on it, who gives it back when done."""
        self._share = share
        self._most = most

    # typing.override came with Python 3.12.
    def write(self, data: Buffer, /) -> int:  # type: ignore[explicit-override]
        """Append a fragment, or drop it."""
        size = memoryview(data).nbytes
        if self.refusal is not None:
            return size
        if self.tell() + size > self._most:
            self._drop(Refusal("oversized", f"The instance has more than {self._most} bytes."))
            return size
        try:
            self._share.grow_blocking(size)
        except Refusal as refusal:
            self._drop(refusal)
            return size
        return super().write(data)

    def take(self) -> bytes:
        """Return the data set, which is not kept here any longer; its share is, till given back."""
        data = self.getvalue()
        self._empty()
        return data

    def give_back(self) -> None:
        """Give the memory back; the data set is not needed any more."""
        self._empty()
        self._share.give_back()

    def _empty(self) -> None:
        self.seek(0)
        self.truncate()

    def _drop(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.give_back()

    def __del__(self) -> None:  # type: ignore[explicit-override]
        # Of an association that ended in between, or of a message that nobody handles.
        self._share.give_back()
        super().__del__()


class _Command(io.BytesIO):
    """A command set that is coming in."""

    def write(self, data: Buffer, /) -> int:  # type: ignore[explicit-override]
        """Append a fragment; raise _TooMuch."""
        if self.tell() + memoryview(data).nbytes > COMMAND_BYTES:
            raise _TooMuch
        return super().write(data)


class _TooMuch(Exception):
    """More came than any honest caller sends."""


def bound(association: Association, settings: Settings, memory: Memory, faults: Seldom) -> None:
    """Have the association read within bounds; call it before its first byte is read."""
    held = association.dul.socket
    if held is not None:
        held.recv = _PduReader(held, settings, faults).recv  # type: ignore[method-assign]
    dimse = association.dimse
    receive, most = dimse.receive_primitive, settings.ingest.max_instance_bytes
    arriving: weakref.WeakSet[Arriving] = weakref.WeakSet()

    def receive_within_bounds(primitive: P_DATA) -> None:
        try:
            if dimse.message is None:
                dimse.message = _new_message(dimse.msg_queue.qsize())
                dimse.message.data_set = Arriving(memory.share(), most)
                arriving.add(dimse.message.data_set)
            receive(primitive)
        except _TooMuch:
            _note("message-too-long", association, faults)
            _end(association)
            give_back()

    def give_back(_event: object = None) -> None:
        for each in tuple(arriving):
            if not each.is_taken:
                each.give_back()

    dimse.receive_primitive = receive_within_bounds  # type: ignore[method-assign]
    association.bind(evt.EVT_CONN_CLOSE, give_back)


def _end(association: Association) -> None:
    """Abort and stop the association from within its own reading thread.

    As the library itself does on an error there: its state machine would still wait for answers to
    what is being worked on, and fail on them.
    """
    held = association.dul.socket
    if held is not None and held.socket is not None:
        held.send(_abort())
        held.socket.close()
    association.is_aborted, association.is_established = True, False
    association._kill = True  # noqa: SLF001
    association.dul.kill_dul()


def _note(fault: str, association: Association, faults: Seldom) -> None:
    remote = association.requestor.address
    if faults.is_due((fault, remote), time.monotonic()):
        _log.warning("dicom-caller-ended", code=fault, remote=remote)


def _abort() -> bytes:
    abort = A_ABORT_RQ()
    abort.source = _SERVICE_PROVIDER
    abort.reason_diagnostic = _UNEXPECTED_PARAMETER
    return abort.encode()


def _new_message(waiting: int) -> DIMSEMessage:
    if waiting >= WAITING:
        raise _TooMuch
    message = DIMSEMessage()
    message.encoded_command_set = _Command()
    return message


class _PduReader:
    """Reads the heads and bodies of PDUs, each in `dicom.idle_s`, none longer than announced."""

    def __init__(self, held: AssociationSocket, settings: Settings, faults: Seldom) -> None:
        self._held = held
        self._faults = faults
        self._longest = settings.dicom.max_pdu_bytes + SLACK_BYTES
        self._within_s = settings.dicom.idle_s
        self._type = 0
        """Of the PDU whose body is read next; 0 before a head."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Return so many bytes, fewer if the caller closes; raise OSError if that is too many."""
        if not self._type:
            head = self._read(nr_bytes)
            if len(head) == HEAD_BYTES and head[0] in PDU_TYPES:
                self._type = head[0]
            return head
        most = self._longest if self._type == DATA_PDU else max(self._longest, ASSOCIATE_BYTES)
        self._type = 0
        if nr_bytes > most:
            _note("pdu-too-long", self._held.assoc, self._faults)
            self._held.send(_abort())
            raise ConnectionAbortedError
        return self._read(nr_bytes)

    def _read(self, count: int) -> bytearray:
        connection, data, got = self._held.socket, bytearray(count), 0
        if connection is None:
            raise ConnectionAbortedError
        view, deadline = memoryview(data), time.monotonic() + self._within_s
        try:
            while got < count:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                size = connection.recv_into(view[got:])
                if not size:
                    break
                got += size
                if time.monotonic() > deadline:
                    raise TimeoutError
        finally:
            view.release()
            with suppress(OSError):  # Closed meanwhile.
                connection.settimeout(None)
        del data[got:]
        return data
