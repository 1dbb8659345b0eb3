"""Retrievals: how far each is; of those that did not come, try one again or take it off."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory, Purpose, Reason
from peer.cli.output import instant, print_table, say

app = typer.Typer(no_args_is_help=True)

Retrieval = Annotated[str, typer.Argument(help="Its number, as `retrievals parked` prints it.")]


@app.command("list")
def list_(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List the retrievals, how far each is and what slows it, newest first."""
    answer = ask(data, as_json, lambda client: client.get("/retrievals"))
    if as_json:
        return
    if not answer["retrievals"]:
        say("Nothing has been retrieved.")
        return
    print_table(
        ("Retrieval", "Started", "From", "Study", "State", "Progress"),
        (
            (
                each["retrieval_id"],
                instant(each["started_at"]),
                each["name"],
                each["study_instance_uid"],
                each["state"],
                each["sentence"],
            )
            for each in answer["retrievals"]
        ),
    )


@app.command("parked")
def parked(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List what did not come, with the reason and what to do, newest first."""
    answer = ask(data, as_json, lambda client: client.get("/retrievals/parked"))
    if as_json:
        return
    if not answer["retrievals"]:
        say("Everything that was asked for has come, or is on its way.")
        return
    print_table(
        ("Retrieval", "Ended", "From", "Study", "State", "Reason", "What to do"),
        (
            (
                each["retrieval_id"],
                instant(each["changed_at"]),
                each["name"],
                each["study_instance_uid"],
                each["state"],
                each["reason"],
                each["remedy"],
            )
            for each in answer["retrievals"]
        ),
    )


@app.command("retry")
def retry(
    retrieval: Retrieval,
    purpose: Purpose = "TREAT",
    reason: Reason = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Begin anew to fetch what did not come."""
    asked = {"purpose": "BTG" if reason else purpose, "reason": reason}

    async def begin(client: Client) -> dict[str, Any]:
        started: dict[str, Any] = await client.post(f"/retrievals/{retrieval}/retry", asked)
        return started

    started = ask(data, as_json, begin)
    if not as_json:
        say(started["sentence"])


@app.command("remove")
def remove(
    retrieval: Retrieval, data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False
) -> None:
    """Take what did not come off the list; receipts and audit records stay."""
    ask(data, as_json, lambda client: client.delete(f"/retrievals/{retrieval}"))
    if not as_json:
        say("Taken off the list.", style="green")
