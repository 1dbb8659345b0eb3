"""One database: transactions, keys, errors, migrations."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
import time

import pytest
import sqlcipher3

from peer.errors import Conflict, Damaged, NodeError, StorageFull
from peer.index import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database, meta
from peer.index.migrate import known, statements

KEY = bytes(range(32))
SQL_FAULTS = (sqlite3.OperationalError, sqlcipher3.OperationalError)
NOTE = "Tomographie Müller"

FIRST = """
-- a comment; with a semicolon
CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TRIGGER notes_stay BEFORE UPDATE ON notes
BEGIN
    SELECT RAISE(ABORT, 'notes stay');
END;
"""
SECOND = """
CREATE TABLE rebuilt (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, stars INTEGER DEFAULT 3);
INSERT INTO rebuilt (id, text) SELECT id, text FROM notes;
DROP TABLE notes;
ALTER TABLE rebuilt RENAME TO notes;
CREATE TABLE links (note INTEGER NOT NULL REFERENCES notes (id));
"""


@pytest.fixture
def migrations(tmp_path):
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_notes.sql").write_text(FIRST)
    return folder


@pytest.fixture(params=[KEY, None], ids=["encrypted", "plain"])
async def database(request, tmp_path, migrations):
    (migrations / "0002_links.sql").write_text(SECOND)
    opened = await Database.open(tmp_path / "test.db", request.param, migrations)
    yield opened
    await opened.close()


def add(text):
    return lambda tx: tx.execute("INSERT INTO notes (text) VALUES (?)", (text,)).lastrowid


def texts(tx):
    return [row["text"] for row in tx.execute("SELECT text FROM notes ORDER BY id")]


async def test_a_write_is_seen_by_the_next_read_and_rows_answer_by_name(database):
    assert await database.write(add("a")) == 1
    assert await database.read(texts) == ["a"]
    stars = await database.read(
        lambda tx: tx.execute("SELECT stars FROM notes").fetchone()["stars"]
    )
    assert stars == 3


async def test_an_exception_undoes_the_whole_unit_and_passes_unchanged(database):
    def unit(tx):
        add("a")(tx)
        raise LookupError("changed my mind")

    with pytest.raises(LookupError, match="changed my mind"):
        await database.write(unit)
    assert await database.read(texts) == []
    await database.write(add("b"))
    assert await database.read(texts) == ["b"]


async def test_a_broken_constraint_is_a_conflict_that_names_columns_and_no_values(database):
    await database.write(add(NOTE))
    with pytest.raises(Conflict, match=r"notes\.text") as caught:
        await database.write(add(NOTE))
    assert NOTE not in str(caught.value)
    with pytest.raises(Conflict, match="FOREIGN KEY"):
        await database.write(lambda tx: tx.execute("INSERT INTO links VALUES (77)"))


async def test_a_reader_cannot_write(database):
    with pytest.raises(NodeError, match="cannot be opened for writing"):
        await database.read(add("a"))
    assert await database.read(texts) == []


async def test_a_unit_of_work_cannot_commit_by_itself(database):
    with pytest.raises(SQL_FAULTS, match="no transaction is active"):
        await database.write(lambda tx: tx.commit())
    await database.write(add("a"))


async def test_a_fault_in_our_sql_passes_unchanged(database):
    with pytest.raises(SQL_FAULTS, match="no such table"):
        await database.read(lambda tx: tx.execute("SELECT * FROM absent"))


async def test_reads_go_on_while_a_write_is_under_way(database):
    release = threading.Event()

    def slow(tx):
        add("slow")(tx)
        assert release.wait(60)

    writing = asyncio.create_task(database.write(slow))
    try:
        assert await asyncio.wait_for(database.read(texts), 30) == [], "a half-done write was read"
    finally:
        release.set()
    await writing
    assert await database.read(texts) == ["slow"]


async def test_concurrent_writes_are_made_one_after_the_other(database):
    def increment(tx):
        count = tx.execute("SELECT count(*) FROM notes").fetchone()[0]
        time.sleep(0.001)
        add(str(count))(tx)

    await asyncio.gather(*(database.write(increment) for _ in range(20)))
    assert await database.read(texts) == [str(number) for number in range(20)]


async def test_a_full_disk_is_said_and_nothing_is_kept(database):
    await database.write(add("before"))
    pages = await database.read(lambda tx: tx.execute("PRAGMA page_count").fetchone()[0])
    # The limit is a property of the connection: it stands in for the end of the disk.
    await database._writer.run(lambda tx: tx.execute(f"PRAGMA max_page_count = {pages}").fetchall())

    def unit(tx):
        for number in range(100):
            add(str(number) * 1000)(tx)

    with pytest.raises(StorageFull, match=r"No room .* test\.db"):
        await database.write(unit)
    assert await database.read(texts) == ["before"]
    await database.write(lambda tx: tx.execute("DELETE FROM notes"))


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
async def test_durability_and_erasure_settings_hold(tmp_path, migrations, key):
    opened = await Database.open(tmp_path / "test.db", key, migrations)
    try:
        for thread in (opened._writer, opened._reader):
            for pragma, value in {
                "journal_mode": "wal",
                "synchronous": 2,
                "secure_delete": 1,
                "foreign_keys": 1,
                "temp_store": 2,
            }.items():
                row = await thread.run(lambda tx, p=pragma: tx.execute(f"PRAGMA {p}").fetchone())
                assert row[0] == value, pragma
    finally:
        await opened.close()


async def test_the_encrypted_files_show_no_text_and_the_plain_ones_do(tmp_path, migrations):
    for name, key in (("sealed", KEY), ("plain", None)):
        opened = await Database.open(tmp_path / f"{name}.db", key, migrations)
        await opened.write(add(NOTE))
        files = sorted(tmp_path.glob(f"{name}.db*"))
        found = any(NOTE.encode() in file.read_bytes() for file in files)
        modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
        await opened.close()
        assert len(files) == 3, "database, log and shared memory"
        assert found == (key is None), name
        assert modes == {0o600}


async def test_what_is_erased_is_gone_from_the_raw_bytes(tmp_path, migrations):
    opened = await Database.open(tmp_path / "plain.db", None, migrations)
    secret = "erase me " * 2000  # several pages long
    await opened.write(add(secret))
    await opened.write(add("kept " * 2000))
    await opened.write(lambda tx: tx.execute("DELETE FROM notes WHERE id = 1"))
    await opened.checkpoint_truncate()
    raw = b"".join(file.read_bytes() for file in tmp_path.glob("plain.db*"))
    await opened.close()
    assert b"kept" in raw
    assert b"erase me" not in raw


async def test_an_erasure_that_a_reader_holds_up_is_not_called_done(
    tmp_path, migrations, monkeypatch
):
    monkeypatch.setattr("peer.index.database.BUSY_TIMEOUT_MS", 20)
    opened = await Database.open(tmp_path / "plain.db", None, migrations)
    started, release = threading.Event(), threading.Event()

    def long_read(tx):
        texts(tx)
        started.set()
        assert release.wait(60)

    await opened.write(add("a"))
    reading = asyncio.create_task(opened.read(long_read))
    await asyncio.to_thread(started.wait, 60)
    try:
        await opened.write(add("b"))
        with pytest.raises(Conflict, match="held by a long read"):
            await opened.checkpoint_truncate()
    finally:
        release.set()
    await reading
    await opened.checkpoint_truncate()
    await opened.close()


@pytest.mark.parametrize(
    ("written", "asked"), [(KEY, bytes(32)), (KEY, None), (None, KEY)], ids=repr
)
async def test_a_wrong_key_is_named(tmp_path, migrations, capfd, written, asked):
    path = tmp_path / "index.db"
    await (await Database.open(path, written, migrations)).close()
    before = path.read_bytes()
    with pytest.raises(Damaged, match=r"index\.db cannot be read: wrong key or damaged file"):
        await Database.open(path, asked, migrations)
    assert path.read_bytes() == before
    assert capfd.readouterr().err == "", "SQLCipher chatters on standard error"


async def test_a_flipped_byte_is_damage(tmp_path, migrations):
    path = tmp_path / "index.db"
    opened = await Database.open(path, KEY, migrations)
    await opened.write(lambda tx: [add(f"{n}" * 500)(tx) for n in range(50)])
    await opened.close()
    raw = bytearray(path.read_bytes())
    assert len(raw) > 4 * 4096
    for page in range(2 * 4096, len(raw), 4096):
        raw[page + 100] ^= 1
    path.write_bytes(raw)
    opened = await Database.open(path, KEY, migrations)
    with pytest.raises(Damaged):
        await opened.read(lambda tx: [tuple(row) for row in tx.execute("SELECT * FROM notes")])
    await opened.close()


async def test_a_missing_folder_is_named_without_its_path(tmp_path, migrations):
    with pytest.raises(NodeError, match=r"^index\.db cannot be opened for writing"):
        await Database.open(tmp_path / "absent" / "index.db", KEY, migrations)


async def test_a_key_of_the_wrong_length_is_our_own_mistake(tmp_path, migrations):
    with pytest.raises(ValueError, match="32 bytes"):
        await Database.open(tmp_path / "index.db", b"short", migrations)


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
async def test_an_older_schema_is_upgraded_with_its_rows(tmp_path, migrations, key):
    path = tmp_path / "test.db"
    old = await Database.open(path, key, migrations)
    await old.write(add("from before"))
    await old.close()
    (migrations / "0002_links.sql").write_text(SECOND)
    for _ in range(2):
        new = await Database.open(path, key, migrations)
        row = await new.read(lambda tx: tuple(tx.execute("SELECT * FROM notes").fetchone()))
        await new.close()
        assert row == (1, "from before", 3)


async def test_a_failing_upgrade_leaves_the_old_schema(tmp_path, migrations):
    path = tmp_path / "test.db"
    await (await Database.open(path, KEY, migrations)).close()
    broken = migrations / "0002_broken.sql"
    broken.write_text("CREATE TABLE half (id INTEGER); INSERT INTO absent VALUES (1);")
    with pytest.raises(sqlcipher3.OperationalError):
        await Database.open(path, KEY, migrations)
    broken.write_text("DROP TABLE notes; CREATE TABLE half (id INTEGER);")
    opened = await Database.open(path, KEY, migrations)
    await opened.read(lambda tx: tx.execute("SELECT id FROM half").fetchall())
    await opened.close()


async def test_an_upgrade_that_would_orphan_rows_is_undone(tmp_path, migrations):
    path = tmp_path / "test.db"
    (migrations / "0002_links.sql").write_text(SECOND)
    opened = await Database.open(path, KEY, migrations)
    await opened.write(lambda tx: [add("a")(tx), tx.execute("INSERT INTO links VALUES (1)")][0])
    await opened.close()
    (migrations / "0003_orphans.sql").write_text("DELETE FROM notes;")
    with pytest.raises(Damaged, match="left as it was"):
        await Database.open(path, KEY, migrations)
    (migrations / "0003_orphans.sql").unlink()
    opened = await Database.open(path, KEY, migrations)
    assert await opened.read(texts) == ["a"]
    await opened.close()


async def test_a_newer_database_is_refused_with_both_versions(tmp_path, migrations):
    path = tmp_path / "test.db"
    (migrations / "0007_future.sql").write_text("CREATE TABLE future (id INTEGER);")
    await (await Database.open(path, KEY, migrations)).close()
    (migrations / "0007_future.sql").unlink()
    with pytest.raises(NodeError, match=r"newer release \(schema 0007; .* 0001\)"):
        await Database.open(path, KEY, migrations)


def test_two_migrations_with_one_number_are_a_mistake(migrations):
    (migrations / "0001_again.sql").write_text("SELECT 1;")
    with pytest.raises(ValueError, match="0001"):
        known(migrations)


def test_a_migration_is_split_into_its_statements():
    assert len(list(statements(FIRST))) == 2
    with pytest.raises(ValueError, match="middle of a statement"):
        list(statements("CREATE TABLE a (b);\nCREATE TABLE c"))


async def test_the_shipped_migrations_apply_and_single_values_are_kept(tmp_path):
    opened = await Database.open(tmp_path / "index.db", KEY, INDEX_MIGRATIONS)
    await opened.write(lambda tx: meta.put(tx, "a", b"1"))
    await opened.write(lambda tx: meta.put(tx, "a", b"2"))
    assert await opened.read(lambda tx: meta.get(tx, "a")) == b"2"
    await opened.write(lambda tx: meta.delete(tx, "a"))
    assert await opened.read(lambda tx: meta.get(tx, "a")) is None
    await opened.close()
    await (await Database.open(tmp_path / "p.db", None, PARTNERS_MIGRATIONS)).close()


async def test_the_number_of_changes_is_another_after_a_write_whoever_asked_for_it(database):
    before = database.changes
    await database.read(lambda tx: None)
    assert database.changes == before
    begun, go_on = threading.Event(), threading.Event()

    def slow(tx):
        begun.set()
        go_on.wait(30)

    asked = asyncio.create_task(database.write(slow))
    await asyncio.to_thread(begun.wait, 30)
    during = database.changes
    assert during != before
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    go_on.set()
    await database.write(lambda tx: None)  # Behind the other one.
    assert database.changes not in {before, during}
