"""The SCP: verification and storage."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final, cast

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationServer, ThreadedAssociationServer

from peer.actors import Actor
from peer.config import Settings
from peer.dicom import IMPLEMENTATION_CLASS_UID, with_file_meta
from peer.dimse.arriving import Arriving, bound
from peer.dimse.callers import Callers
from peer.errors import ConfigError
from peer.ingest import Ingest, Outcome
from peer.logs import Seldom

STOP_S: Final = 2.0
"""How long associations that are opening or closing may take to end by themselves at stop."""

ERROR_COMMENT_CHARACTERS: Final = 64
"""PS3.7 section C.4.3, VR LO."""

SUCCESS: Final = 0x0000
DUPLICATE: Final = 0x0111
NOT_AUTHORISED: Final = 0x0124
OUT_OF_RESOURCES: Final = 0xA700
DATA_SET_MISMATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000

STATUSES: Final = {
    "conflict": DUPLICATE,
    "no-space": OUT_OF_RESOURCES,
    "disk-error": OUT_OF_RESOURCES,
    "oversized": OUT_OF_RESOURCES,
    "missing-uid": DATA_SET_MISMATCH,
    "invalid-uid": DATA_SET_MISMATCH,
    "uid-mismatch": DATA_SET_MISMATCH,
}
"""Status of C-STORE for a refusal (PS3.4 table B.2-1, PS3.7 annex C); what is not named here could
not be understood."""

_log = structlog.get_logger(__name__)

# Any storage SOP class, private ones too, in whatever transfer syntax is proposed first. The
# switch is the library's and holds for the process; all our listeners are of this kind.
_config.UNRESTRICTED_STORAGE_SERVICE = True
# Its log lines and its tracebacks show identifiers and values.
_logger = logging.getLogger("pynetdicom")
_logger.handlers = [logging.NullHandler()]
_logger.propagate = False


class _Server(ThreadedAssociationServer):
    """The library's server, which would take any number of connections, each with two threads.

    `most_turned_away`: connections beyond the associations that are told so.
    """

    def __init__(self, *args: Any, most_turned_away: int, **options: Any) -> None:  # noqa: ANN401 - the library's
        self._most_turned_away = most_turned_away
        super().__init__(*args, **options)

    # typing.override came with Python 3.12.
    def verify_request(self, request: object, client_address: object) -> bool:  # type: ignore[explicit-override]  # noqa: ARG002
        """Return whether there is room for one more connection."""
        most = self.ae.maximum_associations + self._most_turned_away
        return len(self.ae.active_associations) < most

    def handle_error(self, request: object, client_address: object) -> None:  # type: ignore[explicit-override]  # noqa: ARG002
        """Name the error; the library would print all of it."""
        _log.warning("connection-failed", exc_info=True)

    def shutdown(self) -> None:  # type: ignore[explicit-override]
        """Stop serving and close; the library's own way wants to find itself in a list first."""
        # Whoever waits for callers looks only every half second whether to stop; this wakes it.
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        super(AssociationServer, self).shutdown()
        self.server_close()


