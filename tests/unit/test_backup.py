"""A backup holds what the node held at one moment, or says what of that it does not hold."""

from __future__ import annotations

import asyncio
import errno
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from peer import backup
from peer.backup import BackupDirectory, WrongPassphrase, making, passphrase
from peer.errors import AlreadyRunning, ConfigError, Conflict, Damaged, NotFound, StorageFull
from peer.index import instances, packs
from peer.index.fence import Fence
from peer.keys import read_root_key
from tests.backups import PASSPHRASE, new_node, opened
from tests.dicom_samples import instance
from tests.intake import NOW

STUDY = "1.2.826.0.1.3680043.8.498.31"
OTHER = "1.2.826.0.1.3680043.8.498.32"


@pytest.fixture(autouse=True)
def quick_stretching(monkeypatch):
    """Derive keys with the least effort that argon2id allows."""
    monkeypatch.setattr(passphrase, "_OPERATIONS", 1)
    monkeypatch.setattr(passphrase, "_MEMORY_BYTES", 8192)


def original(number, study=STUDY):
    return instance(number, study=study, pixels=bytes([number]) * 300_000)


def uid(number, study=STUDY):
    return f"{study}.1.{number}"


@pytest.fixture
async def node(tmp_path):
    """A node that holds two instances of one study, and runs."""
    data = new_node(tmp_path / "hospital")
    async with opened(data) as node:
        backup.set_passphrase(data, PASSPHRASE, replace=False)
        for number in (1, 2):
            await node.take(original(number))
        yield node


@pytest.fixture
def target(tmp_path):
    return BackupDirectory(tmp_path / "backups")


names = iter(range(10_000))


async def back_up(node, target, progress=lambda _: None):
    """Make a set; names rise with each call."""
    name = f"20260101T000000Z-{next(names):04x}"
    return await asyncio.to_thread(backup.make, node.data, target, name, NOW, progress)


def restored(target, data, name=None, said=PASSPHRASE, **more):
    return backup.restore(target, name, said, data, lambda _: None, **more)


def verified(target, name=None, said=None):
    return backup.verify(target, name, said, lambda _: None)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")


@asynccontextmanager
async def damaged(path, at=0.5):
    """Flip one bit of a file for as long as the context lasts."""
    whole = path.read_bytes()
    content = bytearray(whole)
    content[int(len(content) * at)] ^= 1
    path.write_bytes(content)
    yield
    path.write_bytes(whole)


# -- what is in a backup ----------------------------------------------------------------------


async def test_what_was_held_comes_back_byte_for_byte(node, target, tmp_path):
    made = await back_up(node, target)
    assert (made.packs, made.missing) == (1, ())
    await node.take(original(3))
    found = restored(target, tmp_path / "new")
    assert (found.missing_packs, found.settings) == ((), ())
    async with opened(tmp_path / "new") as again:
        assert again.keys.peer_id == node.keys.peer_id
        assert again.keys.node_seed == node.keys.node_seed, "it goes on with its keys"
        for number in (1, 2):
            assert await again.read(uid(number)) == original(number)
        missing = await again.db.read(lambda tx: instances.locate(tx, uid(3)))
        assert missing is None, "taken in after the backup"


async def test_a_restored_node_knows_that_it_is_old(node, target, tmp_path):
    await back_up(node, target)
    restored(target, tmp_path / "new")
    assert Fence(tmp_path / "new", node.keys.peer_id).is_in_doubt


async def test_the_root_key_is_not_in_it_and_not_needed(node, target, tmp_path):
    root = tmp_path / "hospital" / "root.key"
    seed = read_root_key(root)
    root.unlink()
    await back_up(node, target)
    restored(target, tmp_path / "new")
    for path in (*files(target.root), *files(tmp_path / "new")):
        content = path.read_bytes()
        assert seed not in content
        assert seed.hex().encode() not in content, path


async def test_a_restored_node_is_backed_up_further_under_its_passphrase(node, target, tmp_path):
    await back_up(node, target)
    restored(target, tmp_path / "new")
    async with opened(tmp_path / "new") as again:
        await again.take(original(4, OTHER))
        made = await back_up(again, target)
    assert (made.packs, made.added_packs) == (2, 1)
    assert verified(target, made.name, PASSPHRASE).opened


