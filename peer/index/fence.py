"""DATA/journal.fence: how far our journal had come when its last bytes left, outside the database.

A database that was copied back from yesterday cannot know that it is old.  This file can: it is
made durable before the first byte of a batch, or a word about it, leaves the node.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from peer.errors import NodeError, StorageFull
from peer.keys.files import replace_private
from protocol.identifiers import PeerId

FILE_NAME: Final = "journal.fence"

_FORM: Final = re.compile(r"openpriors journal fence 1 ([0-9a-f]{64}) (restored|(\d+) (\d+))\n")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_MOST_CHARACTERS: Final = 256
"""No fence is longer; of another file under its name no more is read."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """An epoch of our journal and a batch number in it."""

    epoch: int
    batch: int


class Fence:
    """The fence of the journal of `me` below the data directory `data`.

    is_missing: there is no such file.  is_in_doubt: the journal may be older than its word, because
    the data came from a backup or the file cannot be read.
    """

    def __init__(self, data: Path, me: PeerId) -> None:
        self._path = data / FILE_NAME
        self._me = me
        self.position: Position | None = None
        self.is_missing = False
        self.is_in_doubt = False
        try:
            with self._path.open(encoding="ascii", errors="replace") as file:
                found = _FORM.fullmatch(file.read(_MOST_CHARACTERS))
        except FileNotFoundError:
            self.is_missing = True
        except OSError as error:
            raise NodeError(
                f"{self._path} cannot be read. Check that the node's user owns it."
            ) from error
        else:
            self.is_in_doubt = found is None or found[1] != me.hex() or found[2] == "restored"
            if found is not None and not self.is_in_doubt:
                self.position = Position(int(found[3]), int(found[4]))

    def is_ahead(self, position: Position | None) -> bool:
        """Return whether bytes beyond `position` (None: an empty journal) have left."""
        return self.position is not None and (position is None or self.position > position)

    def put(self, position: Position) -> None:
        """Set the fence, durably; it may fall only when a journal was recovered.  Blocks.

        Raise NodeError, StorageFull if there is no room: then nothing may be said either.
        """
        text = f"openpriors journal fence 1 {self._me.hex()} {position.epoch} {position.batch}\n"
        try:
            replace_private(self._path, text.encode("ascii"))
        except OSError as error:
            kind = StorageFull if error.errno in _FULL else NodeError
            raise kind(
                f"{self._path} cannot be written ({error.strerror}), so partners are told nothing. "
                "Make room on the disk and check that the node's user may write there."
            ) from error
        self.position, self.is_missing, self.is_in_doubt = position, False, False


def mark_restored(data: Path, me: PeerId) -> None:
    """Say that the data in `data` comes from a backup, so that the partners are asked first."""
    text = f"openpriors journal fence 1 {me.hex()} restored\n"
    replace_private(data / FILE_NAME, text.encode("ascii"))
