"""Patients here that turn out to be one person, or two: merge, split, undo."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import instant, print_table, say

app = typer.Typer(no_args_is_help=True)

Why = Annotated[str, typer.Option(help="Why; goes on record.")]


def _patient(text: str) -> dict[str, str]:
    """Return {"issuer", "patient_id"} of '[ISSUER/]PATIENT ID'."""
    issuer, _, value = text.rpartition("/")
    return {"issuer": issuer, "patient_id": value}


@app.command("merge")
def merge(
    gone: Annotated[str, typer.Argument(help="ISSUER/PATIENT-ID that shall mean the other.")],
    into: Annotated[str, typer.Argument(help="ISSUER/PATIENT-ID of who it is.")],
    reason: Why,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Let two Patient IDs mean one patient, who has the studies of both."""
    wanted = {"gone": _patient(gone), "into": _patient(into), "reason": reason}
    made = ask(data, as_json, lambda client: client.post("/patients/merge", wanted))
    if not as_json:
        say(f"{made['sentence']} Undo: openpriors patients undo {made['change']}", style="green")


@app.command("split")
def split(
    study: Annotated[list[str], typer.Argument(help="Study Instance UIDs that are another's.")],
    reason: Why,
    to: Annotated[str, typer.Option("--to", help="ISSUER/PATIENT-ID of whose they are.")] = "",
    name: Annotated[str, typer.Option(help="'Family^Given', of a patient to be made.")] = "",
    birth_date: Annotated[str, typer.Option("--birth-date", help="YYYY-MM-DD.")] = "",
    sex: Annotated[str, typer.Option(help="M, F or O.")] = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Give studies of one patient to another, who is made if not on record."""
    described = {"name": name, "birth_date": birth_date.replace("-", ""), "sex": sex}
    wanted = {
        "study_instance_uids": study,
        "into": _patient(to) | described,
        "reason": reason,
    }
    made = ask(data, as_json, lambda client: client.post("/patients/split", wanted))
    if not as_json:
        say(f"{made['sentence']} Undo: openpriors patients undo {made['change']}", style="green")


@app.command("changes")
def changes(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List merges and splits, the newest first."""
    answer = ask(data, as_json, lambda client: client.get("/patients/changes"))
    if as_json:
        return
    if not answer["changes"]:
        say("No patients were merged or split.")
        return
    print_table(
        ("Change", "What", "Why", "By", "At"),
        (
            (
                str(each["change"]),
                each["sentence"],
                each["reason"],
                each["by"],
                instant(each["at"]),
            )
            for each in answer["changes"]
        ),
    )


@app.command("undo")
def undo(
    change: Annotated[int, typer.Argument(help="Number of the change.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Give the studies back; what has come in since stays where it is."""
    undone = ask(data, as_json, lambda client: client.post(f"/patients/changes/{change}/undo", {}))
    if not as_json:
        say(undone["sentence"], style="green")
