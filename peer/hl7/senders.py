"""Who may send: known by the address that a message comes from, and by what it says of itself.

MSH-3 and MSH-4 are names, not proofs; they tell the systems behind one address apart.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

from peer.actors import Actor, Role
from peer.config import Hl7Sender
from peer.hl7.message import Segment
from peer.hl7.refused import DATA_TYPE, VALUE, Refused
from protocol.identifiers import PatientIdentifier

OF_PATIENTS: Final = frozenset({"", "MR", "PI", "PT"})
"""Types of identifiers (CX-5, HL7 table 0203) that name a patient of the sender's own: a number of
a visit or an account may be the Patient ID of somebody else."""

OF_PERSONS: Final = OF_PATIENTS | {"HC", "JHN", "NH", "NI", "PN", "SS"}
"""Those of other issuers that name a person too; an account may be that of a whole family."""

IDENTIFIER: Final = 199
"""Characters of an identifier, as of EI.1: DICOM has 64 for a Patient ID."""

OID: Final = "urn:oid:"
"""Before an OID in images (DICOM PS3.3 section 10.14); a designator has it bare (HL7 2.A.33)."""

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
        """Return who is named by a field of type CX, in its order, each with the issuer.

        Raises Refused for an identifier that is too long.
        """
        found = []
        for each in segment.values(number):
            value = bounded(each.part(1))
            issuer = self._issuer_of(*(bounded(each.part(4, place)) for place in (1, 2)))
            types = OF_PATIENTS if issuer in self._own else OF_PERSONS
            if value and each.part(5).upper() in types:
                found.append(PatientIdentifier(issuer, value))
        return list(dict.fromkeys(found))

    def own(self, identifiers: Iterable[PatientIdentifier]) -> list[PatientIdentifier]:
        """Return those of issuers whose patients this sender may change."""
        return [each for each in identifiers if each.issuer in self._own]

    def _issuer_of(self, namespace: str, universal: str) -> str:
        """Return the issuer that a hierarchic designator means, as it stands in images here.

        A universal ID decides: a namespace is a word that two hospitals may both use.
        """
        authorities = self.settings.authorities
        if not universal:
            return authorities.get(namespace, namespace) or self._issuer
        if universal in authorities:
            return authorities[universal]
        bare = universal.removeprefix(OID)
        return next((each for each in self._own if each.removeprefix(OID) == bare), universal)


def bounded(text: str) -> str:
    """Return an identifier; raise Refused if it is too long for one."""
    if len(text) > IDENTIFIER:
        said = f"An identifier, or its authority, has more than {IDENTIFIER} characters."
        raise Refused("AE", DATA_TYPE, said)
    return text


def sender_of(header: Segment, candidates: Iterable[Sender]) -> Sender:
    """Return who a message is from; raise Refused if it is none of them."""
    for each in candidates:
        application, facility = each.settings.application, each.settings.facility
        if application in {"", header.text(3)} and facility in {"", header.text(4)}:
            return each
    raise Refused("AR", VALUE, UNKNOWN)


def _addresses(host: str) -> set[str]:
    try:
        return {str(ipaddress.ip_address(host))}
    except ValueError:
        pass  # A name, not an address.
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)} | {host}
    except OSError:  # A name that does not resolve matches no caller.
        return {host}