async def test_a_master_key_from_elsewhere_is_in_it(node, target, tmp_path):
    elsewhere = tmp_path / "master.key"
    (node.data / "keys" / "master.key").rename(elsewhere)
    settings = node.data / "openpriors.toml"
    named = f'[keys]\nmaster_key_file = "{elsewhere}"\n'
    settings.write_text(settings.read_text().replace("[keys]\n", named))
    await back_up(node, target)
    key = elsewhere.read_bytes()
    elsewhere.unlink()
    found = restored(target, tmp_path / "new")
    assert any("master_key_file" in sentence for sentence in found.settings)
    assert (tmp_path / "new" / "keys" / "master.key").read_bytes() == key


# -- again and again --------------------------------------------------------------------------


async def test_a_pack_is_written_once(node, target):
    await back_up(node, target)
    before = {path: path.stat().st_mtime_ns for path in files(target.packs_folder)}
    await node.take(original(1, OTHER))
    made = await back_up(node, target)
    assert (made.packs, made.added_packs) == (2, 1)
    after = {path: path.stat().st_mtime_ns for path in files(target.packs_folder)}
    assert before.items() < after.items()
    assert (await back_up(node, target)).added_packs == 0


async def test_each_set_is_the_node_of_its_moment(node, target, tmp_path):
    first = await back_up(node, target)
    await node.take(original(3))
    await back_up(node, target)
    restored(target, tmp_path / "newest")
    restored(target, tmp_path / "first", first.name)
    async with opened(tmp_path / "newest") as again:
        assert await again.read(uid(3)) == original(3)
    async with opened(tmp_path / "first") as again:
        assert await again.read(uid(2)) == original(2)
        assert await again.db.read(lambda tx: instances.locate(tx, uid(3))) is None


async def test_prune_keeps_what_the_newest_sets_need(node, target, tmp_path):
    await back_up(node, target)
    await node.ingest.remove_study(STUDY, lambda _: None)
    await node.take(original(1, OTHER))
    await back_up(node, target)
    last = await back_up(node, target)
    pruned = backup.prune(target, 1)
    assert (len(pruned.sets), pruned.packs) == (2, 1)
    assert target.names() == [last.name]
    restored(target, tmp_path / "new")
    async with opened(tmp_path / "new") as again:
        assert await again.read(uid(1, OTHER)) == original(1, OTHER)


async def test_prune_removes_nothing_if_a_set_to_keep_is_damaged(node, target):
    await back_up(node, target)
    kept = await back_up(node, target)
    before = files(target.root)
    async with damaged(target.sets_folder / kept.name / "packs"):
        with pytest.raises(Damaged):
            backup.prune(target, 1)
    assert files(target.root) == before


async def test_two_facilities_do_not_share_a_backup_directory(node, target, tmp_path):
    await back_up(node, target)
    data = new_node(tmp_path / "other")
    backup.set_passphrase(data, PASSPHRASE, replace=False)
    async with opened(data) as other:
        with pytest.raises(Conflict, match="another facility"):
            await back_up(other, target)


async def test_one_backup_at_a_time(node, target):
    await back_up(node, target)
    with target.locked(), pytest.raises(AlreadyRunning):
        await back_up(node, target)


async def test_a_folder_with_other_things_is_left_alone(node, target):
    target.root.mkdir()
    (target.root / "thesis.doc").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        await back_up(node, target)


# -- while the node works ---------------------------------------------------------------------


async def test_a_study_that_is_purged_meanwhile_is_in_no_part_of_it(
    node, target, tmp_path, monkeypatch
):
    await node.take(original(1, OTHER))
    loop, looks = asyncio.get_running_loop(), []
    taken = making.snapshot

    def snapshot(path, key, copy):
        taken(path, key, copy)
        if path.name == "index.db":
            looks.append(path)
        if len(looks) == 1:
            gone = node.ingest.remove_study(OTHER, lambda _: None)
            asyncio.run_coroutine_threadsafe(gone, loop).result()

    monkeypatch.setattr(making, "snapshot", snapshot)
    made = await back_up(node, target)
    assert len(looks) == 2, "it looked again"
    assert (made.packs, made.missing) == (1, ())
    restored(target, tmp_path / "new")
    async with opened(tmp_path / "new") as again:
        assert await again.db.read(lambda tx: packs.of_study(tx, OTHER)) == []


async def test_a_pack_that_the_disk_has_lost_is_named_and_the_rest_restored(node, target, tmp_path):
    await node.take(original(1, OTHER))
    lost = (await node.db.read(lambda tx: packs.of_study(tx, STUDY)))[0].pack_id
    (node.data / "store" / "packs" / lost.hex()).unlink()
    made = await back_up(node, target)
    assert (made.packs, made.missing) == (1, (lost.hex(),))
    assert restored(target, tmp_path / "new").missing_packs == (lost.hex(),)
    async with opened(tmp_path / "new") as again:
        assert await again.read(uid(1, OTHER)) == original(1, OTHER)
        recovered = await again.ingest.recover()
        assert len(recovered.damaged) == 1, "the node says at each start what it lacks"


