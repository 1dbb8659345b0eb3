"""Which messages are taken, and by whom here."""

from __future__ import annotations

from typing import Final

from peer.clock import Clock
from peer.config import Hl7Settings
from peer.hl7.admissions import Admissions
from peer.hl7.message import Message
from peer.hl7.orders import CODES as ORDERS
from peer.hl7.orders import Orders
from peer.hl7.refused import MESSAGE_TYPE, PROCESSING_ID, VERSION, Refused
from peer.hl7.results import CODE as RESULTS
from peer.hl7.results import Results
from peer.hl7.senders import Sender
from peer.index import Tx
from peer.patients import Patients
from peer.search import Prefetch

KINDS: Final = {"ADT": "adt", **dict.fromkeys(sorted(ORDERS), "orders"), RESULTS: "results"}
"""Message codes, and what a sender must be allowed for each."""


class Kinds:
    """Does what a message of any kind says, in the caller's transaction."""

    def __init__(
        self, patients: Patients, prefetch: Prefetch, clock: Clock, settings: Hl7Settings
    ) -> None:
        self._processing_id = settings.processing_id
        self._rooms: dict[str, Admissions | Orders | Results] = {
            "adt": Admissions(patients, prefetch),
            "orders": Orders(prefetch, clock, settings.priors),
            "results": Results(clock),
        }

    def take(self, tx: Tx, message: Message, sender: Sender) -> None:
        """Do what a message says; raise Refused if it is none of ours, or of this sender's."""
        header = message.header
        if not header.text(12).startswith("2."):
            raise Refused("AR", VERSION, "Messages of HL7 version 2 are taken (MSH-12), no others.")
        if header.text(11) != self._processing_id:
            wanted = f"Messages of processing ID {self._processing_id} are taken"
            raise Refused("AR", PROCESSING_ID, f"{wanted} (hl7.processing_id), no others.")
        kind = KINDS.get(message.code)
        if kind is None:
            said = f"Messages of these types are taken, no others: {', '.join(KINDS)}."
            raise Refused("AR", MESSAGE_TYPE, said)
        if kind not in sender.settings.allowed:
            said = f"This sender may send no {message.code}: {kind} is not in its allowed."
            raise Refused("AR", MESSAGE_TYPE, said)
        self._rooms[kind].take(tx, message, sender)
