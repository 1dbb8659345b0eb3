"""Errors of SQLite and SQLCipher, said in the node's words.

`sqlcipher3.Error` is no subclass of `sqlite3.Error`, so this is the only module that catches
either.  Texts of SQLite name tables and columns, never values, and may be passed on.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlcipher3

from peer.errors import Conflict, Damaged, NodeError, StorageFull

PRIMARY_CODE: Final = 0xFF
"""Extended result codes keep the primary one in their low byte (sqlite.org/rescode.html)."""


WRITE_FAILED: Final = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
"""What SQLite also says when there is no room for a file beside the database."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite says about the database at `path` as one of `peer.errors`.

    Full disk: StorageFull.  Not a database, malformed: Damaged.  A constraint: Conflict.  Locked,
    unreadable or unwritable: NodeError.  Anything else is a fault of our SQL and passes unchanged.
    """
    try:
        yield
    except (sqlite3.Error, sqlcipher3.Error) as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & PRIMARY_CODE
        if code in WRITE_FAILED and _is_full(path):
            code = sqlite3.SQLITE_FULL
        told = _told(code, path.name, str(error))
        if told is None:
            raise
        raise told from error


def _is_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free == 0
    except OSError:
        return False


def _told(code: int, name: str, text: str) -> NodeError | None:
    match code:
        case sqlite3.SQLITE_FULL:
            return StorageFull(f"No room on the disk to write {name}. Free some and try again.")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return Damaged(
                f"{name} cannot be read: wrong key or damaged file. Check that the keys belong to "
                "this data directory; if they do, restore the file from a backup."
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return Conflict(f"The change contradicts what is on record already ({text}).")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return NodeError(
                f"{name} is in use by another program. Stop the program, then try again."
            )
        case sqlite3.SQLITE_IOERR:
            return NodeError(f"The disk failed to read or write {name}. Check the disk's health.")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return NodeError(
                f"{name} cannot be opened for writing. Check that its folder exists and that the "
                "node's user owns both."
            )
        case _:
            return None
