"""Copies of a node, taken while it runs, and nodes made from them.

backup directory
    Packs, each written once as the store holds it, which is encrypted; and sets.
set
    What else a node is at one moment: both databases, its online keys, its settings, and the list
    of the packs that its index names.  Never the root key.  Complete once it has its manifest,
    which the node key signs.
backup key
    X25519: the node knows the public half and can make sets, not open them; the secret half lies
    under a passphrase that people keep.
restore
    A new data directory, marked so that its node asks its partners before it signs anything.
"""

from __future__ import annotations

from peer.backup.inspection import Checked, verify
from peer.backup.making import Made, expected_bytes, make, new_name
from peer.backup.passphrase import WrongPassphrase, generate, load_key, set_passphrase
from peer.backup.places import BackupDirectory
from peer.backup.pruning import prune
from peer.backup.record import Backups, LastBackup
from peer.backup.restoring import Restored, restore

__all__ = [
    "BackupDirectory",
    "Backups",
    "Checked",
    "LastBackup",
    "Made",
    "Restored",
    "WrongPassphrase",
    "expected_bytes",
    "generate",
    "load_key",
    "make",
    "new_name",
    "prune",
    "restore",
    "set_passphrase",
    "verify",
]
