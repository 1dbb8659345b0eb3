"""Brings a database to the schema of this release.

A migration is a file `NNNN_name.sql` of plain statements.  All that a database lacks are applied
in order of number, in one transaction: a crash leaves the old schema or the new one.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Final, TypeAlias

from peer.errors import Damaged, NodeError

Tx: TypeAlias = sqlite3.Connection
"""A connection inside a transaction; rows answer to `row["column"]`.

SQLCipher's connection has the same interface without the same class.
"""

_FILE_NAME: Final = re.compile(r"([0-9]{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step from an older schema to a newer one."""

    number: int
    name: str
    script: str


def known(folder: Traversable) -> tuple[Migration, ...]:
    """Return the migrations in `folder`, in order; other files are left alone."""
    found: dict[int, Migration] = {}
    for file in folder.iterdir():
        parts = _FILE_NAME.fullmatch(file.name)
        if parts is None:
            continue
        number = int(parts[1])
        if number in found:
            raise ValueError(f"two migrations have the number {number:04}")
        found[number] = Migration(number, parts[2], file.read_text(encoding="utf-8"))
    return tuple(found[number] for number in sorted(found))


def migrate(connection: Tx, migrations: tuple[Migration, ...], database: str) -> None:
    """Apply what the database (called `database` in errors) lacks of `migrations`.

    Raises NodeError if a newer release has written it, Damaged if its rows contradict each other.
    """
    # Rebuilding a table drops it for a moment, which would cascade; the check below makes good.
    # The switch has no effect inside a transaction, hence out here.
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("BEGIN IMMEDIATE")
    try:
        _apply(connection, migrations, database)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("PRAGMA foreign_keys = ON")


def _apply(tx: Tx, migrations: tuple[Migration, ...], database: str) -> None:
    tx.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT)")
    applied = {int(row[0]) for row in tx.execute("SELECT number FROM migrations")}
    unknown = applied - {migration.number for migration in migrations}
    if unknown:
        raise NodeError(
            f"{database} was written by a newer release (schema {max(unknown):04}; this one knows "
            f"up to {max((m.number for m in migrations), default=0):04}). "
            "Install that release or a later one, or restore a backup made by this one."
        )
    lacking = [migration for migration in migrations if migration.number not in applied]
    for migration in lacking:
        for statement in statements(migration.script):
            tx.execute(statement)
        tx.execute("INSERT INTO migrations VALUES (?, ?)", (migration.number, migration.name))
    if lacking and tx.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise Damaged(
            f"{database} has rows that refer to rows which are gone, so it was left as it was. "
            "Restore it from a backup."
        )


def statements(script: str) -> Iterator[str]:
    """Split an SQL script into statements.

    `executescript` is of no use here: it commits the transaction that is under way.
    """
    statement = ""
    for part in re.split(r"(?<=;)", script):
        statement += part
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if any(line.strip() and not line.lstrip().startswith("--") for line in statement.splitlines()):
        raise ValueError("a migration ends in the middle of a statement")
