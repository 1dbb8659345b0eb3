"""Show new studies of patients whom one has searched for, or say that they were seen."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import day, instant, print_table, say


def command(
    seen: Annotated[
        list[int] | None, typer.Option(help="Number of one that was seen; may be repeated.")
    ] = None,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List what has come since the search, or call it seen."""
    if seen:
        said = ask(data, as_json, lambda client: client.post("/new-priors/seen", {"priors": seen}))
        if not as_json:
            say(f"{said['seen']} seen.")
        return
    answer = ask(data, as_json, lambda client: client.get("/new-priors"))
    if as_json:
        return
    if not answer["priors"]:
        say("Nothing new of the patients whom you have searched for.")
        return
    print_table(
        ("Number", "Facility", "Patient", "Date", "Modality", "Description", "Found", "Seen"),
        (
            (
                str(each["prior"]),
                each["facility"]["name"],
                each["patient"]["name"],
                day(each["study_date"]),
                "/".join(each["modalities"]),
                each["description"],
                instant(each["found_at"]),
                instant(each["seen_at"]),
            )
            for each in answer["priors"]
        ),
    )
