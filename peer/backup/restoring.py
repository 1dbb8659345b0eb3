"""Makes a data directory of a set."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from peer import config
from peer.backup.inspection import NAMED, content, open_set, packs_of
from peer.backup.manifest import INDEX, PARTNERS, PLACES, Pack, SignedSet
from peer.backup.places import PIECE_BYTES, BackupDirectory, Progress, created, disk_errors
from peer.errors import Conflict, Damaged, NodeError
from peer.index.fence import FILE_NAME as FENCE
from peer.index.fence import mark_restored
from peer.index.snapshot import check, packs_in
from peer.keys.files import unseal_file
from peer.keys.node import node_keys_of
from peer.keys.sealed import SEALED_FILE_BYTES, Secrets
from peer.store.packs import sync_directory
from protocol.errors import RemoteProtocolError
from protocol.records import from_bytes

UNFINISHED: Final = "restore-unfinished"
"""A file that stands in a data directory until all of it is durable."""

_OURS: Final = (
    *("openpriors.toml", "keys", "store", INDEX, f"{INDEX}.new", PARTNERS),
    *(FENCE, Path(FENCE).with_suffix(".new").name),
)
"""What a restore writes at the top of a data directory, halves of files too."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A node that can be started.

    missing_packs: ids of packs that its index names and it does not have.  settings: what is wrong
    with its settings on this machine, a sentence each.
    """

    signed: SignedSet
    missing_packs: tuple[str, ...]
    settings: tuple[str, ...]


def restore(
    directory: BackupDirectory,
    name: str | None,
    passphrase: str,
    data: Path,
    progress: Progress,
    *,
    without_damaged: bool = False,
) -> Restored:
    """Make the data directory `data`, which must be empty or absent, of a set.

    Every byte is compared with what was written, and durable, before this returns; if anything
    goes wrong nothing is left.  Packs that are damaged are left out with `without_damaged`.  The
    node that is started on it asks its partners what has happened since before it signs anything.
    """
    signed = directory.read(name)
    key = open_set(signed, passphrase)
    with disk_errors(data):
        _begin(data)
    try:
        with disk_errors(data):
            lacking = _write(directory, signed, key, data, progress, without_damaged)
            mark_restored(data, signed.peer_id)
            (data / UNFINISHED).unlink()
            # Last: without an index nothing can be started here.
            (data / f"{INDEX}.new").rename(data / INDEX)
            sync_directory(data)
    except BaseException:
        _clear(data)
        raise
    return Restored(signed, lacking, tuple(config.check(data)))


def _begin(data: Path) -> None:
    """Take `data` for a restore; raise Conflict if there is something in it."""
    if (data / UNFINISHED).is_file():
        _clear(data)
    if data.exists() and (not data.is_dir() or _names(data) - {"lost+found"}):
        raise Conflict(
            f"{data} is not empty, and a restore overwrites nothing. Name a directory that is not "
            "there yet, or move away what is in this one."
        )
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with created(data / UNFINISHED):
        pass
    sync_directory(data)


def _names(data: Path) -> set[str]:
    return {each.name for each in data.iterdir()}


def _clear(data: Path) -> None:
    """Remove what a restore that did not come to its end has written; the marker last."""
    for name in _OURS:
        path = data / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    (data / UNFINISHED).unlink(missing_ok=True)


def _write(
    directory: BackupDirectory,
    signed: SignedSet,
    key: bytes,
    data: Path,
    progress: Progress,
    without_damaged: bool,  # noqa: FBT001 - passed on
) -> tuple[str, ...]:
    """Write all files and packs; return the ids of packs that the node lacks."""
    for folder in (data / "keys", data / "store", data / "store" / "packs"):
        folder.mkdir(mode=0o700)
    for name, place in PLACES.items():
        path = data / (place if name != INDEX else f"{INDEX}.new")
        _fill(path, content(signed, name, key))
        progress(signed.manifest.files[name].stored)
    never_there, damaged = list[str](), list[str]()
    for pack in packs_of(signed):
        if pack.is_missing:
            never_there.append(pack.pack_id.hex())
        elif not _copy_pack(directory, pack, data / "store" / "packs", progress):
            damaged.append(pack.pack_id.hex())
    if damaged and not without_damaged:
        raise _damaged(damaged)
    _check_node(data, signed)
    for folder in (data / "store" / "packs", data / "store", data / "keys", data):
        sync_directory(folder)
    return (*never_there, *damaged)


def _fill(path: Path, pieces: Iterable[bytes]) -> None:
    with created(path) as file:
        for piece in pieces:
            file.write(piece)


def _copy_pack(directory: BackupDirectory, pack: Pack, folder: Path, progress: Progress) -> bool:
    """Copy a pack durably; return whether it is what was written, and leave nothing if not."""
    target, hasher, size = folder / pack.pack_id.hex(), blake3(), 0
    with created(target) as file:
        for piece in _readable(directory.path(pack)):
            hasher.update(piece)
            size += len(piece)
            file.write(piece)
            progress(len(piece))
    if (size, hasher.hexdigest()) == (pack.size, pack.hash):
        return True
    target.unlink()
    return False


def _readable(path: Path) -> Iterator[bytes]:
    """Yield what can be read of a file: nothing if it is not there, less if its disk fails."""
    with suppress(OSError), path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _check_node(data: Path, signed: SignedSet) -> None:
    """Open what was restored with the keys that came with it."""
    check(data / PARTNERS, None)
    index = data / f"{INDEX}.new"
    key = _index_key(data, signed)
    check(index, key)
    listed = sum(1 for _ in packs_in(index, key))
    if listed != signed.manifest.packs + signed.manifest.missing:
        raise Damaged("The index and the list of packs do not belong together. Use another set.")


def _index_key(data: Path, signed: SignedSet) -> bytes:
    """Return the key of the index, by the master key that came with the set."""
    sealed, master = data / "keys" / "node.sealed", data / "keys" / "master.key"
    opened = unseal_file(master.read_bytes(), sealed.read_bytes(), sealed)
    try:
        keys = node_keys_of(from_bytes(Secrets, opened, SEALED_FILE_BYTES))
    except RemoteProtocolError as error:
        raise Damaged("The keys in the backup were written by another release.") from error
    if keys.peer_id != signed.peer_id:
        raise Damaged("The keys in the backup are of another facility. Use another set.")
    return keys.index_key


def _damaged(lacking: list[str]) -> NodeError:
    shown = ", ".join(lacking[:NAMED]) + (", ..." if len(lacking) > NAMED else "")
    return Damaged(
        f"{len(lacking)} pack(s) of the backup are damaged or missing: {shown}. Nothing was "
        "restored. Use another copy of the backup directory; or restore the rest, without the "
        "images in them, with --without-damaged."
    )
