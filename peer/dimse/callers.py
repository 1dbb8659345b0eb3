"""Which application entities may do what.

An AE title is a name, not a proof: it is believed only from the address that is on record for it.
"""

from __future__ import annotations

import socket
from typing import Final

from peer.actors import Actor, Role
from peer.config import DicomSettings, KnownAe

_FOR_ANYONE: Final = frozenset({"echo", "store"})
"""Services of an AE that is not known, if any may call: nothing is told to a stranger."""


class Callers:
    """The table of known AEs."""

    def __init__(self, settings: DicomSettings) -> None:
        self._accept_unknown = settings.accept_unknown
        self._known = {ae.title.strip(): ae for ae in settings.known_aes}

    def titles(self) -> list[str]:
        """Return the titles that are let in, empty if any title is."""
        return [] if self._accept_unknown else sorted(self._known)

    def allows(self, title: str, address: str, service: str, *, is_tls: bool) -> bool:
        """Return whether the AE `title`, calling from `address`, may use a service.

        Services: "echo", "store", "find", "get", "move".
        """
        known = self._known.get(title)
        if known is None:
            return self._accept_unknown and service in _FOR_ANYONE
        if known.tls and not is_tls:
            return False
        return service in known.allowed and (not known.host or address in _addresses(known.host))

    def destination(self, title: str, named: str) -> KnownAe | None:
        """Return the AE to which `title` may have studies sent, None if it may not or has none."""
        known, destination = self._known.get(title), self._known.get(named)
        if known is None or destination is None or not destination.host:
            return None
        return destination if named in (known.move_to or (title,)) else None

    def actor(self, title: str) -> Actor:
        """Return who is accountable for what an AE looks at: the AE itself."""
        known = self._known.get(title)
        if known is None:
            return Actor(title, "ae", frozenset())
        return Actor(
            title,
            "ae",
            frozenset({Role.CLINICIAN}),
            known.purpose.value,
            federated=known.federated,
            issuer=known.issuer,
            per_hour=known.per_hour or None,
        )


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)} | {host}
    except OSError:  # A name that does not resolve matches no caller.
        return {host}