class DicomListener:
    """Listens for associations and answers C-ECHO and C-STORE."""

    def __init__(self, settings: Settings, ingest: Ingest, loop: asyncio.AbstractEventLoop) -> None:
        self._all_settings = settings
        self._faults = Seldom(settings.audit.fault_s)
        self._settings = settings.dicom
        self._ingest = ingest
        self._loop = loop
        self._callers = Callers(settings.dicom)
        self._ae = AE(ae_title=settings.dicom.ae_title)
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = "OPENPRIORS"
        self._ae.maximum_pdu_size = settings.dicom.max_pdu_bytes
        self._ae.maximum_associations = settings.dicom.max_associations
        self._ae.network_timeout = settings.dicom.idle_s
        # No association requested by then ends a connection: the ARTIM timer of PS3.8.
        self._ae.acse_timeout = settings.dicom.request_s
        self._ae.require_called_aet = True
        self._ae.require_calling_aet = self._callers.titles()
        self._ae.add_supported_context(Verification)
        self._server: ThreadedAssociationServer | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before start()."""
        return 0 if self._server is None else int(self._server.server_address[1])

    async def start(self) -> None:
        """Listen; raise ConfigError if the address cannot be bound."""
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
        ]
        address = (self._settings.host, self._settings.port)
        try:
            self._server = await asyncio.to_thread(
                self._ae.make_server,
                address,
                evt_handlers=handlers,
                server_class=_Server,
                most_turned_away=self._settings.max_turned_away,
            )
        except OSError as error:
            raise ConfigError(
                f"Cannot listen for DICOM on {address[0]} port {address[1]}: {error.strerror}. "
                "Change dicom.host or dicom.port, or stop the program that has the port."
            ) from error
        threading.Thread(target=self._server.serve_forever, name="dicom", daemon=True).start()

    async def stop(self) -> None:
        """Stop listening and end all associations."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        if self._server is None:
            return
        self._server.shutdown()
        self._server = None
        # The library's own shutdown aborts associations in states that have no such transition.
        ending = self._ae.active_associations
        for association in ending:
            if association.is_established:
                association.abort()
        deadline = time.monotonic() + STOP_S
        for association in ending:
            association.join(max(0.0, deadline - time.monotonic()))
            if association.is_alive():
                association.dul.kill_dul()

    def _opened(self, event: evt.Event) -> None:
        _send_at_once(event)
        bound(event.assoc, self._all_settings, self._ingest.memory, self._faults)

    def _echo(self, event: evt.Event) -> int:
        return SUCCESS if self._is_allowed(event, "echo") else NOT_AUTHORISED

    def _store(self, event: evt.Event) -> Dataset:
        request = cast("C_STORE", event.request)
        arrived = cast("Arriving", request.DataSet)
        arrived.is_taken = True
        try:
            return self._keep(event, request, arrived)
        finally:
            arrived.give_back()

    def _keep(self, event: evt.Event, request: C_STORE, arrived: Arriving) -> Dataset:
        if not self._is_allowed(event, "store"):
            return _answer(NOT_AUTHORISED, "This AE title may not store here from this address.")
        if arrived.refusal is not None:
            return _answer(OUT_OF_RESOURCES, arrived.refusal.reason)
        named = str(request.AffectedSOPInstanceUID)
        data = with_file_meta(
            arrived.take(),
            str(request.AffectedSOPClassUID),
            named,
            str(event.context.transfer_syntax),
        )
        actor = Actor(name=_calling(event), kind="ae", roles=frozenset())
        storing = asyncio.run_coroutine_threadsafe(
            self._ingest.store_instance(data, actor, "dimse", named=named), self._loop
        )
        try:
            outcome = storing.result(self._settings.store_timeout_s)
        except (concurrent.futures.CancelledError, TimeoutError):
            return _answer(OUT_OF_RESOURCES, "Not stored in time. Send it again.")
        return _status(outcome)

    def _is_allowed(self, event: evt.Event, service: str) -> bool:
        address = str(event.assoc.requestor.address)
        allowed = self._callers.allows(_calling(event), address, service)
        if not allowed and self._faults.is_due((address, service), time.monotonic()):
            _log.warning("ae-refused", ae_title=_calling(event), service=service)
        return allowed


def _send_at_once(event: evt.Event) -> None:
    """Turn Nagle off: it costs up to 40 ms for each instance."""
    held = event.assoc.dul.socket
    if held is not None and held.socket is not None:
        held.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _calling(event: evt.Event) -> str:
    return str(event.assoc.requestor.ae_title).strip()


def _status(outcome: Outcome) -> Dataset:
    if outcome.status != "refused":
        return _answer(SUCCESS)
    return _answer(STATUSES.get(outcome.code, CANNOT_UNDERSTAND), outcome.reason)


def _answer(status: int, comment: str = "") -> Dataset:
    answer = Dataset()
    answer.Status = status
    if comment:
        answer.ErrorComment = comment[:ERROR_COMMENT_CHARACTERS]
    return answer
