"""Who does something: a person or program here, someone at a partner, or the node by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.hashing import keyed
from protocol.identifiers import PeerId

PSEUDONYM_BYTES: Final = 16
"""Of the name under which partners know someone: no two people of a facility will share it."""


class Role:
    """What a person may do."""

    CLINICIAN: Final = "clinician"
    OPERATOR: Final = "operator"
    PRIVACY_OFFICER: Final = "privacy-officer"
    AUDITOR: Final = "auditor"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something.

    `kind`: person, token, os-user, ae, hl7, partner or node.  `purpose`: purpose of use.
    `facility`: the PeerId of the home facility, None for ours.  `pseudonym`: the name partners get
    to see.
    `federated`: a program whose DICOMweb queries go to every facility; `issuer`: of Patient IDs
    that it names without one; `per_hour`: its own limit of searches of other facilities.
    """

    name: str
    kind: str
    roles: frozenset[str]
    purpose: str = "TREAT"
    facility: bytes | None = None
    pseudonym: str = ""
    federated: bool = False
    issuer: str = ""
    per_hour: int | None = None


NODE: Final = Actor("node", "node", frozenset())
"""Who does what nobody asked for: starting, stopping, publishing."""


def partner_node(peer_id: PeerId, name: str) -> Actor:
    """Return the node of a partner, acting for no one in particular."""
    return Actor(name, "partner", frozenset(), facility=peer_id)


def someone_at(peer_id: PeerId, person: str, role: str, purpose: str) -> Actor:
    """Return a person at a partner, who is known here by the pseudonym `person` alone."""
    return Actor(person, "partner", frozenset({role}), purpose, peer_id, person)


def pseudonym(key: bytes, who: str) -> str:
    """Return the name by which partners know `who`; `key`: 32 secret bytes of this facility."""
    return keyed(key, who.encode())[:PSEUDONYM_BYTES].hex()


def known_as(actor: Actor, key: bytes) -> str:
    """Return the name by which partners know someone here; only this facility can resolve it."""
    return actor.pseudonym or pseudonym(key, actor.name)
