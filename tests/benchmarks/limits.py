"""What the machine can do at best: rows into plain SQLite, bytes through a TLS socket."""

from __future__ import annotations

import multiprocessing
import socket
import sqlite3
import time

from peer.config import load
from peer.keys import load as load_keys
from peer.keys.tls import federation_context, partner_context

PIECE = b"\0" * 262_144
ENTRIES_AT_A_TIME = 20_000
TABLES = ("journal_bodies", "journal_entries", "journal_standings", "journal_labels")


def plain_rows_seconds(filled, folder):
    """Return how long one process takes to write the rows of a followed journal, and nothing else.

    The rows come from `filled`, a node's database of partners, in the order in which they came:
    they are taken out of it beforehand, chunk by chunk, and that time does not count.
    """
    path = folder / "plain.db"
    path.unlink(missing_ok=True)
    source = sqlite3.connect(f"file:{filled}?mode=ro", uri=True)
    target = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -16384"):
        target.execute(f"PRAGMA {setting}")
    target.executescript(
        "CREATE TABLE bodies (id INTEGER PRIMARY KEY, salt BLOB, body BLOB);"
        "CREATE TABLE entries (seq INTEGER PRIMARY KEY, entry_id BLOB, commitment BLOB);"
        "CREATE TABLE standings (entry_id BLOB PRIMARY KEY, seq INTEGER) WITHOUT ROWID;"
        "CREATE TABLE labels (label BLOB, seq INTEGER, PRIMARY KEY (label, seq)) WITHOUT ROWID;"
    )
    spent = 0.0
    last = source.execute("SELECT max(seq) FROM journal_entries").fetchone()[0]
    for start in range(1, last + 1, ENTRIES_AT_A_TIME):
        rows = source.execute(
            "SELECT e.seq, e.entry_id, e.commitment, b.salt, b.body FROM journal_entries e"
            " JOIN journal_bodies b ON b.id = e.body WHERE e.seq BETWEEN ? AND ?",
            (start, start + ENTRIES_AT_A_TIME - 1),
        ).fetchall()
        spent += _write(target, rows)
    target.close()
    path.unlink()
    return spent


def _write(target, rows):
    from protocol.digest import labels

    found = sorted((label, row[0]) for row in rows for label in labels(row[4]))
    began = time.monotonic()
    target.execute("BEGIN")
    target.executemany("INSERT INTO bodies VALUES (?, ?, ?)", [(r[0], r[3], r[4]) for r in rows])
    target.executemany("INSERT INTO entries VALUES (?, ?, ?)", [r[:3] for r in rows])
    target.executemany("INSERT INTO standings VALUES (?, ?)", sorted((r[1], r[0]) for r in rows))
    target.executemany("INSERT INTO labels VALUES (?, ?)", found)
    target.execute("COMMIT")
    return time.monotonic() - began


def tls_bytes_per_second(data, size):
    """Return what a TLS 1.3 socket carries over loopback between two processes.

    Both ends show the certificate of the node of `data` and use the contexts of the nodes.
    """
    keys = load_keys(data, load(data))
    listener = socket.create_server(("127.0.0.1", 0))
    other = multiprocessing.get_context("fork").Process(
        target=_send, args=(keys, listener.getsockname()[1], size)
    )
    context = federation_context(keys, [keys.tls_certificate_der])
    other.start()
    plain, _ = listener.accept()
    with context.wrap_socket(plain, server_side=True) as taken:
        began, left = time.monotonic(), size
        room = bytearray(len(PIECE))
        while left > 0:
            count = taken.recv_into(room)
            if not count:
                break
            left -= count
        spent = time.monotonic() - began
    other.join()
    listener.close()
    return size / spent


def _send(keys, port, size):
    context = partner_context(keys, keys.tls_certificate_der)
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port))) as made:
        for _ in range(-(-size // len(PIECE))):
            made.sendall(PIECE)
