"""Whose records are: ask a facility, answer those who ask us, link two records."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory, Purpose, Reason
from peer.cli.output import instant, print_table, say
from peer.cli.partners import find_partner
from peer.cli.search import parse_identifier

app = typer.Typer(no_args_is_help=True)


@app.command("ask")
def ask_facility(
    record: Annotated[str, typer.Argument(help="The record, as the search has named it.")],
    facility: Annotated[str, typer.Option("--at", help="The partner: name or identity.")],
    name: Annotated[str, typer.Option(help="'Family^Given' or 'Family, Given'.")] = "",
    birth_date: Annotated[str, typer.Option("--birth-date", help="YYYY-MM-DD.")] = "",
    sex: Annotated[str, typer.Option(help="M, F or O.")] = "",
    identifier: Annotated[
        list[str] | None, typer.Option("--id", help="ISSUER/VALUE; may be given several times.")
    ] = None,
    purpose: Purpose = "TREAT",
    reason: Reason = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Name the patient to the one facility that holds a record which may be theirs."""

    async def work(client: Client) -> dict[str, Any]:
        partner = await find_partner(client, facility)
        question = {
            "peer_id": partner["peer_id"],
            "record": record,
            "name": name,
            "birth_date": birth_date.replace("-", ""),
            "sex": sex,
            "identifiers": [parse_identifier(text) for text in identifier or []],
            "purpose": "BTG" if reason else purpose,
            "reason": reason,
        }
        answer: dict[str, Any] = await client.post("/search/identify", question)
        return answer

    said = ask(data, as_json, work)
    if not as_json:
        say(said["sentence"])


@app.command("list")
def waiting(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List the questions of partners at which someone here must look."""
    answer = ask(data, as_json, lambda client: client.get("/identity-questions"))
    if as_json:
        return
    if not answer["questions"]:
        say("No partner waits for an answer.")
        return
    print_table(
        ("Question", "Facility", "Asked", "Their patient", "Our record", "Compared"),
        (
            (
                str(each["question"]),
                each["facility"]["name"],
                instant(each["asked_at"]),
                f"{each['theirs']['name']} {each['theirs']['birth_date']}",
                f"{each['ours']['name']} {each['ours']['birth_date']}",
                "; ".join(each["reasons"]),
            )
            for each in answer["questions"]
        ),
    )


@app.command("answer")
def decide(
    question: Annotated[int, typer.Argument(help="Number of the question.")],
    same: Annotated[bool, typer.Option("--same/--other", help="One person, or somebody else.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Say whether both descriptions are of one person."""
    path = f"/identity-questions/{question}"
    ask(data, as_json, lambda client: client.post(path, {"same": same}))
    if not as_json:
        say("Kept. The facility gets the answer when it asks again.", style="green")


@app.command("link")
def link(
    one: Annotated[str, typer.Argument(help="A record, as 'search --json' names it in \"ref\".")],
    other: Annotated[str, typer.Argument(help='Another record, or the answer\'s own "ref".')],
    same: Annotated[bool, typer.Option("--same/--other", help="One person, or two people.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Say that two records are one person's, or two people's; a signed word that can be undone."""
    said = {"one": one, "other": other, "same": same}
    made = ask(data, as_json, lambda client: client.post("/person-links", said))
    if not as_json:
        say(f"{made['sentence']} Undo: openpriors identity undo {made['link']}", style="green")


@app.command("links")
def links(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List the links that stand."""
    answer = ask(data, as_json, lambda client: client.get("/person-links"))
    if as_json:
        return
    if not answer["links"]:
        say("Nothing was said of any two records.")
        return
    print_table(
        ("Link", "Said", "By", "At"),
        (
            (str(each["link"]), each["sentence"], each["by"], instant(each["at"]))
            for each in answer["links"]
        ),
    )


@app.command("undo")
def undo(
    number: Annotated[int, typer.Argument(metavar="LINK", help="Number of the link.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Undo a link: nothing is said of the two records any more."""
    ask(data, as_json, lambda client: client.post(f"/person-links/{number}/undo", {}))
    if not as_json:
        say("Undone. The next search goes by the score again.", style="green")
