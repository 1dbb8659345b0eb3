"""Back a node up while it runs, and check, list or thin out its backups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from peer.cli.client import Client
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import CommandError, console, instant, print_json, print_table, say, size
from peer.errors import ConfigError, Conflict, Damaged, NodeError, NotFound, StorageFull

if TYPE_CHECKING:
    from peer.backup import BackupDirectory, Made
    from peer.backup.manifest import SignedSet
    from peer.backup.places import Progress as Advance

app = typer.Typer(no_args_is_help=True)

NAMED: Final = 20
"""Damaged files that are named one by one; the rest are counted."""

Folder: TypeAlias = Annotated[Path, typer.Argument(help="The backup directory.")]
PassphraseFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="File with the passphrase, for its owner alone; else it is asked for."),
]
SetName: TypeAlias = Annotated[
    str | None, typer.Option("--set", help="Name of the set; the newest one unless given.")
]


@app.command("passphrase")
def passphrase(
    own: Annotated[
        bool, typer.Option("--own", help="Type a passphrase of your own, 15 characters or more.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Give the coming backups another one.")
    ] = False,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Set what opens the backups of this node: made here and shown once, unless it is your own."""
    from peer import backup

    with errors(as_json):
        if passphrase_file is not None:
            chosen = asked_for(passphrase_file)
        elif own:
            chosen = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True)
        else:
            chosen = backup.generate()
        backup.set_passphrase(data, chosen, replace=replace)
    shown = None if own or passphrase_file is not None else chosen
    if as_json:
        print_json({"passphrase": shown})
        return
    say("The backups of this node open with this passphrase from now on.", style="green")
    if shown is not None:
        say(shown, style="bold")
        say("It is not shown again. Write it down and keep it where this machine is not.")
    say("Without it no backup can be restored, and nobody can make it anew.")


