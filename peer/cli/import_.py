"""Import DICOM files, folders and zip archives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from blake3 import blake3
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from peer.cli.client import Client, run
from peer.cli.items import UNREADABLE, Item, batches, find
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import CommandError, console, print_json, print_table, say

AT_ONCE: Final = 4
"""Batches under way at once: one is being read, one sent, one encrypted, one made durable."""

TRIES: Final = 5
"""How often an instance is sent to a node that has no room for it, and has let it wait each time
for `ingest.memory_wait_s` already."""

NOT_SENT: Final = (
    "Not sent, for the node has no room for images. Import again when it has: what it holds is "
    "skipped."
)

ZIP_MARK: Final = b"PK\x03\x04"


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


class Importing:
    """Stores batches: the node reads the files itself; what it cannot read is sent.

    Nothing is sent twice that the node may hold already.  Whether it holds an instance is asked at
    the start, and then as long as it does: an import that goes on after an interruption finds all
    the first ones there, a new one not even the first.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._may_be_there = True
        self._is_full = False

    async def store(self, batch: list[Item]) -> list[dict[str, Any]]:
        """Return what became of each item; once the node has no room, nothing more is sent."""
        if self._is_full:
            return [_not_kept("refused", "no-space", NOT_SENT) for _ in batch]
        outcomes = await self._named(batch)
        unread = [at for at, outcome in enumerate(outcomes) if not outcome]
        for at, outcome in zip(unread, await self._read([batch[at] for at in unread]), strict=True):
            outcomes[at] = outcome
        self._is_full |= any(each.get("code") == "no-space" for each in outcomes)
        return outcomes

    async def _named(self, batch: list[Item]) -> list[dict[str, Any]]:
        """Return what became of the files that the node could read; {} for everything else."""
        outcomes: list[dict[str, Any]] = [{} for _ in batch]
        named = {at: found for at, item in enumerate(batch) if (found := item.as_named())}
        if named:
            try:
                answer = await _patiently(lambda: self._client.post_files([*named.values()]))
            except CommandError as error:
                _raise_if_gone(error)
                return outcomes  # Of all together; each by itself may well be taken.
            for at, outcome in zip(named, answer, strict=True):
                outcomes[at] = outcome or {}
        return outcomes

    async def _read(self, batch: list[Item]) -> list[dict[str, Any]]:
        """Return what became of items that are read here."""
        if len(batch) == 1 and batch[0].is_large:
            return [await self._sent_as_it_is_read(batch[0])]
        read = await asyncio.to_thread(lambda: [_read(item) for item in batch])
        outcomes = [each if isinstance(each, dict) else {} for each in read]
        contents = {at: each for at, each in enumerate(read) if isinstance(each, bytes)}
        if self._may_be_there and contents:
            for at, study in (await self._held(contents)).items():
                outcomes[at] = {"status": "duplicate", "study_instance_uid": study}
                del contents[at]
        for at, outcome in zip(contents, await self._sent([*contents.values()]), strict=True):
            outcomes[at] = outcome
        self._may_be_there = any(each["status"] == "duplicate" for each in outcomes)
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
        return await _outcome(_patiently(lambda: self._client.post_instance(content)))

    async def _sent_as_it_is_read(self, item: Item) -> dict[str, Any]:
        async def send() -> Any:  # noqa: ANN401 - JSON
            with item.open() as file:
                return await self._client.post_instance(file)

        try:
            return await _outcome(_patiently(send))
        except UNREADABLE as error:
            return _unreadable(error)


async def _outcome(sending: Awaitable[Any]) -> dict[str, Any]:
    """Return what became of what is being sent; a refusal is an outcome too."""
    try:
        return dict(await sending)
    except CommandError as error:
        _raise_if_gone(error)
        return _not_kept("refused", error.code, error.reason)


def _read(item: Item) -> bytes | dict[str, Any]:
    """Return the bytes of an item, or what becomes of one that is not sent."""
    if item.status:
        return _not_kept(item.status, item.code, item.reason)
    try:
        with item.open() as file:
            content = file.read()
    except UNREADABLE as error:
        return _unreadable(error)
    if content.startswith(ZIP_MARK):
        return _not_kept("refused", "archive-in-archive", "Unpack it and import what is in it.")
    return content


def _unreadable(error: Exception) -> dict[str, Any]:
    reason = f"It cannot be read: {type(error).__name__}. It may be damaged or encrypted."
    return _not_kept("refused", "unreadable", reason)


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
