"""Have expected patients searched for ahead, or show what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory, Purpose
from peer.cli.output import CommandError, day, instant, print_table, say
from peer.search import expected_file
from protocol.errors import Refusal


def command(
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV with a heading: name, birth_date, sex, identifier, issuer."),
    ] = None,
    purpose: Purpose = "TREAT",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Put the patients of a file on the list; without a file print the list."""
    if file is None:
        answer = ask(data, as_json, lambda client: client.get("/prefetch"))
        if not as_json:
            show(answer["patients"])
        return
    body = {"patients": read(file), "purpose": purpose}
    answer = ask(data, as_json, lambda client: client.post("/prefetch", body))
    if not as_json:
        say(f"{answer['waiting']} patients are waiting to be searched for.")


def read(file: Path) -> list[dict[str, Any]]:
    """Return the patients of a CSV file; raise CommandError if it is none."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return expected_file.read(lines)
    except Refusal as refusal:
        raise CommandError(refusal.code, refusal.reason, refusal.remedy) from refusal
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            "not-readable", "The file cannot be read as CSV in UTF-8.", "Check its path and form."
        ) from error


def show(patients: list[dict[str, Any]]) -> None:
    """Print the list."""
    if not patients:
        say("Nobody is expected.")
        return
    rows = [
        (
            each["name"],
            day(each["birth_date"]),
            each["state"],
            each["studies"],
            len(each["fetched"]),
            instant(each["tried_at"]),
            each["sentence"],
            each["note"],
        )
        for each in patients
    ]
    print_table(
        ("Name", "Born", "State", "Studies", "Fetched", "Searched", "Coverage", "Why"), rows
    )
