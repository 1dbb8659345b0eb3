"""Check what a partner shares with studies that are known to be there."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory, Purpose
from peer.cli.output import CommandError, day, instant, print_json, print_table, say
from peer.cli.partners import find_partner
from peer.cli.search import parse_identifier

app = typer.Typer(no_args_is_help=True)

Partner = Annotated[str, typer.Argument(help="Name or identity of the partner.")]
Number = Annotated[int, typer.Argument(help="Number of the check, as `checks list` prints it.")]

_SAID = {
    "found": "Found there.",
    "missed": "Not found there. Ask the facility why: consent may have ended, the patient "
    "may be written otherwise, or it was forgotten.",
}


@app.command("add")
def add(
    partner: Partner,
    name: Annotated[str, typer.Argument(help="'Family^Given' or 'Family, Given'.")] = "",
    birth_date: Annotated[str, typer.Option("--birth-date", help="YYYY-MM-DD.")] = "",
    sex: Annotated[str, typer.Option(help="M, F or O.")] = "",
    identifier: Annotated[
        list[str] | None, typer.Option("--id", help="ISSUER/VALUE; may be given several times.")
    ] = None,
    study_date: Annotated[
        str, typer.Option("--study-date", help="When the study was made, YYYY-MM-DD; required.")
    ] = "",
    accession: Annotated[str, typer.Option(help="Its accession number, if known.")] = "",
    study: Annotated[str, typer.Option(help="Its Study Instance UID, if known.")] = "",
    modality: Annotated[str, typer.Option(help="Its modality, if known.")] = "",
    agreed: Annotated[
        bool,
        typer.Option("--agreed", help="The patient has agreed there to our being shown it."),
    ] = False,
    purpose: Purpose = "TREAT",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Look for a study at the partner where it was made."""
    if not agreed:
        raise CommandError(
            "not-agreed",
            "A study counts only if the patient has agreed there to our being shown it.",
            "Add --agreed if that is so.",
            as_json=as_json,
        )
    named = {
        "name": name,
        "birth_date": birth_date.replace("-", ""),
        "sex": sex,
        "identifiers": [parse_identifier(text) for text in identifier or []],
        "study_date": study_date.replace("-", ""),
        "accession_number": accession,
        "study_instance_uid": study or None,
        "modality": modality,
        "agreed": agreed,
        "purpose": purpose,
    }

    async def work(client: Client) -> dict[str, Any]:
        found = await find_partner(client, partner)
        answer: dict[str, Any] = await client.post(f"/partners/{found['peer_id']}/checks", named)
        return answer

    _tell(ask(data, as_json, work), as_json=as_json)


@app.command("list")
def list_checks(
    partner: Partner, data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False
) -> None:
    """List the checks of a partner, what was missed first, and what they say of it."""

    async def work(client: Client) -> dict[str, Any]:
        found = await find_partner(client, partner)
        answer: dict[str, Any] = await client.get(f"/partners/{found['peer_id']}/checks")
        return answer

    answer = ask(data, as_json, work)
    if as_json:
        return
    print_table(
        ("Check", "Patient", "Study", "Accession", "Found", "Looked for", "Named by"),
        (
            (
                each["check"],
                each["patient"]["name"],
                f"{day(each['study_date'])} {each['modality']}",
                each["accession_number"],
                each["code"] or each["verdict"],
                instant(each["checked_at"]),
                each["named_by"],
            )
            for each in answer["checks"]
        ),
    )
    say(answer["completeness"]["sentence"], style="bold")


@app.command("again")
def again(
    partner: Partner,
    check: Number,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Look for a study once more."""

    async def work(client: Client) -> dict[str, Any]:
        found = await find_partner(client, partner)
        answer: dict[str, Any] = await client.post(
            f"/partners/{found['peer_id']}/checks/{check}/again"
        )
        return answer

    _tell(ask(data, as_json, work), as_json=as_json)


@app.command("drop")
def drop(
    partner: Partner,
    check: Number,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit record.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Forget a study that was named by mistake, or is not shared with us after all."""

    async def work() -> dict[str, Any]:
        async with Client.open(data) as client:
            found = await find_partner(client, partner)
            answer: dict[str, Any] = await client.delete(
                f"/partners/{found['peer_id']}/checks/{check}", {"reason": reason}
            )
            return answer

    answer = run(work(), as_json=as_json)
    if as_json:
        print_json(answer)
    else:
        say(answer["completeness"]["sentence"], style="bold")


def _tell(check: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        return
    said = _SAID.get(check["verdict"], f"This check does not count: {check['code']}.")
    say(said, style="green" if check["verdict"] == "found" else "yellow")
