"""Encrypted study objects: append, read, verify, destroy.  Knows no index and no DICOM.

study key
    32 random bytes for each study, wrapped by the node's store key.  Destroying it destroys the
    study, wherever its packs were copied to.
pack
    A file of chunks under one random AES-256-GCM key of its own, which the study key wraps.  One
    writer in one lifetime of the process writes it; after any interruption it is cut to what is
    on record and never appended to again, so that no nonce meets a second plaintext.
chunk
    At most CHUNK_PLAIN_BYTES of one instance, encrypted with its number in the pack as nonce;
    pack id, number and whether it is the instance's last one are authenticated with it.

Files are named by the random pack id: nothing received ever becomes part of a path.
"""

from __future__ import annotations

from peer.store.packs import PART_BYTES, PackReceiver, PackWriter
from peer.store.reading import StoredInstance
from peer.store.store import Store
from peer.store.wrapping import (
    new_key,
    unwrap,
    unwrap_pack_key,
    unwrap_study_key,
    wrap,
    wrap_pack_key,
    wrap_study_key,
)

__all__ = [
    "PART_BYTES",
    "PackReceiver",
    "PackWriter",
    "Store",
    "StoredInstance",
    "new_key",
    "unwrap",
    "unwrap_pack_key",
    "unwrap_study_key",
    "wrap",
    "wrap_pack_key",
    "wrap_study_key",
]
