"""The node's own keys: made once, sealed under the master key, and put to work in TLS contexts.

root key
    Is the facility.  Written once to where the operator says, outside the data directory; needed
    again only to sign a new key record.
node keys
    Everything that must be online: node key, TLS key, sealing key and the node's own secrets.  They
    stand in DATA/keys/node.sealed.
master key
    Opens node.sealed.  A file of 32 random bytes, or a credential of the service manager.
"""

from peer.keys.certificate import (
    SUBJECT_PREFIX,
    check_certificate,
    ends_at,
    fingerprint,
    make_certificate,
)
from peer.keys.files import find_root_key, read_root_key, write_root_key
from peer.keys.node import NodeKeys, create, load
from peer.keys.paper import from_paper, to_paper
from peer.keys.renewal import Draft, draft, install, install_known, renew

__all__ = [
    "SUBJECT_PREFIX",
    "Draft",
    "NodeKeys",
    "check_certificate",
    "create",
    "draft",
    "ends_at",
    "find_root_key",
    "fingerprint",
    "from_paper",
    "install",
    "install_known",
    "load",
    "make_certificate",
    "read_root_key",
    "renew",
    "to_paper",
    "write_root_key",
]
