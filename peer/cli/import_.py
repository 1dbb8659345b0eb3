"""Import DICOM files, folders and zip archives."""

from __future__ import annotations

import asyncio
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from blake3 import blake3
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from peer.cli.client import Client, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import CommandError, console, print_json, print_table, say

NAME = "import"

AT_ONCE: Final = 8
"""Instances under way at once, so that the node can make many durable with one sync."""

LARGEST_BYTES: Final = 4 * 1024**3
"""No file is read into memory beyond this; the node's own bound is lower by default."""

NOT_FOR_IMPORT: Final = frozenset({"DICOMDIR"})


@dataclass(frozen=True, slots=True)
class Item:
    """One file, or one member of a zip archive."""

    path: Path
    member: str = ""

    def read(self) -> bytes:
        """Return its bytes; raise CommandError if it is larger than anything we would store."""
        if not self.member:
            _refuse_size(self.path.stat().st_size)
            return self.path.read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            _refuse_size(archive.getinfo(self.member).file_size)
            return archive.read(self.member)

    @property
    def name(self) -> str:
        """What to call it in front of a person."""
        return f"{self.path}!{self.member}" if self.member else str(self.path)


@dataclass(slots=True)
class Summary:
    """What became of the items; nothing is ever left out."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)
    studies: set[str] = field(default_factory=set)

    def add(self, item: Item, outcome: dict[str, Any]) -> None:
        """Count one outcome."""
        self.counts[outcome["status"]] += 1
        if outcome["status"] == "refused":
            self.refused.append(
                {"item": item.name, "code": outcome["code"], "reason": outcome["reason"]}
            )
        elif outcome["study_instance_uid"]:
            self.studies.add(outcome["study_instance_uid"])

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON shape of the summary."""
        return {
            "accepted": self.counts["accepted"],
            "duplicate": self.counts["duplicate"],
            "refused": self.counts["refused"],
            "refusals": self.refused,
            "study_instance_uids": sorted(self.studies),
        }


def command(
    path: Annotated[list[Path], typer.Argument(help="Files, folders or zip archives.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Import; run it again after an interruption, and what is there already is skipped."""

    async def conversation() -> Summary:
        async with Client.open(data) as client:
            return await import_paths(client, path, quiet=as_json)

    summary = run(conversation(), as_json=as_json)
    if as_json:
        print_json(summary.as_json())
    else:
        _show(summary)
    if summary.refused and not summary.studies:
        raise typer.Exit(1)


async def import_paths(client: Client, paths: list[Path], *, quiet: bool) -> Summary:
    """Store every instance below `paths` and tell the node that their studies are complete."""
    items = [item for path in paths for item in find(path)]
    summary = Summary()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task("Importing", total=len(items))
        waiting = iter(items)

        async def work() -> None:
            for item in waiting:
                summary.add(item, await _store(client, item))
                progress.advance(task)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    if summary.studies:
        await client.post("/studies/settle", {"study_instance_uids": sorted(summary.studies)})
    return summary


def find(path: Path) -> Iterator[Item]:
    """Yield what there is to import at `path`, folders and archives opened, in a fixed order."""
    if not path.exists():
        raise CommandError("no-such-path", f"There is nothing at {path}.")
    if path.is_dir():
        for each in sorted(path.rglob("*")):
            if each.is_file() and each.name not in NOT_FOR_IMPORT:
                yield from find(each)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir() and Path(info.filename).name not in NOT_FOR_IMPORT:
                    yield Item(path, info.filename)
    else:
        yield Item(path)


async def _store(client: Client, item: Item) -> dict[str, Any]:
    try:
        content = await asyncio.to_thread(item.read)
        digest = blake3(content).hexdigest()
        known = await client.post("/instances/known", {"content_hashes": [digest]})
        if known["known"]:
            return {"status": "duplicate", "study_instance_uid": known["studies"][digest]}
        outcome: dict[str, Any] = await client.post_instance(content)
    except (OSError, zipfile.BadZipFile) as error:
        return _refused("unreadable", f"The file cannot be read: {type(error).__name__}.")
    except CommandError as error:
        if error.code in {"not-running", "no-node", "timed-out"}:
            raise
        return _refused(error.code, error.reason)
    return outcome


def _refused(code: str, reason: str) -> dict[str, Any]:
    return {"status": "refused", "code": code, "reason": reason, "study_instance_uid": ""}


def _refuse_size(size: int) -> None:
    if size > LARGEST_BYTES:
        raise CommandError("oversized", f"The file has {size} bytes; the most is {LARGEST_BYTES}.")


def _show(summary: Summary) -> None:
    counts = summary.counts
    say(
        f"{counts['accepted']} accepted, {counts['duplicate']} already here, "
        f"{counts['refused']} refused; {len(summary.studies)} studies.",
        style="yellow" if summary.refused else "green",
    )
    if summary.refused:
        print_table(
            ("Refused", "Reason"), ((each["item"], each["reason"]) for each in summary.refused)
        )
