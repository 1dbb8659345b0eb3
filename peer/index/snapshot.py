"""A copy of a database as it was at one moment, while others read and write it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from peer.errors import Damaged, NotFound
from peer.index.database import connect
from peer.index.faults import translated

ROWS_AT_A_TIME = 1000
"""Packs read in one go: enough that the query costs nothing beside copying them."""


def snapshot(path: Path, key: bytes | None, target: Path) -> None:
    """Write the database at `path` to `target`, under the same key; blocks while it does.

    Without what was deleted from it: the copy holds no page that is not in use.
    """
    if not path.is_file():
        raise NotFound(f"{path} is not there, so this is no node that could be backed up.")
    with translated(path):
        connection = connect(path, key)
        try:
            connection.execute("VACUUM INTO ?", (str(target),))
        finally:
            connection.close()


def packs_in(path: Path, key: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the packs that a copy of the index names, by id, with the bytes on record of each."""
    with translated(path):
        connection = connect(path, key)
        try:
            cursor = connection.execute("SELECT pack_id, bytes FROM packs ORDER BY pack_id")
            while rows := cursor.fetchmany(ROWS_AT_A_TIME):
                yield from ((bytes(row["pack_id"]), int(row["bytes"])) for row in rows)
        finally:
            connection.close()


def check(path: Path, key: bytes | None) -> None:
    """Return if the database opens under `key` and is sound; raise Damaged."""
    with translated(path):
        connection = connect(path, key)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise Damaged(
                    f"{path.name} is damaged. Restore the node from the newest sound backup."
                )
        finally:
            connection.close()
