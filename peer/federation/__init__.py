"""The partner-facing listeners.

federation
    Mutual TLS, for partners alone: links and ranges of packs.
pairing
    TLS without client certificates, for those who are not partners yet: pairing and key records.
"""

from peer.federation.listener import FederationListener
from peer.federation.pairing import PairingListener

__all__ = ["FederationListener", "PairingListener"]
