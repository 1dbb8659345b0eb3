"""Makes a set of a node, while it runs."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from blake3 import blake3

from peer import config
from peer.backup.manifest import (
    BACKUP_KEY,
    INDEX,
    MANIFEST,
    MASTER_KEY,
    NODE_KEYS,
    NOT_THERE,
    PACKS,
    PARTNERS,
    SETTINGS,
    Manifest,
    Member,
    Pack,
    read_manifest,
    record_of,
    sign_manifest,
)
from peer.backup.passphrase import KEY_BYTES, load_key
from peer.backup.places import (
    PACK_NAME,
    PIECE_BYTES,
    UNFINISHED,
    BackupDirectory,
    Progress,
    created,
    disk_errors,
)
from peer.backup.sealed import key_of, seal
from peer.config import Settings
from peer.directory import RUN
from peer.errors import Conflict, Damaged, NotFound, StorageFull
from peer.index.snapshot import check, packs_in, snapshot
from peer.keys import NodeKeys
from peer.keys import load as load_keys
from peer.keys.files import read_master_key
from peer.store import Store
from peer.store.packs import sync_directory

LOOKS: Final = 5
"""How often the index is copied again because a study was purged in the meantime."""

SCRATCH: Final = "backup-"


@dataclass(frozen=True, slots=True)
class Made:
    """A set that is complete and durable.  `added_bytes`: what the directory has grown by."""

    name: str
    made_at: int
    packs: int
    pack_bytes: int
    added_packs: int
    added_bytes: int
    missing: tuple[str, ...]


def new_name(now: int) -> str:
    """Return the name of a set that is begun at `now`."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{secrets.token_hex(2)}"


def expected_bytes(data: Path) -> int:
    """Return about how much there is to look at; raise NotFound for a node that never ran."""
    for each in (INDEX, PARTNERS):
        if not (data / each).is_file():
            raise NotFound(
                f"{data / each} is not there. Name the node's data directory with --data DIR; a "
                "node that has never run has nothing to back up."
            )
    with disk_errors(data):
        store = sum(Store(data / "store").sizes().values())
        return store + sum((data / each).stat().st_size for each in (INDEX, PARTNERS))


def make(data: Path, target: BackupDirectory, name: str, now: int, progress: Progress) -> Made:
    """Write the set `name` of the node in `data`; return once all of it is durable.

    The node may run.  What is interrupted leaves older sets as they are, and the packs copied so
    far for the next one.  Raise NodeError with cause and remedy.
    """
    expected_bytes(data)
    settings = config.load(data)
    keys = load_keys(data, settings)
    load_key(data)
    target.prepare()
    with target.locked(), _scratch(data) as scratch:
        target.sweep()
        _check_owner(target, keys)
        writing = _Writing(data, settings, keys, target, progress)
        return writing.run(name, now, scratch)


class _Packs(NamedTuple):
    """The packs of a set: how many, their bytes, the list of them, and the ids it lacks."""

    number: int
    size: int
    listing: Member
    missing: tuple[str, ...]


