"""Check that every stored image can be read back."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from peer.cli.client import Client, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import console, print_json, print_table, say

app = typer.Typer(no_args_is_help=True)

POLL_S: Final = 0.5
"""How often the node is asked how far it is."""


@app.callback()
def store() -> None:
    """Check that every stored image can be read back."""


@app.command("verify")
def verify(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Read everything back and name what is damaged; the node goes on if this is interrupted."""

    async def conversation() -> dict[str, Any]:
        async with Client.open(data) as client:
            return await _follow(client, quiet=as_json)

    found = run(conversation(), as_json=as_json)
    if as_json:
        print_json(found)
    elif found["damaged"]:
        rows = [
            (each["study_instance_uid"], each["sop_instance_uid"], each["reason"])
            for each in found["damaged"]
        ]
        print_table(("Study", "Instance", "Reason"), rows)
        say(
            f"{len(rows)} damaged. Retrieve a study of a partner's again: only what is damaged is "
            "fetched. Otherwise restore the folder store/ from a backup, or remove the study and "
            "import it again; then verify once more.",
            style="red",
        )
    else:
        say(f"{found['instances']} instances can be read back as they came.", style="green")
    if found["damaged"]:
        raise typer.Exit(1)


async def _follow(client: Client, *, quiet: bool) -> dict[str, Any]:
    """Begin, or join, a check and return what it found."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    found: dict[str, Any] = await client.post("/store/verify")
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task("Verifying", total=found["bytes_total"])
        while found["ended_at"] is None:
            await asyncio.sleep(POLL_S)
            found = await client.get("/store/verify")
            progress.update(task, completed=found["bytes"], total=found["bytes_total"])
    return found
