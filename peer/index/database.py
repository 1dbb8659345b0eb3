"""One SQLite database, encrypted or plain, with a thread that writes and a thread that reads.

A hop to the thread costs about 0.4 ms and a statement 15 us, so a whole unit of work is one hop.
In WAL mode the reader never waits for the writer nor the writer for the reader.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final, TypeVar, cast

import aiosqlite
import sqlcipher3

from peer.config import Index
from peer.errors import Conflict, NodeError
from peer.index.faults import translated
from peer.index.migrate import Tx, known, migrate

__all__ = ["INDEX_MIGRATIONS", "PARTNERS_MIGRATIONS", "Database", "Tx"]

T = TypeVar("T")

INDEX_MIGRATIONS: Final = files("peer.index").joinpath("migrations", "index")
PARTNERS_MIGRATIONS: Final = files("peer.index").joinpath("migrations", "partners")

KEY_BYTES: Final = 32

BUSY_TIMEOUT_MS: Final = 10_000
"""Only a checkpoint that waits for our own reader, or a foreign program, ever comes to wait."""

ROWS_AT_A_TIME: Final = 64
"""aiosqlite asks for it; its own cursors are not used here."""


class Database:
    """An open database.  `read` and `write` take a unit of work: a function of a transaction.

    A unit returns plain values, never a cursor or a generator; it neither commits nor rolls back.
    Cancelling the caller does not stop a unit that has been handed over: a write may still be made.
    """

    def __init__(self, path: Path, writer: _Thread, reader: _Thread) -> None:
        self._path = path
        self._writer = writer
        self._reader = reader
        self._changes = 0

    @classmethod
    async def open(
        cls,
        path: Path,
        key: bytes | None,
        migrations: Traversable,
        cache_bytes: int = Index().cache_bytes,
    ) -> Database:
        """Open the database at `path`, made if absent, and bring it to this release's schema.

        `key` is 32 random bytes for an encrypted database, None for a plain one.  Each of the two
        connections keeps `cache_bytes` of pages decrypted in memory.  Raises Damaged for a wrong
        key or a damaged file, NodeError if a newer release has written it.
        """
        if key is not None and len(key) != KEY_BYTES:
            raise ValueError(f"the key of a database is {KEY_BYTES} bytes")
        steps = known(migrations)
        _make_private(path)
        with translated(path):
            writer = await _Thread.start(path, key, cache_bytes)
            try:
                await writer.run(lambda tx: migrate(tx, steps, path.name))
                reader = await _Thread.start(path, key, cache_bytes)
            except BaseException:
                await writer.stop()
                raise
            await reader.run(lambda tx: tx.execute("PRAGMA query_only = ON").fetchall())
        return cls(path, writer, reader)

    @property
    def changes(self) -> int:
        """A number that is another one once a write may have changed what a read finds.

        As long as it stays, a read finds what it found before: nobody else writes this database.
        """
        return self._changes

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` over one consistent snapshot, which holds all writes that returned before."""
        with translated(self._path):
            return await self._reader.run(lambda tx: _transact(tx, "BEGIN DEFERRED", work))

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` and commit it: durable when this returns, undone if anything is raised.

        Writes happen one after the other, in the order of the calls.  Raises Conflict for a broken
        constraint and StorageFull for a full disk.
        """

        def counted(tx: Tx) -> T:
            # In the writer's thread: whoever asked for a write may be gone before it is made.
            self._changes += 1
            try:
                return _transact(tx, "BEGIN IMMEDIATE", work)
            finally:
                self._changes += 1

        with translated(self._path):
            return await self._writer.run(counted)

    async def add_function(
        self, name: str, function: Callable[..., bytes | str | int | None], arguments: int
    ) -> None:
        """Let SQL on this database call `function`, a pure one, by `name`.

        So a secret of one room is at hand in every room's transactions without being passed around.
        """
        for thread in (self._writer, self._reader):
            await thread.run(
                lambda tx: tx.create_function(name, arguments, function, deterministic=True)
            )

    async def checkpoint_truncate(self) -> None:
        """Move the write-ahead log into the database and cut it to nothing, after an erasure.

        The log holds pages as they were before; `secure_delete` clears only the database itself.
        """
        with translated(self._path):
            row = await self._writer.run(
                lambda tx: tx.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            )
        if row[0]:
            raise Conflict(
                f"The log of {self._path.name} is held by a long read and still has what was "
                "erased. Try again; stopping the node clears it too."
            )

    async def close(self) -> None:
        """Finish what was handed over, then close; the write-ahead log is cleared by it."""
        with translated(self._path):
            await self._reader.stop()
            await self._writer.stop()


class _Thread:
    """A raw connection that lives in a thread of aiosqlite's."""

    def __init__(self, connection: aiosqlite.Connection, raw: Tx) -> None:
        self._connection = connection
        self._raw = raw

    @classmethod
    async def start(cls, path: Path, key: bytes | None, cache_bytes: int) -> _Thread:
        opened: list[Tx] = []

        def connector() -> Tx:
            opened.append(_connect(path, encrypted=key is not None))
            return opened[0]

        connection = await aiosqlite.Connection(connector, iter_chunk_size=ROWS_AT_A_TIME)
        thread = cls(connection, opened[0])
        # Not in the connector: aiosqlite does not wait for its thread to end when that one raises.
        try:
            await thread.run(lambda raw: _set_up(raw, path, key, cache_bytes))
        except BaseException:
            await thread.stop()
            raise
        return thread

    async def run(self, unit: Callable[[Tx], T]) -> T:
        # aiosqlite publishes a method for each statement, that is a hop for each statement. Its
        # queue takes any function; this is the only place that uses it.
        answer = await self._connection._execute(unit, self._raw)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return cast("T", answer)

    async def stop(self) -> None:
        await self._connection.close()


def _transact(tx: Tx, begin: str, work: Callable[[Tx], T]) -> T:
    tx.execute(begin)
    try:
        result = work(tx)
        # Raises if the work has ended the transaction, which is not its to end.
        tx.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        if tx.in_transaction:
            tx.execute("ROLLBACK")
        raise
    return result


def _connect(path: Path, *, encrypted: bool) -> Tx:
    """Return a connection in autocommit mode."""
    module = sqlcipher3 if encrypted else sqlite3
    connection = module.connect(path, isolation_level=None)
    connection.row_factory = module.Row
    return cast("Tx", connection)


def connect(path: Path, key: bytes | None) -> Tx:
    """Return a connection of one's own to a database that is there already, unlocked.

    For whoever copies or checks it beside the node.  Raises what SQLite raises.
    """
    connection = _connect(path, encrypted=key is not None)
    if key is not None:
        _unlock(connection, key)
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _set_up(connection: Tx, path: Path, key: bytes | None, cache_bytes: int) -> None:
    """Unlock the database and make the settings of a connection.  Raises what SQLite raises."""
    if key is not None:
        _unlock(connection, key)
    # Reads the first page: a wrong key shows here.
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise NodeError(
            f"{path.name} cannot keep a write-ahead log. Put the data directory on a local file "
            "system: network file systems lack the shared memory it needs."
        )
    for setting in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "synchronous = FULL",  # A commit is on the disk when it returns.
        "secure_delete = ON",  # What is deleted is overwritten with zeros.
        "foreign_keys = ON",
        "temp_store = MEMORY",  # Sorted rows must not spill to a plain file.
        "trusted_schema = OFF",  # A tampered schema must not call functions.
        f"cache_size = -{cache_bytes // 1024}",
    ):
        connection.execute(f"PRAGMA {setting}")


def _unlock(connection: Tx, key: bytes) -> None:
    # SQLCipher would print to standard error what we raise anyway.
    connection.execute("PRAGMA cipher_log_level = NONE")
    # A raw key: it is random already, and stretching it would cost half a second at each start.
    # No parameter may stand in a PRAGMA; hexadecimal digits need no quoting.
    connection.execute(f"PRAGMA key = \"x'{key.hex()}'\"")
    # Wiping and locking every page SQLite frees costs a third of the speed and more memory than
    # may commonly be locked (RLIMIT_MEMLOCK), yet leaves the same data in Python's own objects.
    # The guard against swap is encrypted swap.
    connection.execute("PRAGMA cipher_memory_security = OFF")


def _make_private(path: Path) -> None:
    """Create the file readable by its owner alone; SQLite gives its companions the same mode.

    Only before the first connection: closing a file drops the locks that this process has on it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise NodeError(
            f"{path.name} cannot be opened for writing. Check that its folder exists and that the "
            "node's user owns both."
        ) from error