class _Writing:
    """One run."""

    def __init__(
        self,
        data: Path,
        settings: Settings,
        keys: NodeKeys,
        target: BackupDirectory,
        progress: Progress,
    ) -> None:
        self._data = data
        self._settings = settings
        self._keys = keys
        self._target = target
        self._progress = progress
        self._backup_key = load_key(data)
        self._set_key = secrets.token_bytes(KEY_BYTES)
        self._store = Store(data / "store")
        self._files: dict[str, Member] = {}
        self._added_packs = 0
        self._added_bytes = 0

    def run(self, name: str, now: int, scratch: Path) -> Made:
        draft = self._target.sets_folder / (name + UNFINISHED)
        try:
            with disk_errors(self._target.root):
                draft.mkdir(mode=0o700)
            manifest, missing = self._write(draft, now, scratch)
            with disk_errors(self._target.root):
                self._finish(draft, name, manifest)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return Made(
            name=name,
            made_at=now,
            packs=manifest.packs,
            pack_bytes=manifest.pack_bytes,
            added_packs=self._added_packs,
            added_bytes=self._added_bytes + sum(each.stored for each in manifest.files.values()),
            missing=missing,
        )

    def _write(self, draft: Path, now: int, scratch: Path) -> tuple[Manifest, tuple[str, ...]]:
        # The partners' batches first: older than the index they are only asked for again.
        copy = scratch / PARTNERS
        self._copy_database(PARTNERS, None, copy)
        self._seal_file(draft, PARTNERS, copy)
        copy.unlink()
        index = scratch / INDEX
        packs = self._copy_packs(draft, index)
        self._seal_file(draft, INDEX, index)
        # After the index: keys that are newer than it are put on record at the start.
        master = self._settings.keys.master_key_file
        self._seal(draft, NODE_KEYS, (self._data / "keys" / "node.sealed").read_bytes())
        master_file = Path(master) if master else self._data / "keys" / MASTER_KEY
        self._seal(draft, MASTER_KEY, read_master_key(master_file))
        self._seal(draft, BACKUP_KEY, self._backup_key.model_dump_json().encode() + b"\n")
        self._seal_file(draft, SETTINGS, self._data / SETTINGS)
        manifest = Manifest(
            made_at=now,
            key_record=record_of(self._keys),
            backup_key=self._backup_key,
            sealed_key=self._backup_key.seal(self._set_key).hex(),
            files=self._files,
            pack_list=packs.listing,
            packs=packs.number,
            pack_bytes=packs.size,
            missing=len(packs.missing),
        )
        return manifest, packs.missing

    def _finish(self, draft: Path, name: str, manifest: Manifest) -> None:
        """Make packs and files durable, then the manifest, then the name of the set."""
        for shard in self._target.packs_folder.iterdir():
            sync_directory(shard)
        sync_directory(self._target.packs_folder)
        sync_directory(draft)
        with created(draft / MANIFEST) as file:
            file.write(sign_manifest(manifest, self._keys))
        sync_directory(draft)
        draft.rename(self._target.sets_folder / name)
        sync_directory(self._target.sets_folder)

    # -- databases and keys -------------------------------------------------------------------

    def _copy_database(self, name: str, key: bytes | None, copy: Path) -> None:
        path = self._data / name
        with disk_errors(self._data):
            copy.unlink(missing_ok=True)
            needed, free = path.stat().st_size, shutil.disk_usage(copy.parent).free
        if needed > free:
            raise StorageFull(
                f"A copy of {name} needs {needed} bytes for a while on the disk of {self._data}, "
                f"which has {free} left. Free some, then run the command again."
            )
        snapshot(path, key, copy)
        check(copy, key)

    def _seal_file(self, draft: Path, name: str, path: Path) -> None:
        with disk_errors(path), path.open("rb") as file:
            self._seal_from(draft, name, file)
        self._progress(self._files[name].size)

    def _seal(self, draft: Path, name: str, content: bytes) -> None:
        self._seal_from(draft, name, io.BytesIO(content))

    def _seal_from(self, draft: Path, name: str, source: BinaryIO) -> None:
        with disk_errors(self._target.root), created(draft / f"{name}.sealed") as file:
            self._files[name] = seal(source, file, key_of(self._set_key, name))

    # -- packs --------------------------------------------------------------------------------

    def _copy_packs(self, draft: Path, index: Path) -> _Packs:
        """Copy the index and every pack that it names; look again while the node purges some."""
        before: tuple[str, ...] | None = None
        for _ in range(LOOKS):
            self._copy_database(INDEX, self._keys.index_key, index)
            with disk_errors(self._target.root):
                (draft / PACKS).unlink(missing_ok=True)
                found = self._copy_named(draft, index)
            if found.missing in {(), before}:
                # What is missing at a second look too was not purged: the store is damaged.
                return found
            before = found.missing
        raise Conflict("Studies are being purged all the time. Try again when that has ended.")

    def _copy_named(self, draft: Path, index: Path) -> _Packs:
        """Copy every pack that the index names and that is not there yet, and list all of them."""
        hasher, length, count, total = blake3(), 0, 0, 0
        missing: list[str] = []
        folder, there = None, dict[tuple[bytes, int], str]()
        with created(draft / PACKS) as listing:
            for pack_id, size in packs_in(index, self._keys.index_key):
                if folder is None or self._target.shard(pack_id) != folder:
                    folder = self._target.shard(pack_id)
                    there = _stored(folder)
                digest = there.get((pack_id, size)) or self._copy_pack(folder, pack_id, size)
                line = Pack(pack_id, size, digest or NOT_THERE).to_line()
                hasher.update(line)
                length += listing.write(line)
                if digest is None:
                    missing.append(pack_id.hex())
                    continue
                self._progress(size)
                count, total = count + 1, total + size
        member = Member(size=length, stored=length, hash=hasher.hexdigest())
        return _Packs(count, total, member, tuple(missing))

    def _copy_pack(self, folder: Path, pack_id: bytes, size: int) -> str | None:
        """Copy the first `size` bytes of a pack; return their hash, None if they are not there."""
        draft = folder / (pack_id.hex() + UNFINISHED)
        hasher = blake3()
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            with created(draft) as file:
                for offset in range(0, size, PIECE_BYTES):
                    wanted = min(PIECE_BYTES, size - offset)
                    try:
                        piece = self._store.read_range(pack_id, offset, wanted)
                    except Damaged:
                        return None
                    if len(piece) != wanted:
                        return None
                    hasher.update(piece)
                    file.write(piece)
            pack = Pack(pack_id, size, hasher.hexdigest())
            draft.rename(folder / pack.file_name)
        finally:
            draft.unlink(missing_ok=True)
        self._added_packs += 1
        self._added_bytes += size
        return pack.hash


def _stored(folder: Path) -> dict[tuple[bytes, int], str]:
    """Return the hash of each pack in a folder by id and size; whole, since it has its name."""
    if not folder.is_dir():
        return {}
    matches = (PACK_NAME.fullmatch(each.name) for each in os.scandir(folder))
    return {(bytes.fromhex(m[1]), int(m[2])): m[3] for m in matches if m is not None}


def _check_owner(target: BackupDirectory, keys: NodeKeys) -> None:
    """Return if the newest set is of this facility, or there is none."""
    for name in reversed(target.names()):
        try:
            owner = read_manifest(target.sets_folder / name).peer_id
        except Damaged:
            continue
        if owner != keys.peer_id:
            raise Conflict(
                f"{target.root} holds the backups of another facility. Name a folder of its own."
            )
        return


@contextmanager
def _scratch(data: Path) -> Iterator[Path]:
    """Make a folder for the copies of the databases; what a killed run has left there goes."""
    run = data / RUN
    with disk_errors(data):
        run.mkdir(mode=0o700, exist_ok=True)
        for each in run.glob(f"{SCRATCH}*"):
            if not _lives(each.name.removeprefix(SCRATCH)):
                shutil.rmtree(each, ignore_errors=True)
        folder = run / f"{SCRATCH}{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lives(process: str) -> bool:
    return process.isdigit() and Path("/proc", process).exists()