# -- interruptions ----------------------------------------------------------------------------


async def test_an_interrupted_backup_leaves_the_older_set_and_the_next_one_goes_on(node, target):
    first = await back_up(node, target)
    await node.take(original(1, OTHER))

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await back_up(node, target, interrupt)
    assert target.names() == [first.name]
    assert not list(target.root.rglob("*.part"))
    assert not list((node.data / "run").glob("backup-*"))
    assert verified(target).damaged == ()
    assert (await back_up(node, target)).packs == 2


KILLS_ITSELF = """
import os, signal, sys
from pathlib import Path
from peer import backup
from peer.backup import passphrase
passphrase._OPERATIONS, passphrase._MEMORY_BYTES = 1, 8192
synced = os.fsync

def die_at(step):
    left = step
    def fsync(handle):
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        synced(handle)
    return fsync

for line in sys.stdin:
    what, folder, data, step, said = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        os.fsync = die_at(int(step))
        target = backup.BackupDirectory(Path(folder))
        if what == "make":
            backup.make(Path(data), target, "20990101T000000Z-0000", 0, lambda _: None)
        else:
            backup.restore(target, None, said, Path(data), lambda _: None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
"""Runs a backup or a restore for each line, in a process that dies before a certain sync."""

SYNCS = 60
"""More than a backup or a restore of so small a node makes; the last steps run to their end."""


@pytest.fixture
def killed_at():
    """Return a function that runs until before a sync, and says whether it came to its end."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLS_ITSELF],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as runner:

        def run(step, what, target, data):
            line = "\t".join((what, str(target.root), str(data), str(step), PASSPHRASE))
            runner.stdin.write(line + "\n")
            runner.stdin.flush()
            status = int(runner.stdout.readline())
            assert status in {0, -signal.SIGKILL}
            return status == 0

        yield run


async def test_a_backup_killed_at_any_sync_leaves_the_older_set_usable(
    node, target, tmp_path, killed_at
):
    first = await back_up(node, target)
    await node.take(original(1, OTHER))
    for step in range(SYNCS):
        fresh = BackupDirectory(tmp_path / f"copy-{step}")
        shutil.copytree(target.root, fresh.root)
        finished = killed_at(step, "make", fresh, node.data)
        assert fresh.names()[0] == first.name
        assert all(verified(fresh, name, PASSPHRASE).opened for name in fresh.names())
        assert (await back_up(node, fresh)).packs == 2
        assert all(verified(fresh, name).damaged == () for name in fresh.names())
        shutil.rmtree(fresh.root)
        if finished:
            break
    assert step > 8, "it was killed at several steps"
    assert finished, "it never came to its end"


async def test_a_restore_killed_at_any_sync_makes_no_node_or_a_whole_one(
    node, target, tmp_path, killed_at
):
    await back_up(node, target)
    data = tmp_path / "new"
    for step in range(SYNCS):
        finished = killed_at(step, "restore", target, data)
        if (data / "index.db").exists():
            assert Fence(data, node.keys.peer_id).is_in_doubt
            async with opened(data) as again:
                assert await again.read(uid(2)) == original(2)
            shutil.rmtree(data)
        elif (data / "restore-unfinished").exists():
            restored(target, data)
            shutil.rmtree(data)
        else:
            shutil.rmtree(data, ignore_errors=True)
        if finished:
            break
    assert step > 8, "it was killed at several steps"
    assert finished, "it never came to its end"


async def test_a_full_disk_leaves_the_older_set(node, target, monkeypatch):
    first = await back_up(node, target)
    await node.take(original(1, OTHER))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(making, "seal", full)
    with pytest.raises(StorageFull, match="No room"):
        await back_up(node, target)
    assert target.names() == [first.name]
    assert verified(target).damaged == ()


# -- damage -----------------------------------------------------------------------------------


async def test_a_damaged_byte_anywhere_is_found_and_named(node, target, tmp_path):
    await back_up(node, target)
    looked = files(target.root)
    assert len(looked) == 9, "six sealed files, the list, the manifest and a pack"
    for path in looked:
        for at in (0, 0.5, 0.99):
            async with damaged(path, at):
                try:
                    found = verified(target).damaged
                except Damaged:
                    assert path.name in {"manifest", "packs"}
                else:
                    assert found == (str(path.relative_to(target.root)),)
                with pytest.raises(Damaged):
                    restored(target, tmp_path / "new")
                assert not list((tmp_path / "new").glob("*")), "nothing is left of it"
    assert verified(target, said=PASSPHRASE).opened


