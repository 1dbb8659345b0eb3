"""Collect studies from a PACS, and say what it listed and what is here."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import typer

from peer.cli.client import Client, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import print_json, print_table, say

POLL_S: Final = 0.5
"""How often the node is asked how far it is."""


def command(
    title: Annotated[str, typer.Argument(help="AE title of the PACS, as in dicom.known_aes.")],
    studies_from: Annotated[
        str, typer.Option("--from", help="First day of the studies, YYYYMMDD.")
    ] = "",
    studies_until: Annotated[str, typer.Option("--until", help="Last day, YYYYMMDD.")] = "",
    modality: Annotated[str, typer.Option(help="One modality, such as CT.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    patient: Annotated[str, typer.Option(help="Patient ID, as the PACS writes it.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Whether to follow it to its end.")
    ] = True,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Fetch all that matches and is not here yet; the node goes on if this is interrupted."""
    asked = {
        "title": title,
        "studies_from": studies_from or None,
        "studies_until": studies_until or None,
        "modality": modality,
        "accession_number": accession,
        "patient_id": patient,
    }

    async def conversation() -> dict[str, Any]:
        async with Client.open(data) as client:
            begun: dict[str, Any] = await client.post("/collections", asked)
            address = f"/collections/{begun['collection_id']}"
            found: dict[str, Any] = await client.get(address)
            while wait and found["ended_at"] is None:
                await asyncio.sleep(POLL_S)
                found = await client.get(address)
            return found

    found = run(conversation(), as_json=as_json)
    if as_json:
        print_json(found)
    else:
        _tell(found)
    if wait and found["state"] != "complete":
        raise typer.Exit(1)


def _tell(found: dict[str, Any]) -> None:
    if found["not_complete"]:
        rows = [
            (each["study_instance_uid"], each["listed"], len(each["missing"]), each["reason"])
            for each in found["not_complete"]
        ]
        print_table(("Study", "Listed", "Missing", "Reason"), rows)
    here = found["instances_listed"] - found["instances_missing"]
    say(
        f"{found['state'].capitalize()}: {found['title']} listed {found['studies']} studies, "
        f"{found['studies_complete']} of them are here; {here}/{found['instances_listed']} "
        f"instances. {found['reason']}".rstrip(),
        style="green" if found["state"] == "complete" else "red",
    )
