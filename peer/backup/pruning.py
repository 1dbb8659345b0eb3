"""Removes old sets, and the packs that no set names any more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from peer.backup.inspection import packs_of
from peer.backup.places import PACK_NAME, UNFINISHED, BackupDirectory, disk_errors
from peer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed: names of sets, and how many packs of how many bytes."""

    sets: tuple[str, ...]
    packs: int
    freed_bytes: int


def prune(directory: BackupDirectory, keep: int) -> Pruned:
    """Keep the newest `keep` sets.

    Raise Damaged, before anything is removed, if one of these does not say which packs it needs.
    """
    if keep < 1:
        raise ConfigError("At least one set must be kept: --keep 1 or more.")
    names = directory.names()
    with directory.locked():
        directory.sweep()
        kept, old = names[-keep:], names[:-keep]
        needed: set[str] = set()
        for name in kept:
            needed.update(pack.file_name for pack in packs_of(directory.read(name)))
        packs, freed = 0, 0
        with disk_errors(directory.root):
            for name in old:
                # Renamed first: half a set must never look like a whole one.
                gone = directory.sets_folder / (name + UNFINISHED)
                (directory.sets_folder / name).rename(gone)
                shutil.rmtree(gone)
            for path in directory.packs_folder.glob("*/*"):
                if PACK_NAME.fullmatch(path.name) and path.name not in needed:
                    freed += path.stat().st_size
                    path.unlink()
                    packs += 1
    return Pruned(tuple(old), packs, freed)
