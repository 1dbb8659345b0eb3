"""The SCP: verification and storage."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final

import structlog
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationServer, ThreadedAssociationServer

from peer.actors import Actor
from peer.config import Settings
from peer.dicom import IMPLEMENTATION_CLASS_UID
from peer.dimse.callers import Callers
from peer.dimse.reading import Reading
from peer.dimse.storing import NOT_AUTHORISED, SUCCESS, Keeper
from peer.errors import ConfigError
from peer.ingest import Ingest
from peer.logs import Seldom

STOP_S: Final = 2.0
"""How long associations that are opening or closing may take to end by themselves at stop."""

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
        self._faults = Seldom(settings.audit.fault_s)
        self._settings = settings.dicom
        self._keeper = Keeper(ingest, loop, settings.dicom.store_timeout_s)
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
        association = event.assoc

        def sender() -> Actor | None:
            if not self._is_allowed(association, "store"):
                return None
            return Actor(name=_calling(association), kind="ae", roles=frozenset())

        Reading(association, self._settings, self._keeper, self._faults, sender)

    def _echo(self, event: evt.Event) -> int:
        return SUCCESS if self._is_allowed(event.assoc, "echo") else NOT_AUTHORISED

    def _is_allowed(self, association: Association, service: str) -> bool:
        address, title = str(association.requestor.address), _calling(association)
        allowed = self._callers.allows(title, address, service)
        if not allowed and self._faults.is_due((address, service), time.monotonic()):
            _log.warning("ae-refused", ae_title=title, service=service)
        return allowed


def _send_at_once(event: evt.Event) -> None:
    """Turn Nagle off: it costs up to 40 ms for each instance."""
    held = event.assoc.dul.socket
    if held is not None and held.socket is not None:
        held.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _calling(association: Association) -> str:
    return str(association.requestor.ae_title).strip()
