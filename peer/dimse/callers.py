"""Which application entities may do what.

An AE title is a name, not a proof: it is believed only from the address that is on record for it.
"""

from __future__ import annotations

import socket

from peer.config import DicomSettings


class Callers:
    """The table of known AEs."""

    def __init__(self, settings: DicomSettings) -> None:
        self._accept_unknown = settings.accept_unknown
        self._known = {ae.title.strip(): ae for ae in settings.known_aes}

    def titles(self) -> list[str]:
        """Return the titles that are let in, empty if any title is."""
        return [] if self._accept_unknown else sorted(self._known)

    def allows(self, title: str, address: str, service: str) -> bool:
        """Return whether the AE `title`, calling from `address`, may use "store" or "echo"."""
        known = self._known.get(title)
        if known is None:
            return self._accept_unknown
        return service in known.allowed and (not known.host or address in _addresses(known.host))


def _addresses(host: str) -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)} | {host}
    except OSError:  # A name that does not resolve matches no caller.
        return {host}
