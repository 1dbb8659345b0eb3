"""The SCP: verification, storage, query and retrieval."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, cast

import structlog
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from peer.actors import Actor
from peer.config import Settings
from peer.dicom import IMPLEMENTATION_CLASS_UID
from peer.dimse import finding, retrieving
from peer.dimse.archive import Archive
from peer.dimse.callers import Callers
from peer.dimse.calling import VERSION_NAME, Calling, tune
from peer.dimse.elsewhere import Elsewhere
from peer.dimse.finding import Finding, Response, read_request
from peer.dimse.outgoing import Gone, is_there, wait_for_room
from peer.dimse.reading import Reading
from peer.dimse.requests import Request, take_retrievals, taken
from peer.dimse.retrieving import Retrieving
from peer.dimse.server import Server
from peer.dimse.statuses import (
    CANNOT_UNDERSTAND,
    NOT_AUTHORISED,
    QUERIES,
    SUCCESS,
    UNKNOWN_DESTINATION,
    answer,
)
from peer.dimse.storing import Keeper
from peer.errors import ConfigError, NodeError
from peer.ingest import Ingest, Memory
from peer.logs import Seldom
from peer.tls import server_context
from protocol.errors import Refusal

STOP_S: Final = 2.0
"""How long associations that are opening or closing may take to end by themselves at stop."""

TRANSFER_SYNTAXES: Final = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
]
"""Of identifiers.  Not the deflated one: a few bytes of it can claim gigabytes."""

_log = structlog.get_logger(__name__)

# Any storage SOP class, private ones too, in whatever transfer syntax is proposed first. The
# switch is the library's and holds for the process; all our listeners are of this kind.
_config.UNRESTRICTED_STORAGE_SERVICE = True
# It would decode what is asked and answered once more, for its log.
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
# Its log lines and its tracebacks show identifiers and values.
_logger = logging.getLogger("pynetdicom")
_logger.handlers = [logging.NullHandler()]
_logger.propagate = False


class DicomListener:
    """Listens for associations and answers C-ECHO, C-STORE, C-FIND, C-GET and C-MOVE."""

    def __init__(
        self, settings: Settings, ingest: Ingest, archive: Archive, elsewhere: Elsewhere
    ) -> None:
        self._faults = Seldom(settings.audit.fault_s)
        self._settings = settings.dicom
        self._keeper = Keeper(ingest, archive.loop, settings.dicom.store_timeout_s)
        self._finding = Finding(archive, elsewhere, settings.dicom.max_results)
        calling = Calling(settings.dicom, self._keeper, self._faults)
        self._retrieving = Retrieving(archive, elsewhere, calling, Memory(settings.ingest))
        self._callers = Callers(settings.dicom)
        self._ae = AE(ae_title=settings.dicom.ae_title)
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = VERSION_NAME
        self._ae.maximum_pdu_size = settings.dicom.max_pdu_bytes
        self._ae.maximum_associations = settings.dicom.max_associations
        self._ae.network_timeout = settings.dicom.idle_s
        self._ae.dimse_timeout = settings.dicom.answer_s
        # No association requested by then ends a connection: the ARTIM timer of PS3.8.
        self._ae.acse_timeout = settings.dicom.request_s
        self._ae.require_called_aet = True
        self._ae.require_calling_aet = self._callers.titles()
        self._ae.add_supported_context(Verification)
        for model in (*finding.MODELS, *retrieving.MODELS):
            self._ae.add_supported_context(model, TRANSFER_SYNTAXES)
        self._servers: dict[bool, Server] = {}
        """By whether they speak TLS."""

    @property
    def port(self) -> int:
        """The port that is listened on without TLS; 0 if there is none."""
        return self._port(is_tls=False)

    @property
    def tls_port(self) -> int:
        """The port that is listened on with TLS; 0 if there is none."""
        return self._port(is_tls=True)

    def _port(self, *, is_tls: bool) -> int:
        server = self._servers.get(is_tls)
        return 0 if server is None else int(server.server_address[1])

    async def start(self) -> None:
        """Listen; raise ConfigError if the address cannot be bound."""
        if self._settings.cleartext:
            await asyncio.to_thread(self._listen, self._settings.port, None)
        if self._settings.tls_certificate:
            context = server_context(self._settings, "dicom")
            await asyncio.to_thread(self._listen, self._settings.tls_port, context)

    def _listen(self, port: int, tls: ssl.SSLContext | None) -> None:
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_SOP_EXTENDED, _extended),
        ]
        address = (self._settings.host, port)
        try:
            server = self._ae.make_server(
                address,
                evt_handlers=handlers,
                server_class=Server,
                most_turned_away=self._settings.max_turned_away,
                tls=tls,
                handshake_s=self._settings.request_s,
            )
        except OSError as error:
            setting = "dicom.port" if tls is None else "dicom.tls_port"
            raise ConfigError(
                f"Cannot listen for DICOM on {address[0]} port {port}: {error.strerror}. "
                f"Change dicom.host or {setting}, or stop the program that has the port."
            ) from error
        self._servers[tls is not None] = cast("Server", server)
        threading.Thread(target=server.serve_forever, name="dicom", daemon=True).start()

    async def stop(self) -> None:
        """Stop listening and end all associations."""
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        for server in self._servers.values():
            server.shutdown()
        self._servers.clear()
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
        tune(event, self._settings.idle_s)
        association = event.assoc

        def sender() -> Actor | None:
            if not self._is_allowed(association, "store"):
                return None
            return Actor(name=_calling(association), kind="ae", roles=frozenset())

        Reading(association, self._settings, self._keeper, self._faults, sender)
        take_retrievals(association, self._retrieve)

    def _echo(self, event: evt.Event) -> int:
        return SUCCESS if self._is_allowed(event.assoc, "echo") else NOT_AUTHORISED

    def _find(self, event: evt.Event) -> Iterator[Response]:
        request, us = cast("C_FIND", event.request), self._settings.ae_title
        try:
            self._must_be_allowed(event.assoc, "find")
            asked = read_request(taken(request.Identifier), *event.context[1:3], us)
            actor = self._callers.actor(_calling(event.assoc))
            for response in self._finding.respond(asked, actor, lambda: _is_over(event)):
                wait_for_room(event.assoc)  # The library would hold what an asker does not read.
                yield response
        except Gone:
            return
        except Refusal as refusal:
            yield answer(QUERIES.get(refusal.code, CANNOT_UNDERSTAND), refusal.reason), None
        except NodeError as error:
            yield answer(CANNOT_UNDERSTAND, str(error)), None

    def _retrieve(self, request: Request) -> None:
        service = "get" if isinstance(request.message, C_GET) else "move"
        try:
            self._must_be_allowed(request.association, service)
            actor = self._callers.actor(_calling(request.association))
        except Refusal as refusal:
            request.respond(NOT_AUTHORISED, None, refusal.reason)
            return
        request = replace(request, actor=actor)
        if isinstance(request.message, C_MOVE):
            named = str(request.message.MoveDestination or "").strip()
            destination = self._callers.destination(actor.name, named)
            if destination is None:
                request.respond(UNKNOWN_DESTINATION, None, "Not a destination for this AE title.")
                return
            request = replace(request, destination=destination)
        self._retrieving.serve(request)

    def _must_be_allowed(self, association: Association, service: str) -> None:
        if not self._is_allowed(association, service):
            raise Refusal("not-permitted", f"This AE title may not {service} from this address.")

    def _is_allowed(self, association: Association, service: str) -> bool:
        address, title = str(association.requestor.address), _calling(association)
        held = association.dul.socket
        is_tls = held is not None and isinstance(held.socket, ssl.SSLSocket)
        allowed = self._callers.allows(title, address, service, is_tls=is_tls)
        if not allowed and self._faults.is_due((address, service), time.monotonic()):
            _log.warning("ae-refused", ae_title=title, service=service)
        return allowed


def _extended(event: evt.Event) -> dict[str, bytes]:
    """Agree to relational queries and retrievals, to nothing else (PS3.4 section C.5.1.1.4)."""
    models = (*finding.MODELS, *retrieving.MODELS)
    return {
        uid: asked[:1] + bytes(len(asked[1:]))
        for uid, asked in getattr(event, "app_info", {})
        if uid in models
    }


def _is_over(event: evt.Event) -> bool:
    """Whether the answer to a query is not wanted any more: cancelled, or the asker has gone."""
    return bool(event.is_cancelled) or not is_there(event.assoc)


def _calling(association: Association) -> str:
    return str(association.requestor.ae_title).strip()
