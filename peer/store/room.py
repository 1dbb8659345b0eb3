"""How much the store may still take: refused in time, a full disk stops nothing else of the node.

The index, its log and the audit trail stand on the same disk as a rule.  They need room to say no
in, to withdraw and to delete; so images stop before the disk is full.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Final

from peer.config import Store as Settings
from peer.errors import StorageFull

WARN_SHARE: Final = 0.9
"""Of the quota: from there on operators are told."""


class Room:
    """Counts what the store holds, and asks the disk what it has left.  Safe for many threads."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._root = root
        self._settings = settings
        self._lock = threading.Lock()
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of all packs, those that are arriving included."""
        return self._held

    def take(self, size: int) -> None:
        """Account for `size` bytes that are about to be written; raise StorageFull if they may not.

        What then fails to be written stays accounted for until the node starts again.
        """
        free = shutil.disk_usage(self._root).free
        if free - size < self._settings.keep_free_bytes:
            raise StorageFull(
                f"The disk has {free} bytes left, and images leave "
                f"{self._settings.keep_free_bytes} of them free. Free some or add a disk, then "
                "send again."
            )
        with self._lock:
            quota = self._settings.quota_bytes
            if quota and self._held + size > quota:
                raise StorageFull(
                    f"The store holds {self._held} bytes of the {quota} that it may. An operator "
                    "can raise store.quota_bytes, or purge studies; then send again."
                )
            self._held += size

    def count(self, size: int) -> None:
        """Take note of bytes that are there already, or of so many fewer if negative."""
        with self._lock:
            self._held = max(0, self._held + size)

    def warning(self) -> str:
        """Return the sentence for the operator when there is little room left, or ''."""
        free, keep = shutil.disk_usage(self._root).free, self._settings.keep_free_bytes
        if keep and free < 2 * keep:
            return (
                f"The disk of the store has {free} bytes left; below {keep} no more images are "
                "taken in or retrieved. Free some or add a disk."
            )
        quota = self._settings.quota_bytes
        if quota and self._held > WARN_SHARE * quota:
            return (
                f"The store holds {self._held} bytes of the {quota} that it may; beyond, no more "
                "images are taken in or retrieved. Raise store.quota_bytes, or purge studies."
            )
        return ""
