"""What comes on an association: C-STORE is served here, everything else by the library.

The library reads a PDU of whatever length its head announces, keeps a message's fragments until the
last one, however many come, and hands each through three threads.  Here a PDU is read within
bounds; the fragments of a C-STORE go where they are stored as they come; and of other messages no
more is let through than any honest caller sends.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog
from pynetdicom import evt
from pynetdicom.pdu import A_ABORT_RQ

from peer.actors import Actor
from peer.dimse.commands import C_STORE_RQ, Command, read_command, store_answer
from peer.dimse.storing import Keeper, Storing

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from peer.config import DicomSettings
    from peer.logs import Seldom

HEAD_BYTES: Final = 6
"""Type and length of a PDU (PS3.8 section 9.3)."""

PDU_TYPES: Final = frozenset(range(1, 8))
DATA_PDU: Final = 4

FRAGMENT_HEAD_BYTES: Final = 6
"""Length, presentation context, control header (PS3.8 section 9.3.5.1 and annex E)."""
COMMAND: Final = 1
LAST: Final = 2

SLACK_BYTES: Final = 1024
"""Some callers do not count the heads of what is in a PDU."""

ASSOCIATE_BYTES: Final = 1024 * 1024
"""Longest PDU but P-DATA-TF: 128 presentation contexts with every transfer syntax have a fifth."""

COMMAND_BYTES: Final = 64 * 1024
"""Longest command set: a C-STORE request has some 200 bytes."""

OTHER_BYTES: Final = 1024 * 1024
"""Longest data set of a message that is no C-STORE: the identifier of a query has some hundreds."""

WAITING: Final = 8
"""Other requests of one association that wait for their turn: nobody may send a second one before
the answer to the first, for we negotiate no asynchronous operations (PS3.7 section D.3.3.3)."""

GRACE_S: Final = 0.02
"""How long the next message is waited for here.  A sender that has more brings it within a
millisecond; the library, which would be asked else, looks only once in a millisecond or two."""

TURN_S: Final = 0.001
"""How often it is looked whether an answer was read."""

_SERVICE_PROVIDER: Final = 2
_UNEXPECTED_PARAMETER: Final = 5
"""Source and reason of an A-ABORT (PS3.8 section 9.3.8)."""
_ESTABLISHED: Final = "Sta6"
"""The state in which data may come (PS3.8 section 9.2.1)."""

_log = structlog.get_logger(__name__)


class _Ended(Exception):
    """More came than any honest caller sends, or something that is no message."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Reading:
    """Reads an association in the place of the library; make it before its first byte is read.

    `sender` tells who stores, None if it may not.  `is_ours`: we have requested the association,
    and whoever asks over it has stopped the library's other thread already.
    """

    def __init__(
        self,
        association: Association,
        settings: DicomSettings,
        keeper: Keeper,
        faults: Seldom,
        sender: Callable[[], Actor | None],
        *,
        is_ours: bool = False,
    ) -> None:
        self._association = association
        self._dul = association.dul
        self._settings = settings
        self._keeper = keeper
        self._faults = faults
        self._sender = sender
        self._is_ours = is_ours
        self._command = bytearray()
        self._unserved: list[bytearray] = []
        """PDUs of a command that is not all there yet."""
        self._storing: Storing | None = None
        self._other: int | None = None
        """Bytes so far of a data set that is for the library."""
        self._dul._read_pdu_data = self._read_pdus  # type: ignore[method-assign]  # noqa: SLF001
        association.bind(evt.EVT_CONN_CLOSE, self._closed)

    # -- the connection ---------------------------------------------------------------------
    def _read_pdus(self) -> None:
        """Read what has come: C-STORE requests as long as they follow on each other."""
        checkpoint = self._association._reactor_checkpoint  # noqa: SLF001
        if not self._is_ours:
            checkpoint.clear()  # The library's other thread has nothing to do meanwhile.
        try:
            while self._read_pdu() and self._more_comes():
                self._dul._idle_timer.restart()  # noqa: SLF001
        except _Ended as ended:
            self._end(ended.code)
        except OSError:
            self._dul.event_queue.put("Evt17")  # The connection is closed.
        finally:
            if not self._is_ours:
                checkpoint.set()

    def _read_pdu(self) -> bool:
        """Read one PDU; return whether it was served here."""
        head = self._read(HEAD_BYTES)
        kind, length = head[0] if head else 0, int.from_bytes(head[2:6], "big")
        if len(head) < HEAD_BYTES:
            raise ConnectionAbortedError
        if kind not in PDU_TYPES:
            self._dul.event_queue.put("Evt19")
            return False
        longest = self._settings.max_pdu_bytes + SLACK_BYTES
        if length > (longest if kind == DATA_PDU else max(longest, ASSOCIATE_BYTES)):
            raise _Ended("pdu-too-long")
        body = self._read(length)
        if len(body) < length:
            raise ConnectionAbortedError
        established = self._dul.state_machine.current_state == _ESTABLISHED
        if kind == DATA_PDU and established:
            return self._take(head, body)
        self._pass_on(head + body)
        return False

    def _read(self, count: int) -> bytearray:
        held = self._dul.socket
        connection = None if held is None else held.socket
        if connection is None:
            raise ConnectionAbortedError
        data, got = bytearray(count), 0
        deadline = time.monotonic() + self._settings.idle_s
        with memoryview(data) as view:
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
                with suppress(OSError):  # Closed meanwhile.
                    connection.settimeout(None)
        del data[got:]
        return data

    def _more_comes(self) -> bool:
        held = self._dul.socket
        if held is None or held.socket is None or self._dul._kill_thread:  # noqa: SLF001
            return False
        if self._dul.to_provider_queue.qsize():
            return False
        return bool(select.select([held.socket], [], [], GRACE_S)[0])

    # -- messages ---------------------------------------------------------------------------
    def _take(self, head: bytearray, body: bytearray) -> bool:
        """Take the fragments of one P-DATA-TF; return whether they were served here."""
        with memoryview(body) as view:
            position, served = 0, True
            while position < len(view):
                length = int.from_bytes(view[position : position + 4], "big")
                end = position + 4 + length
                if length < FRAGMENT_HEAD_BYTES - 4 or end > len(view):
                    raise _Ended("malformed-pdu")
                context_id, control = view[position + 4], view[position + 5]
                fragment = view[position + FRAGMENT_HEAD_BYTES : end]
                is_last = bool(control & LAST)
                if control & COMMAND:
                    served = self._take_command(context_id, fragment, is_last=is_last)
                else:
                    served = self._take_data(context_id, fragment, is_last=is_last)
                position = end
        pdu = head + body
        if served:
            if self._command:
                self._unserved.append(pdu)
            return True
        for each in self._unserved:
            self._pass_on(each)
        self._unserved.clear()
        self._pass_on(pdu)
        return False

    def _take_command(self, context_id: int, fragment: memoryview, *, is_last: bool) -> bool:
        if self._storing is not None or self._other is not None:
            raise _Ended("message-in-message")
        self._command += fragment
        if len(self._command) > COMMAND_BYTES:
            raise _Ended("message-too-long")
        if not is_last:
            return True
        command, self._command = read_command(self._command), bytearray()
        if command is not None and command.field == C_STORE_RQ and command.has_data_set:
            self._unserved.clear()
            self._begin(context_id, command)
            return True
        self._make_room()
        if command is not None and command.has_data_set:
            self._other = 0
        return False

    def _make_room(self) -> None:
        """Take no more requests than may wait; answers to us wait until we have read others."""
        waiting, deadline = self._association.dimse.msg_queue, time.monotonic()
        deadline += self._settings.idle_s if self._is_ours else 0
        while waiting.qsize() >= WAITING:
            if time.monotonic() >= deadline or self._dul._kill_thread:  # noqa: SLF001
                raise _Ended("message-too-long")
            time.sleep(TURN_S)

    def _begin(self, context_id: int, command: Command) -> None:
        context = self._association._accepted_cx.get(context_id)  # noqa: SLF001
        if context is None or not context.transfer_syntax:
            raise _Ended("unknown-context")
        syntax = str(context.transfer_syntax[0])
        self._storing = Storing(self._keeper, command, syntax, self._sender())

    def _take_data(self, context_id: int, fragment: memoryview, *, is_last: bool) -> bool:
        if self._storing is not None:
            self._storing.add(fragment)
            if is_last:
                storing, self._storing = self._storing, None
                status, comment = storing.finish()
                self._answer(context_id, store_answer(storing.request, status, comment))
            return True
        if self._other is None:
            raise _Ended("no-request")
        self._other += len(fragment)
        if self._other > OTHER_BYTES:
            raise _Ended("message-too-long")
        if is_last:
            self._other = None
        return False

    def _answer(self, context_id: int, command: bytes) -> None:
        size = len(command) + 2
        fragment = size.to_bytes(4, "big") + bytes((context_id, COMMAND | LAST)) + command
        held = self._dul.socket
        if held is not None:
            held.send(bytes((DATA_PDU, 0)) + len(fragment).to_bytes(4, "big") + fragment)

    # -- the library ------------------------------------------------------------------------
    def _pass_on(self, pdu: bytearray) -> None:
        """Hand a PDU to the library, which answers it in its next round."""
        try:
            decoded, event = self._dul._decode_pdu(pdu)  # noqa: SLF001
        except Exception:  # noqa: BLE001 - whatever it raises for bytes that are no PDU
            self._dul.event_queue.put("Evt19")
            return
        self._dul.event_queue.put(event)
        self._dul._recv_pdu.put(decoded)  # noqa: SLF001

    def _end(self, fault: str) -> None:
        """Abort and stop the association from within its own reading thread.

        As the library itself does on an error there: its state machine would still wait for answers
        to what is being worked on, and fail on them.
        """
        remote = self._association.requestor.address
        if self._faults.is_due((fault, remote), time.monotonic()):
            _log.warning("dicom-caller-ended", code=fault, remote=remote)
        held = self._dul.socket
        if held is not None and held.socket is not None:
            held.send(_abort())
            held.socket.close()
        self._association.is_aborted, self._association.is_established = True, False
        self._association._kill = True  # noqa: SLF001
        self._dul.kill_dul()
        self._closed()
        if self._is_ours:
            # Whoever waits for an answer need not wait any longer.
            self._association.dimse.msg_queue.put((None, None))

    def _closed(self, _event: object = None) -> None:
        """Drop what was coming: its end will not come any more."""
        if self._storing is not None:
            self._storing.close()
            self._storing = None


def _abort() -> bytes:
    abort = A_ABORT_RQ()
    abort.source = _SERVICE_PROVIDER
    abort.reason_diagnostic = _UNEXPECTED_PARAMETER
    return abort.encode()
