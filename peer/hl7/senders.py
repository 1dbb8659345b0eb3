"""Who may send: known by the address that a message comes from, and by what it says of itself.

MSH-3 and MSH-4 are names, not proofs; they tell the systems behind one address apart.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

from peer.actors import Actor, Role
from peer.config import Hl7Sender
from peer.hl7.message import Segment
from peer.hl7.refused import VALUE, Refused
from protocol.identifiers import PatientIdentifier

UNKNOWN: Final = "No system that sends so, from this address, is in the table of senders."


class Senders:
    """The table of senders; `default_issuer`: of Patient IDs that nobody names an issuer for."""

    def __init__(self, senders: Iterable[Hl7Sender], default_issuer: str) -> None:
        self._senders = tuple(senders)
        self._default_issuer = default_issuer

    def at(self, address: str) -> tuple[Sender, ...]:
        """Return who may send from an address; this looks names up, which takes its time."""
        return tuple(
            Sender(each, self._default_issuer)
            for each in self._senders
            if address in _addresses(each.host)
        )

    def named(self, name: str) -> Sender | None:
        """Return the sender of this name, None if it is in the table no more."""
        for each in self._senders:
            if each.name == name:
                return Sender(each, self._default_issuer)
        return None


class Sender:
    """One system that sends, and how its identifiers are to be understood."""

    def __init__(self, settings: Hl7Sender, default_issuer: str) -> None:
        self.settings = settings
        self.name = settings.name
        self._issuer = settings.issuer or default_issuer
        self._own = {self._issuer, *settings.authorities.values()}

    @property
    def actor(self) -> Actor:
        """Who is accountable for what its messages do."""
        return Actor(
            self.name,
            "hl7",
            frozenset({Role.CLINICIAN}),
            self.settings.purpose.value,
            per_hour=self.settings.per_hour,
        )

    def identifiers(self, segment: Segment, number: int) -> list[PatientIdentifier]:
        """Return the identifiers of a field of type CX, in their order, each with its issuer."""
        found = []
        for each in segment.values(number):
            if value := each.part(1):
                authority = [each.part(4, place) for place in (1, 2)]
                found.append(PatientIdentifier(self._issuer_of(*authority), value))
        return list(dict.fromkeys(found))

    def own(self, identifiers: Iterable[PatientIdentifier]) -> list[PatientIdentifier]:
        """Return those of issuers whose patients this sender may change."""
        return [each for each in identifiers if each.issuer in self._own]

    def _issuer_of(self, namespace: str, universal: str) -> str:
        """Return the issuer that a hierarchic designator means, as it stands in images here."""
        if not namespace and not universal:
            return self._issuer
        for each in (universal, namespace):
            if each in self.settings.authorities:
                return self.settings.authorities[each]
        return universal or namespace


def sender_of(header: Segment, candidates: Iterable[Sender]) -> Sender:
    """Return who a message is from; raise Refused if it is none of them."""
    for each in candidates:
        application, facility = each.settings.application, each.settings.facility
        if application in {"", header.text(3)} and facility in {"", header.text(4)}:
            return each
    raise Refused("AR", VALUE, UNKNOWN)


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)} | {host}
    except OSError:  # A name that does not resolve matches no caller.
        return {host}
