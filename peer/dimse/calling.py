"""Associations that we request: to PACS, and to the destinations of C-MOVE."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket

from peer.actors import Actor
from peer.config import DicomSettings, KnownAe
from peer.dicom import IMPLEMENTATION_CLASS_UID
from peer.dimse.reading import Reading
from peer.dimse.storing import Keeper
from peer.logs import Seldom
from peer.tls import client_context
from protocol.errors import Refusal

VERSION_NAME: Final = "OPENPRIORS"

TURN_S: Final = 0.001
"""How often it is looked whether the library's own reader has stepped back."""


class Calling:
    """Opens associations as the AE that we are.  Every method blocks: call it in a thread."""

    def __init__(self, settings: DicomSettings, keeper: Keeper, faults: Seldom) -> None:
        self._settings = settings
        self._keeper = keeper
        self._faults = faults

    @contextmanager
    def association(
        self,
        ae: KnownAe,
        contexts: Sequence[PresentationContext],
        roles: Sequence[str] = (),
        sender: Actor | None = None,
    ) -> Iterator[Association]:
        """Yield an association with `ae`, released in the end, or aborted if that failed.

        `roles`: SOP classes of storage in which we are the provider, for C-GET; `sender`: who is
        said to have stored what comes then.  Raises Refusal
        "unreachable" or "rejected".
        """
        if not ae.host:
            raise Refusal(
                "unreachable",
                f"No address is on record for {ae.title}.",
                "Give it a host in dicom.known_aes.",
            )
        association = self._open(ae, contexts, roles, sender)
        try:
            yield association
        except BaseException:
            if association.is_established:
                association.abort()
            raise
        if association.is_established:
            association.release()

    def _open(
        self,
        ae: KnownAe,
        contexts: Sequence[PresentationContext],
        roles: Sequence[str],
        sender: Actor | None,
    ) -> Association:
        us = AE(ae_title=self._settings.ae_title)
        us.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        us.implementation_version_name = VERSION_NAME
        us.maximum_pdu_size = self._settings.max_pdu_bytes
        us.connection_timeout = us.acse_timeout = self._settings.connect_s
        us.dimse_timeout = self._settings.answer_s
        us.network_timeout = None  # What is waited for is an answer, see above.
        tls = (client_context(self._settings, "dicom"), ae.host) if ae.tls else None
        try:
            association = us.associate(
                _address(ae),
                ae.port,
                list(contexts),
                ae.title,
                self._settings.max_pdu_bytes,
                [_role(each) for each in roles],
                tls_args=tls,
                evt_handlers=[(evt.EVT_CONN_OPEN, self._opened, [sender])],
            )
        except (OSError, RuntimeError, ValueError):
            raise _unreachable(ae) from None
        if association.is_established:
            return association
        # The library leaves the socket of a failed attempt open.
        if association.dul.socket is not None:
            association.dul.socket.close()
        if association.is_rejected:
            raise Refusal(
                "rejected",
                f"{ae.title} does not accept an association from {self._settings.ae_title}.",
                "Let its administrator enter our AE title and address, and check its own title.",
            )
        raise _unreachable(ae)

    def _opened(self, event: evt.Event, sender: Actor | None) -> None:
        tune(event, self._settings.idle_s)
        Reading(
            event.assoc, self._settings, self._keeper, self._faults, lambda: sender, is_ours=True
        )


def _shut(held: AssociationSocket) -> None:
    """Close a socket, also one that never was connected, which the library leaves open."""
    if held.socket is not None:
        with suppress(OSError):
            held.socket.shutdown(socket.SHUT_RDWR)
        held.socket.close()


AssociationSocket._shutdown_socket = _shut  # type: ignore[method-assign,assignment]  # noqa: SLF001


def tune(event: evt.Event, stall_s: int) -> None:
    """Turn Nagle off, which costs up to 40 ms an instance, and give sending an end."""
    held = event.assoc.dul.socket
    if held is not None and held.socket is not None:
        held.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Else whoever reads nothing keeps a thread for ever.
        held.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", stall_s, 0))


@contextmanager
def reading(association: Association) -> Iterator[None]:
    """Have the answers of an association that we requested to ourselves."""
    checkpoint = association._reactor_checkpoint  # noqa: SLF001 - as the library's own senders do
    checkpoint.clear()
    while not association._is_paused and association.is_alive():  # noqa: SLF001
        time.sleep(TURN_S)
    try:
        yield
    finally:
        checkpoint.set()


def _address(ae: KnownAe) -> str:
    """Return an IP address of an AE: the library does not look names up.  Raises OSError."""
    return str(socket.getaddrinfo(ae.host, ae.port, type=socket.SOCK_STREAM)[0][4][0])


def _role(sop_class_uid: str) -> SCP_SCU_RoleSelectionNegotiation:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = sop_class_uid
    role.scu_role = False
    role.scp_role = True
    return role


def _unreachable(ae: KnownAe) -> Refusal:
    return Refusal(
        "unreachable",
        f"{ae.title} cannot be reached.",
        "Check host, port and tls in dicom.known_aes, the network, and whether it runs.",
    )
