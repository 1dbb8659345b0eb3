"""Verify and export the audit record, and account for disclosures."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import CommandError, instant, print_json, print_table, say
from peer.cli.search import parse_identifier

app = typer.Typer(no_args_is_help=True)


@app.command("verify")
def verify(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Recompute the whole chain; name the first broken record, if there is one."""
    answer = ask(data, as_json, lambda client: client.get("/audit/verify"))
    if not answer["ok"]:
        raise CommandError(
            "audit-broken",
            f"The audit record is broken at record {answer['first_broken']}: {answer['reason']}",
            "Keep a copy of the data directory as evidence and tell the privacy officer.",
        )
    if not as_json:
        say(f"All {answer['records']} audit records are whole and in order.", style="green")


@app.command("export")
def export(
    since: Annotated[int | None, typer.Option(help="From this UTC second on.")] = None,
    until: Annotated[int | None, typer.Option(help="Before this UTC second.")] = None,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Print the records as JSON lines; with --json, as one JSON document."""
    records: list[Any] = []

    async def work() -> None:
        async with Client.open(data) as client:
            async for line in client.lines("/audit/export", since=since, until=until):
                if as_json:
                    records.append(json.loads(line))
                else:
                    sys.stdout.write(line + "\n")

    run(work(), as_json=as_json)
    if as_json:
        print_json({"records": records})


@app.command("disclosures")
def disclosures(
    patient: Annotated[str, typer.Argument(help="ISSUER/PATIENT-ID, as at this facility.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Account for what of a patient went to whom, when and why (45 CFR 164.528)."""
    identifier = parse_identifier(patient)
    answer = ask(
        data,
        as_json,
        lambda client: client.get(
            "/audit/disclosures", issuer=identifier["issuer"], patient_id=identifier["value"]
        ),
    )
    if as_json:
        return
    if not answer["disclosures"]:
        say("Nothing of this patient was disclosed.")
        return
    print_table(
        ("When", "Recipient", "What", "Purpose", "Who"),
        (
            (instant(each["at"]), each["recipient"], each["what"], each["purpose"], each["actor"])
            for each in answer["disclosures"]
        ),
    )
