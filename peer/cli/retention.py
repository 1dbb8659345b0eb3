"""Show until when studies must be kept, and whether one may be purged."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import day, print_table, say

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_locks(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List the studies of this facility with the end of their retention lock."""
    answer = ask(data, as_json, lambda client: client.get("/retention"))
    if as_json:
        return
    print_table(
        ("Study", "Study date", "Locked", "Until", "Reason"),
        (
            (
                study["study_instance_uid"],
                day(study["study_date"]),
                "yes" if study["locked"] else "no",
                study["until"],
                study["reason"],
            )
            for study in answer["studies"]
        ),
    )


@app.command("check")
def check(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Say whether a study may be purged today, and why."""
    body = {"study_instance_uid": study}
    lock = ask(data, as_json, lambda client: client.post("/retention/check", body))
    if not as_json:
        say(lock["reason"], style="yellow" if lock["locked"] else "green")
