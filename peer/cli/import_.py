"""Import DICOM files, folders and zip archives."""

from __future__ import annotations

import asyncio
import lzma
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from blake3 import blake3
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from peer.cli.client import Client, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import CommandError, console, print_json, print_table, say

AT_ONCE: Final = 4
"""Batches under way at once: one is being read, one sent, one encrypted, one made durable."""

BATCH_INSTANCES: Final = 512
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Instances sent together, so that the node makes many durable with one sync.  What is larger goes
alone."""

TRIES: Final = 5
"""How often an instance is sent to a node that has no room for it, and has let it wait each time
for `ingest.memory_wait_s` already."""

LARGEST_BYTES: Final = 4 * 1024**3
"""No file is read into memory beyond this; the node's own bound is lower by default."""

NOT_FOR_IMPORT: Final = frozenset({"DICOMDIR"})

DICOM_MARK: Final = slice(128, 132)
"""Where a DICOM file says DICM (PS3.10 section 7.1)."""

DIRECTORY: Final = "This is the index of a medium, not an instance; nothing of it is needed."

NOT_SENT: Final = (
    "Not sent, for the node has no room for images. Import again when it has: what it holds is "
    "skipped."
)

ZIP_MARK: Final = b"PK\x03\x04"

UNREADABLE: Final = (
    OSError,
    EOFError,
    RuntimeError,  # zipfile's for a member that is encrypted or packed by an unknown method.
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged file or archive raises."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file, or one member of a zip archive; or a place where nothing can be read, and why."""

    path: Path
    member: zipfile.ZipInfo | None = None
    status: str = ""
    code: str = ""
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes, so far as it can be known without reading; 0 where nothing can be read."""
        if self.member is not None:
            return self.member.file_size
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def read(self) -> bytes:
        """Return its bytes; raise CommandError if it is larger than anything we would store."""
        if self.member is None:
            _refuse_size(self.path.stat().st_size)
            return self.path.read_bytes()
        _refuse_size(self.member.file_size)
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.member)

    @property
    def name(self) -> str:
        """What to call it in front of a person; bytes that are no text are shown as numbers."""
        name = f"{self.path}!{self.member.filename}" if self.member else str(self.path)
        return os.fsencode(name).decode(errors="backslashreplace")


@dataclass(slots=True)
class Summary:
    """What became of the items; nothing is ever left out."""

    counts: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    remarks: list[dict[str, str]] = field(default_factory=list)
    """What was odd about instances that were kept."""
    studies: set[str] = field(default_factory=set)

    def add(self, item: Item, outcome: dict[str, Any]) -> None:
        """Count one outcome."""
        self.counts[outcome["status"]] += 1
        told = {"refused": self.refused, "skipped": self.skipped, "accepted": self.remarks}
        if outcome.get("code") and outcome["status"] in told:
            told[outcome["status"]].append(
                {"item": item.name, "code": outcome["code"], "reason": outcome["reason"]}
            )
        if outcome["study_instance_uid"]:
            self.studies.add(outcome["study_instance_uid"])

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON shape of the summary."""
        return {
            "accepted": self.counts["accepted"],
            "duplicate": self.counts["duplicate"],
            "refused": self.counts["refused"],
            "refusals": self.refused,
            "skipped": self.counts["skipped"],
            "skips": self.skipped,
            "remarks": self.remarks,
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
        waiting = batches(items)
        importing = Importing(client)

        async def work() -> None:
            for batch in waiting:
                for item, outcome in zip(batch, await importing.store(batch), strict=True):
                    summary.add(item, outcome)
                progress.advance(task, len(batch))

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    if summary.studies:
        await client.post("/studies/settle", {"study_instance_uids": sorted(summary.studies)})
    return summary


def find(path: Path) -> Iterator[Item]:
    """Yield what there is to import at `path`, folders and archives opened, in a fixed order.

    Whatever is there is yielded, also what cannot be imported: with the reason.
    """
    if not path.exists() and not path.is_symlink():
        raise CommandError("no-such-path", f"There is nothing at {path}.")
    if path.is_dir():
        yield from _find_in_folder(path)
    else:
        yield from _find_in_file(path)


def _find_in_folder(folder: Path) -> Iterator[Item]:
    closed: list[Path] = []

    def note(error: OSError) -> None:
        closed.append(Path(error.filename))

    for place, folders, names in os.walk(folder, onerror=note):
        folders.sort()
        for name in folders:
            # Not followed: a link may lead back to where we are.
            if Path(place, name).is_symlink():
                reason = "This is a link to a folder. Import that folder by its own name."
                yield _left_out(Path(place, name), "skipped", "link", reason)
        for name in sorted(names):
            yield from _find_in_file(Path(place, name))
    for path in closed:
        yield _left_out(path, "refused", "unreadable", "The folder cannot be opened.")


def _find_in_file(path: Path) -> Iterator[Item]:
    if path.name in NOT_FOR_IMPORT:
        yield _left_out(path, "skipped", "directory", DIRECTORY)
    elif not path.exists():
        yield _left_out(path, "refused", "unreadable", "This is a link that leads nowhere.")
    elif not path.is_file():
        yield _left_out(path, "refused", "not-a-file", "This is a device or a pipe, not a file.")
    else:
        try:
            found = _members(path) if _is_archive(path) else [Item(path)]
        except UNREADABLE as error:
            reason = f"The archive cannot be opened: {type(error).__name__}. Copy it again."
            found = [_left_out(path, "refused", "unreadable", reason)]
        yield from found


def _is_archive(path: Path) -> bool:
    """Return whether this is a zip archive; a DICOM file may hold one and is none."""
    with path.open("rb") as file:
        if file.read(DICOM_MARK.stop)[DICOM_MARK] == b"DICM":
            return False
        return zipfile.is_zipfile(file)


def _members(path: Path) -> list[Item]:
    found = []
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if Path(info.filename).name in NOT_FOR_IMPORT:
                found.append(Item(path, info, "skipped", "directory", DIRECTORY))
            elif not info.is_dir():
                found.append(Item(path, info))
    return found


def _left_out(path: Path, status: str, code: str, reason: str) -> Item:
    return Item(path, status=status, code=code, reason=reason)


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items in their order, in runs that are sent together."""
    batch: list[Item] = []
    room = BATCH_BYTES
    for item in items:
        size = 0 if item.status else item.size
        if batch and (size > room or len(batch) == BATCH_INSTANCES):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(item)
        room -= size
    if batch:
        yield batch


class Importing:
    """Stores batches, and sends nothing twice that the node may hold already.

    Whether it holds an instance is asked at the start, and then as long as it does: an import that
    goes on after an interruption finds all the first ones there, a new one not even the first.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._may_be_there = True
        self._is_full = False

    async def store(self, batch: list[Item]) -> list[dict[str, Any]]:
        """Return what became of each item; once the node has no room, nothing more is sent."""
        if self._is_full:
            return [_not_kept("refused", "no-space", NOT_SENT) for _ in batch]
        read = await asyncio.to_thread(lambda: [_read(item) for item in batch])
        outcomes = [each if isinstance(each, dict) else {} for each in read]
        contents = {at: each for at, each in enumerate(read) if isinstance(each, bytes)}
        if self._may_be_there:
            for at, study in (await self._held(contents)).items():
                outcomes[at] = {"status": "duplicate", "study_instance_uid": study}
                del contents[at]
        for at, outcome in zip(contents, await self._sent([*contents.values()]), strict=True):
            outcomes[at] = outcome
        self._may_be_there = any(each["status"] == "duplicate" for each in outcomes)
        self._is_full |= any(each.get("code") == "no-space" for each in outcomes)
        return outcomes

    async def _held(self, contents: dict[int, bytes]) -> dict[int, str]:
        """Return the studies of those contents that the node holds."""
        digests = await asyncio.to_thread(
            lambda: {at: blake3(content).hexdigest() for at, content in contents.items()}
        )
        known = await self._client.post(
            "/instances/known", {"content_hashes": sorted(set(digests.values()))}
        )
        studies = known["studies"]
        return {at: studies[digest] for at, digest in digests.items() if digest in studies}

    async def _sent(self, contents: list[bytes]) -> list[dict[str, Any]]:
        if not contents:
            return []
        if len(contents) > 1:
            try:
                return list(await _patiently(lambda: self._client.post_instances(contents)))
            except CommandError as error:
                _raise_if_gone(error)
                # Of all together; each by itself may well be taken.
        return [await self._sent_alone(content) for content in contents]

    async def _sent_alone(self, content: bytes) -> dict[str, Any]:
        try:
            return dict(await _patiently(lambda: self._client.post_instance(content)))
        except CommandError as error:
            _raise_if_gone(error)
            return _not_kept("refused", error.code, error.reason)


def _read(item: Item) -> bytes | dict[str, Any]:
    """Return the bytes of an item, or what becomes of one that is not sent."""
    if item.status:
        return _not_kept(item.status, item.code, item.reason)
    try:
        content = item.read()
    except UNREADABLE as error:
        reason = f"It cannot be read: {type(error).__name__}. It may be damaged or encrypted."
        return _not_kept("refused", "unreadable", reason)
    except CommandError as error:
        return _not_kept("refused", error.code, error.reason)
    if content.startswith(ZIP_MARK):
        return _not_kept("refused", "archive-in-archive", "Unpack it and import what is in it.")
    return content


def _raise_if_gone(error: CommandError) -> None:
    if error.code in {"not-running", "no-node", "timed-out"}:
        raise error


async def _patiently(send: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - JSON
    """Return the answer to what is sent, again while the node has no room for it."""
    for _ in range(TRIES - 1):
        try:
            return await send()
        except CommandError as error:
            if error.code != "busy":
                raise
    return await send()


def _not_kept(status: str, code: str, reason: str) -> dict[str, Any]:
    return {"status": status, "code": code, "reason": reason, "study_instance_uid": ""}


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
    for reason, count in Counter(each["reason"] for each in summary.remarks).items():
        first = next(each["item"] for each in summary.remarks if each["reason"] == reason)
        say(f"Kept as it came, {count} in number, such as {first}. {reason}")
    for each in summary.skipped:
        say(f"Left aside: {each['item']}. {each['reason']}")
