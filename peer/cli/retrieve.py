"""Fetch a study from a partner, verified instance by instance."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from peer.cli.client import Client, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory, Purpose, Reason
from peer.cli.output import CommandError, console, print_json, say
from peer.cli.partners import find_partner

DATA: Final = "data: "
"""Begins a line of a server-sent event that has content (WHATWG HTML, section 9.2)."""


def command(
    study: Annotated[str, typer.Argument(help="Study Instance UID, as `search` prints it.")],
    facility: Annotated[str, typer.Option("--from", help="The partner: name or identity.")],
    purpose: Purpose = "TREAT",
    reason: Reason = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Fetch the study; an interrupted retrieval goes on when it is asked for again."""

    async def conversation() -> dict[str, Any]:
        async with Client.open(data) as client:
            partner = await find_partner(client, facility)
            return await fetch(
                client, partner["peer_id"], study, purpose, reason=reason, quiet=as_json
            )

    status = run(conversation(), as_json=as_json)
    if as_json:
        print_json(status)
    if status["state"] != "complete":
        raise CommandError(
            status.get("code") or "retrieval-failed",
            status["sentence"],
            status.get("remedy", ""),
            as_json=False,
        )
    if not as_json:
        say(f"{status['sentence']}. The receipt is in both facilities' records.", style="green")


async def fetch(
    client: Client, peer_id: str, study: str, purpose: str, *, reason: str = "", quiet: bool
) -> dict[str, Any]:
    """Ask for a study, show how far it is, and return the last status of the retrieval."""
    asked = {
        "peer_id": peer_id,
        "study_instance_uid": study,
        "purpose": "BTG" if reason else purpose,
        "reason": reason,
    }
    status: dict[str, Any] = await client.post("/retrievals", asked)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, disable=quiet, transient=True) as progress:
        task = progress.add_task("Fetching and verifying", total=None)
        async for line in client.lines(f"/retrievals/{status['retrieval_id']}/events"):
            if not line.startswith(DATA):
                continue
            status = json.loads(line.removeprefix(DATA))
            progress.update(task, completed=status.get("bytes", 0), total=status.get("bytes_total"))
            if status["state"] not in {"asking", "fetching"}:
                break
    return status
