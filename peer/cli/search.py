"""Search every facility for a person's studies, by name and birth date or by identifier."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory, Purpose, Reason
from peer.cli.output import CommandError, day, print_table, remark, say


def command(
    name: Annotated[str, typer.Argument(help="'Family^Given' or 'Family, Given'.")] = "",
    birth_date: Annotated[str, typer.Option("--birth-date", help="YYYY-MM-DD.")] = "",
    sex: Annotated[str, typer.Option(help="M, F or O.")] = "",
    identifier: Annotated[
        list[str] | None, typer.Option("--id", help="ISSUER/VALUE; may be given several times.")
    ] = None,
    modality: Annotated[str, typer.Option(help="Only studies with it: CT, MR, ...")] = "",
    body_part: Annotated[str, typer.Option(help="Only studies of it: CHEST, ...")] = "",
    since: Annotated[str, typer.Option("--from", help="Only from that day on: YYYY-MM-DD.")] = "",
    until: Annotated[str, typer.Option("--to", help="Only to that day: YYYY-MM-DD.")] = "",
    facility: Annotated[str, typer.Option(help="Only of it: a part of its name.")] = "",
    description: Annotated[str, typer.Option(help="Only with these words in it.")] = "",
    accession_number: Annotated[str, typer.Option("--accession-number", help="Only that.")] = "",
    purpose: Purpose = "TREAT",
    reason: Reason = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Print one merged list and the coverage line."""
    question: dict[str, Any] = {
        "name": name,
        "birth_date": birth_date.replace("-", ""),
        "sex": sex,
        "identifiers": [parse_identifier(text) for text in identifier or []],
        "purpose": "BTG" if reason else purpose,
        "reason": reason,
        "filters": {
            "modality": modality,
            "body_part": body_part,
            "date_from": since,
            "date_to": until,
            "facility": facility,
            "description": description,
            "accession_number": accession_number,
        },
    }
    if as_json:
        ask(data, as_json, lambda client: client.post("/search", question))
    else:
        show(ask(data, as_json, lambda client: _followed(client, question)))


async def _followed(client: Client, question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer; meanwhile what each facility has is said as it comes."""
    async for event in client.events("/search", question):
        if event["event"] == "answer":
            return event
        remark(event["sentence"])
    raise CommandError("no-answer", "The node has ended the search.", "Search again.")


def parse_identifier(text: str) -> dict[str, str]:
    """Return {"issuer", "value"} of 'ISSUER/VALUE'; anything else is a wrong call."""
    issuer, slash, value = text.rpartition("/")
    if not slash or not issuer or not value:
        raise typer.BadParameter(
            "an identifier is written ISSUER/VALUE, for example urn:oid:1.2.3/123456"
        )
    return {"issuer": issuer, "value": value}


def show(answer: dict[str, Any]) -> None:
    """Print a search's answer as a table and its coverage line."""
    rows = [
        (
            result["facility"]["name"],
            day(result["study_date"]),
            "/".join(result["modalities"]),
            result["description"],
            result["patient"]["name"],
            f"{_tier(result['match'])}: {'; '.join(result['match']['reasons'])}",
            result["study_instance_uid"],
        )
        for result in answer["results"]
    ]
    if rows:
        print_table(
            ("Facility", "Date", "Modality", "Description", "Patient", "Match", "Study"), rows
        )
    elif not answer["left_out"]:
        none = "None found with certainty." if answer["likely"] or answer["hints"] else ""
        say(none or "None found at the searched facilities.")
    if left_out := answer["left_out"]:
        say(f"{left_out} more found and left out by the options of this search.")
    for each in answer["likely"]:
        say(f"{each['sentence']} {'; '.join(each['match']['reasons'])}.")
        pair = f"{each['ref']} {answer['ref']}"
        say(f"  If it is the patient's: openpriors identity link {pair} --same (or --other)")
    for hint in answer["hints"]:
        say(f"{hint['sentence']} To ask: openpriors identity ask {hint['record']}")
    say(answer["coverage"]["sentence"], style="bold")


def _tier(match: dict[str, Any]) -> str:
    return "confirmed" if match["confirmed"] else str(match["tier"])
