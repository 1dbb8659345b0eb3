"""Files on this machine, read by the node itself: nothing is copied from process to process.

Whoever names a file says which one it is.  A path may lead elsewhere here than there, in a
container or after a change; then the file is left to be sent.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from peer.ingest.incoming import Incoming, Taken
from peer.store import PART_BYTES


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A regular file, as stat(2) shows it to whoever names it."""

    path: str
    device: int
    inode: int
    size: int


def read_file(named: NamedFile, incoming: Incoming) -> Taken | None:
    """Return the instance in a file, None if this process cannot read that very file.

    Blocks on the disk.
    """
    try:
        # Not to wait for the other end of a pipe that took the file's place.
        descriptor = os.open(named.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        found = os.fstat(descriptor)
        same = (found.st_dev, found.st_ino, found.st_size)
        if not stat.S_ISREG(found.st_mode) or same != (named.device, named.inode, named.size):
            return None
        if named.size <= PART_BYTES:
            data = os.read(descriptor, named.size)
            return data if len(data) == named.size else None
        while piece := os.read(descriptor, PART_BYTES):
            if incoming.add(piece):
                incoming.flush()
            if incoming.is_refused:
                break
        if not incoming.is_refused and len(incoming) != named.size:
            return None
        return incoming.take()
    except OSError:
        return None
    finally:
        incoming.drop()
        os.close(descriptor)
