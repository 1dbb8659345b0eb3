"""Record, list, show and revoke patients' consent directives."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import instant, print_table, say
from peer.cli.partners import find_partner
from peer.cli.search import parse_identifier

app = typer.Typer(no_args_is_help=True)

DAY_S = 86_400


@app.command("grant")
def grant(
    patient: Annotated[str, typer.Argument(help="ISSUER/PATIENT-ID, as at this facility.")],
    to: Annotated[
        list[str] | None,
        typer.Option(help="A partner's name or identity, once for each; all partners if left out."),
    ] = None,
    modality: Annotated[list[str] | None, typer.Option(help="Only these modalities.")] = None,
    study: Annotated[list[str] | None, typer.Option(help="Only these studies.")] = None,
    purpose: Annotated[list[str] | None, typer.Option(help="Purposes of use.")] = None,
    days: Annotated[int | None, typer.Option(help="Ends after so many days.", min=1)] = None,
    grantor: Annotated[str, typer.Option(help="Who consented.")] = "patient",
    evidence: Annotated[
        str, typer.Option(help="BLAKE3 or SHA-256 of the signed form, hexadecimal.")
    ] = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Record a directive; what it permits is published to the partners at once."""
    identifier = parse_identifier(patient)

    async def work(client: Client) -> dict[str, Any]:
        recipients: str | list[str] = "all"
        if to:
            recipients = [(await find_partner(client, name))["peer_id"] for name in to]
        body: dict[str, Any] = {
            "patient": {"issuer": identifier["issuer"], "patient_id": identifier["value"]},
            "recipients": recipients,
            "scope": {
                "modalities": modality or [],
                "study_instance_uids": study or [],
            },
            "purposes": purpose or ["TREAT", "ETREAT"],
            "grantor": grantor,
            "evidence": evidence,
        }
        if days is not None:
            body["expires_at"] = int(time.time()) + days * DAY_S
        answer: dict[str, Any] = await client.post("/consents", body)
        return answer

    directive = ask(data, as_json, work)
    if not as_json:
        say(directive["sentence"], style="green")
        say(f"Directive {directive['directive_id']}")


@app.command("list")
def list_directives(
    patient: Annotated[str, typer.Option(help="ISSUER/PATIENT-ID; everyone if left out.")] = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List directives, newest first."""
    asked: dict[str, str] = {}
    if patient:
        identifier = parse_identifier(patient)
        asked = {"issuer": identifier["issuer"], "patient_id": identifier["value"]}
    answer = ask(data, as_json, lambda client: client.get("/consents", **asked))
    if as_json:
        return
    print_table(
        ("Directive", "Patient", "Status", "What", "Ends"),
        (
            (
                directive["directive_id"],
                f"{directive['patient']['issuer']}/{directive['patient']['patient_id']}",
                directive["status"],
                directive["sentence"],
                instant(directive["expires_at"]),
            )
            for directive in answer["consents"]
        ),
    )


@app.command("show")
def show(
    directive: Annotated[str, typer.Argument(help="The directive's identity.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show a directive and, once revoked, which partners have dropped what it permitted."""
    answer = ask(data, as_json, lambda client: client.get(f"/consents/{directive}"))
    if not as_json:
        describe(answer)


@app.command("acknowledgements")
def acknowledgements(
    outstanding: Annotated[
        bool, typer.Option("--outstanding", help="Only what some partner has not confirmed.")
    ] = False,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List what was withdrawn, which partners have applied it since when, and who has not."""
    state = "outstanding" if outstanding else "all"
    answer = ask(
        data, as_json, lambda client: client.get("/consents/acknowledgements", state=state)
    )
    if as_json:
        return
    if not answer["withdrawals"]:
        say("Nothing.")
        return
    print_table(
        ("Withdrawn", "Entries", "Applied by", "Not confirmed yet", "Revoked directives"),
        (
            (
                instant(each["at"]),
                each["entries"],
                "\n".join(map(_applied, each["applied"])),
                ", ".join(one["name"] for one in each["outstanding"]),
                " ".join(each["directive_ids"]),
            )
            for each in answer["withdrawals"]
        ),
    )


def _applied(one: dict[str, Any]) -> str:
    return f"{one['name']}: {instant(one['applied_at'])}"


@app.command("revoke")
def revoke(
    directive: Annotated[str, typer.Argument(help="The directive's identity.")],
    reason: Annotated[str, typer.Option(help="Why; stands in the audit record.")] = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Revoke a directive: withdrawn from every partner, and refused from this moment on."""
    body = {"reason": reason}
    answer = ask(data, as_json, lambda client: client.post(f"/consents/{directive}/revoke", body))
    if not as_json:
        describe(answer)


def describe(directive: dict[str, Any]) -> None:
    """Print a directive and the partners' acknowledgements of its withdrawal."""
    say(f"{directive['sentence']} Status: {directive['status']}.")
    for withdrawal in directive["withdrawals"]:
        applied = withdrawal["applied_at"]
        say(
            f"  {withdrawal['name']}: "
            + (f"withdrawn there, {instant(applied)}" if applied else "not acknowledged yet")
        )
