"""Print the sentences on availability and search for a study's final report, with evidence."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import say

SECTIONS = (("data_availability", "DATA AVAILABILITY"), ("data_search", "DATA SEARCH"))


def command(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Print each sentence, its code and the evidence for it."""
    answer = ask(data, as_json, lambda client: client.get("/report", study_instance_uid=study))
    if as_json:
        return
    for key, title in SECTIONS:
        section = answer[key]
        say(f"{title} ({section['code']})", style="bold")
        say(section["sentence"])
        if answer["final_report"] is not None:
            say(answer["final_report"][key]["sentence"], style="yellow")
        for line in section["evidence"]:
            say(f"  - {line}")
