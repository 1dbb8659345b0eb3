"""A disk that can be full."""

from __future__ import annotations

import sqlite3


class DiskFull(Exception):
    """SQLite got no further page, and the transaction was undone."""


class Transaction:
    """BEGIN, and COMMIT or ROLLBACK; a full disk is DiskFull."""

    def __init__(self, tx):
        self.tx = tx

    def __enter__(self):
        self.tx.execute("BEGIN")

    def __exit__(self, kind, error, _traceback):
        if error is None:
            self.tx.execute("COMMIT")
            return
        if self.tx.in_transaction:
            self.tx.execute("ROLLBACK")
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:
            raise DiskFull from error