@app.command("make")
def make(to: Folder, data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Add a set to a backup directory; the node may run, and what is there is not copied again."""
    from peer import backup

    now = int(time.time())
    name = backup.new_name(now)
    with errors(as_json):
        if to.resolve().is_relative_to(data.resolve()):
            raise CommandError(
                "backup-inside", f"{to} lies in the data directory that is to be backed up.",
                "Name a folder on another disk.",
            )  # fmt: skip
        backup.load_key(data)
        expected = backup.expected_bytes(data)
        asyncio.run(_put_on_record(data, "/backups/begin", {"set": name}))
        with progress("Backing up", expected, quiet=as_json) as advance:
            made = backup.make(data, backup.BackupDirectory(to), name, now, advance)
        told = {"set": name, "made_at": now, "packs": made.packs, "missing": len(made.missing)}
        asyncio.run(_put_on_record(data, "/backups/done", told))
    _show_made(made, to, as_json=as_json)


@app.command("list")
def list_sets(to: Folder, as_json: AsJson = False) -> None:
    """List the sets of a backup directory that are complete."""
    from peer import backup

    with errors(as_json):
        directory = backup.BackupDirectory(to)
        rows = [_described(directory, name) for name in directory.names()]
    if as_json:
        print_json({"sets": rows})
        return
    print_table(
        ("Set", "As of", "Facility", "Packs", "Size", ""),
        (
            (
                row["set"],
                instant(row["made_at"]),
                row["facility"],
                row["packs"],
                None if row["bytes"] is None else size(row["bytes"]),
                "damaged" if row["damaged"] else "",
            )
            for row in rows
        ),
    )


@app.command("verify")
def verify(
    to: Folder,
    name: SetName = None,
    opened: Annotated[
        bool, typer.Option("--open", help="Also try the passphrase, and decrypt everything.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte of a set and compare it with what was written; nothing is restored."""
    from peer import backup

    with errors(as_json):
        directory = backup.BackupDirectory(to)
        manifest = directory.read(name).manifest
        opens = opened or passphrase_file is not None
        chosen = asked_for(passphrase_file) if opens else None
        total = manifest.pack_bytes + sum(each.stored for each in manifest.files.values())
        with progress("Reading", total, quiet=as_json) as advance:
            found = backup.verify(directory, name, chosen, advance)
        if found.damaged:
            shown = ", ".join(found.damaged[:NAMED]) + (
                ", ..." if len(found.damaged) > NAMED else ""
            )
            raise CommandError(
                "damaged",
                f"{len(found.damaged)} file(s) of {found.signed.name} are damaged or missing: "
                f"{shown}.",
                "Bring them from a copy of the backup directory; or remove them and back the node "
                "up again, which writes them anew as long as it has what was in them.",
            )
    if as_json:
        print_json({**set_json(found.signed), "opened": found.opened})
        return
    say(f"{said(found.signed)}: every byte is as it was written.", style="green")
    if found.opened:
        say("The passphrase opens it.", style="green")


@app.command("prune")
def prune(
    to: Folder,
    keep: Annotated[int, typer.Option(min=1, help="How many of the newest sets to keep.")],
    as_json: AsJson = False,
) -> None:
    """Remove all but the newest sets, and the packs that only those needed."""
    from peer import backup

    with errors(as_json):
        pruned = backup.prune(backup.BackupDirectory(to), keep)
    if as_json:
        print_json({"sets": pruned.sets, "packs": pruned.packs, "freed_bytes": pruned.freed_bytes})
        return
    say(
        f"Removed {len(pruned.sets)} set(s) and {pruned.packs} pack(s): {size(pruned.freed_bytes)}."
    )


# -- shared with `openpriors restore` ---------------------------------------------------------


def set_json(signed: SignedSet) -> dict[str, Any]:
    """Return what a set says of itself, ready to be printed as JSON."""
    manifest = signed.manifest
    return {
        "set": signed.name,
        "facility": {"peer_id": signed.peer_id.hex(), "name": signed.record.facility_name},
        "made_at": manifest.made_at,
        "packs": manifest.packs,
        "bytes": manifest.pack_bytes + sum(each.stored for each in manifest.files.values()),
        "missing": manifest.missing,
    }


def said(signed: SignedSet) -> str:
    """Return a set as people read it."""
    made_at = instant(signed.manifest.made_at)
    who = f"{signed.record.facility_name} ({signed.peer_id.hex()[:16]})"
    return f"{who} as of {made_at}, {signed.manifest.packs} pack(s)"


def asked_for(file: Path | None) -> str:
    """Return the passphrase in `file`, or what is typed."""
    if file is None:
        return str(typer.prompt("Passphrase", hide_input=True))
    from peer.keys.files import read_private

    try:
        return read_private(file, "passphrase").decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text.") from error


@contextmanager
def errors(as_json: bool) -> Iterator[None]:
    """Say what the node's own errors say, in the form that the verb was asked for."""
    from peer.backup import WrongPassphrase

    codes = (
        (WrongPassphrase, "wrong-passphrase"),
        (NotFound, "not-found"),
        (Conflict, "conflict"),
        (Damaged, "damaged"),
        (StorageFull, "storage-full"),
    )
    try:
        yield
    except NodeError as error:
        code = next((code for kind, code in codes if isinstance(error, kind)), "cannot-backup")
        raise CommandError(code, str(error), as_json=as_json) from error
    except CommandError as error:
        error.as_json = as_json
        raise


@contextmanager
def progress(what: str, total: int, *, quiet: bool) -> Iterator[Advance]:
    """Show how far something is; `total` in bytes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


# -- inside -----------------------------------------------------------------------------------


async def _put_on_record(data: Path, path: str, body: dict[str, Any]) -> None:
    """Tell the node, or, if it is stopped, write into its index."""
    try:
        async with Client.open(data) as client:
            await client.post(path, body)
    except CommandError as error:
        if error.code != "not-running":
            raise
    else:
        return
    from peer import stopped

    async with stopped.backups(data) as (backups, actor):
        if path == "/backups/begin":
            await backups.begin(body["set"], actor)
        else:
            await backups.done(body["set"], body["made_at"], body["packs"], body["missing"], actor)


def _show_made(made: Made, to: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"set": made.name, "made_at": made.made_at, "packs": made.packs,
             "bytes": made.pack_bytes, "added_packs": made.added_packs,
             "added_bytes": made.added_bytes, "missing": made.missing}
        )  # fmt: skip
        return
    say(f"{to / 'sets' / made.name} is complete: {made.packs} pack(s).", style="green")
    say(f"{made.added_packs} of them are new; the folder grew by {size(made.added_bytes)}.")
    say("The root key is not in it. Keep that, and the passphrase, where this machine is not.")
    if made.missing:
        say(
            f"{len(made.missing)} pack(s) that the index names are not on the disk, so they are "
            "not in the backup: the store is damaged. Look at openpriors status.",
            style="yellow",
        )


def _described(directory: BackupDirectory, name: str) -> dict[str, Any]:
    try:
        found = set_json(directory.read(name))
    except Damaged:
        return {"set": name, "made_at": None, "facility": "", "packs": None, "bytes": None,
                "damaged": True}  # fmt: skip
    return {**found, "facility": found["facility"]["name"], "damaged": False}
