"""How this node calls others: through which proxy, and what a call that fails has met.

proxy
    The HTTP CONNECT proxy through which every call to a partner goes, if the settings name one.
failure
    Why a call did not get through: a code, and cause and remedy for a person.
"""

from peer.outbound.failures import (
    INSPECTED,
    NO_ANSWER,
    NOT_REACHED,
    UNREACHABLE,
    WRONG_CERTIFICATE,
    Failure,
    explain,
)
from peer.outbound.proxy import Proxy

__all__ = [
    "INSPECTED",
    "NOT_REACHED",
    "NO_ANSWER",
    "UNREACHABLE",
    "WRONG_CERTIFICATE",
    "Failure",
    "Proxy",
    "explain",
]