async def test_a_pack_that_is_damaged_can_be_left_out(node, target, tmp_path):
    await node.take(original(1, OTHER))
    await back_up(node, target)
    lost = (await node.db.read(lambda tx: packs.of_study(tx, STUDY)))[0].pack_id
    (path,) = target.packs_folder.glob(f"*/{lost.hex()}.*")
    path.unlink()
    with pytest.raises(Damaged, match="--without-damaged"):
        restored(target, tmp_path / "new")
    found = restored(target, tmp_path / "new", without_damaged=True)
    assert found.missing_packs == (lost.hex(),)
    async with opened(tmp_path / "new") as again:
        assert await again.read(uid(1, OTHER)) == original(1, OTHER)


async def test_parts_of_two_sets_make_no_third(node, target, tmp_path):
    first = await back_up(node, target)
    await node.take(original(1, OTHER))
    second = await back_up(node, target)
    older, newer = target.sets_folder / first.name, target.sets_folder / second.name
    for name in ("index.db.sealed", "packs"):
        whole = (newer / name).read_bytes()
        shutil.copy(older / name, newer / name)
        with pytest.raises(Damaged):
            restored(target, tmp_path / "new")
        (newer / name).write_bytes(whole)


async def test_a_damaged_index_is_not_backed_up_as_if_it_were_sound(node, target, monkeypatch):
    first = await back_up(node, target)
    taken = making.snapshot

    def snapshot(path, key, copy):
        taken(path, key, copy)
        content = bytearray(copy.read_bytes())
        content[len(content) // 2] ^= 1
        copy.write_bytes(content)

    monkeypatch.setattr(making, "snapshot", snapshot)
    with pytest.raises(Damaged):
        await back_up(node, target)
    assert target.names() == [first.name]


# -- where to, and who may --------------------------------------------------------------------


async def test_a_restore_overwrites_nothing(node, target, tmp_path):
    await back_up(node, target)
    before = {path: path.read_bytes() for path in files(node.data)}
    with pytest.raises(Conflict, match="not empty"):
        restored(target, node.data)
    assert {path: path.read_bytes() for path in files(node.data)} == before
    (tmp_path / "disk" / "lost+found").mkdir(parents=True)
    restored(target, tmp_path / "disk")
    assert (tmp_path / "disk" / "index.db").is_file()


async def test_a_wrong_passphrase_is_named_and_writes_nothing(node, target, tmp_path):
    await back_up(node, target)
    with pytest.raises(WrongPassphrase, match="not the passphrase"):
        restored(target, tmp_path / "new", said="incorrect horse battery staple")
    assert not (tmp_path / "new").exists()
    with pytest.raises(WrongPassphrase):
        verified(target, said="incorrect horse battery staple")


async def test_how_a_passphrase_was_typed_does_not_matter(node, target, tmp_path):
    await back_up(node, target)
    restored(target, tmp_path / "new", said=" correct  horse\nbattery staple\n")


async def test_another_passphrase_is_for_the_coming_sets(node, target):
    first = await back_up(node, target)
    with pytest.raises(Conflict, match="--replace"):
        backup.set_passphrase(node.data, "an entirely other one", replace=False)
    backup.set_passphrase(node.data, "an entirely other one", replace=True)
    second = await back_up(node, target)
    assert verified(target, first.name, PASSPHRASE).opened
    assert verified(target, second.name, "an entirely other one").opened
    with pytest.raises(WrongPassphrase):
        verified(target, second.name, PASSPHRASE)


def test_a_short_passphrase_is_refused_and_a_made_one_is_long(tmp_path):
    data = new_node(tmp_path)
    with pytest.raises(ConfigError, match="15 characters"):
        backup.set_passphrase(data, "short", replace=False)
    made = {backup.generate() for _ in range(20)}
    assert len(made) == 20
    assert all(len(each.split()) == 10 for each in made)


async def test_without_a_passphrase_nothing_is_backed_up(tmp_path, target):
    data = new_node(tmp_path / "hospital")
    async with opened(data) as node:
        with pytest.raises(NotFound, match="openpriors backup passphrase"):
            await back_up(node, target)
    assert not target.root.exists() or target.names() == []
