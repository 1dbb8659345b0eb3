"""Reads a set as it is stored, and says what of it is not as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from peer.backup.manifest import PACKS, PLACES, Member, Pack, SignedSet, listed_packs
from peer.backup.places import PIECE_BYTES, BackupDirectory, Progress
from peer.backup.sealed import key_of, pieces
from peer.errors import Damaged

NAMED: Final = 20
"""Damaged files that are named one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a look at a set found.

    damaged: files below the directory.  opened: its passphrase was tried, and opens all of it.
    """

    signed: SignedSet
    damaged: tuple[str, ...]
    opened: bool


def verify(
    directory: BackupDirectory, name: str | None, passphrase: str | None, progress: Progress
) -> Checked:
    """Read every byte of a set, the newest without `name`, and compare it with its manifest.

    With `passphrase` everything is decrypted too, and nothing written.  Raise WrongPassphrase,
    NotFound, or Damaged for a manifest that says nothing.
    """
    signed = directory.read(name)
    key = None if passphrase is None else open_set(signed, passphrase)
    damaged = [
        str(path.relative_to(directory.root))
        for path, member in _members(signed)
        if not _is_whole(path, member, progress)
    ]
    for pack in packs_of(signed):
        path = directory.path(pack)
        if pack.is_missing:
            continue
        if not _is_whole(path, Member(size=pack.size, stored=pack.size, hash=pack.hash), progress):
            damaged.append(str(path.relative_to(directory.root)))
    if key is not None and not damaged:
        _open_all(signed, key)
    return Checked(signed, tuple(damaged), key is not None and not damaged)


def open_set(signed: SignedSet, passphrase: str) -> bytes:
    """Return the key of the files of a set; raise WrongPassphrase or Damaged."""
    manifest = signed.manifest
    return manifest.backup_key.open(passphrase, bytes.fromhex(manifest.sealed_key))


def packs_of(signed: SignedSet) -> Iterator[Pack]:
    """Yield the packs of a set; raise Damaged if the list is not what the manifest says."""
    path, expected = signed.folder / PACKS, signed.manifest.pack_list
    if not _is_whole(path, expected, lambda _: None):
        raise Damaged(f"The list of packs of {signed.name} is damaged. Use another set, or a copy.")
    with path.open("rb") as file:
        yield from listed_packs(file)


def content(signed: SignedSet, name: str, key: bytes) -> Iterator[bytes]:
    """Yield the content of a file of a set; raise Damaged unless it is what was written."""
    size = 0
    with (signed.folder / f"{name}.sealed").open("rb") as file:
        for piece in pieces(file, key_of(key, name)):
            size += len(piece)
            yield piece
    if size != signed.manifest.files[name].size:
        raise Damaged(f"{name} of the backup is not as long as it was. Use another set.")


def _members(signed: SignedSet) -> Iterator[tuple[Path, Member]]:
    for name in PLACES:
        yield signed.folder / f"{name}.sealed", signed.manifest.files[name]


def _is_whole(path: Path, expected: Member, progress: Progress) -> bool:
    hasher, size = blake3(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                hasher.update(piece)
                size += len(piece)
                progress(len(piece))
    except OSError:
        return False
    return size == expected.stored and hasher.hexdigest() == expected.hash


def _open_all(signed: SignedSet, key: bytes) -> None:
    for name in PLACES:
        for _ in content(signed, name, key):
            pass
