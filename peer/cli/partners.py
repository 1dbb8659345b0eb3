"""List, confirm and remove partner facilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import CommandError, instant, print_json, print_table, say, size
from peer.search import Mode
from protocol.limits import CLOCK_WARNING_S

app = typer.Typer(no_args_is_help=True)

SHORTEST_PREFIX = 8
"""Least digits of an identity that may stand for it: 32 bits, no two partners share them."""


async def find_partner(client: Client, wanted: str) -> dict[str, Any]:
    """Return the partner whose name, identity or beginning of an identity is `wanted`."""
    partners = (await client.get("/partners"))["partners"]
    found = [
        partner
        for partner in partners
        if partner["name"].casefold() == wanted.casefold()
        or (len(wanted) >= SHORTEST_PREFIX and partner["peer_id"].startswith(wanted.lower()))
    ]
    match found:
        case [partner]:
            return partner  # type: ignore[no-any-return]
        case []:
            known = ", ".join(partner["name"] for partner in partners) or "none yet"
            raise CommandError("unknown-partner", f"No partner is called so. Known: {known}.")
        case _:
            raise CommandError(
                "ambiguous-partner",
                "Several partners are called so.",
                "Name it by its identity, as `openpriors partners list` prints it.",
            )


@app.command("list")
def list_partners(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List every partner with its state and connection."""
    answer = ask(data, as_json, lambda client: client.get("/partners"))
    if as_json:
        return
    if not answer["partners"]:
        say("No partners yet. Make an invitation with: openpriors invite")
        return
    print_table(
        ("Facility", "State", "Connected", "Last confirmed", "Digests", "Words", "Identity"),
        (
            (
                partner["name"],
                partner["state"],
                _connection(partner),
                instant(partner["last_confirmed_at"]),
                partner["digests"],
                " ".join(partner["words"]) if partner["state"] == "pending" else None,
                partner["peer_id"][:16],
            )
            for partner in answer["partners"]
        ),
    )


def _connection(partner: dict[str, Any]) -> str:
    """Return how a partner is connected, and what is odd about it."""
    if not partner["connected"]:
        return str(partner["last_error"]) or "no"
    if partner["slowed_at"] is not None:
        return "slowed: sends more than its budget"
    offset = partner["clock_offset_s"]
    return f"yes; its clock differs by {offset:+} s" if abs(offset) > CLOCK_WARNING_S else "yes"


@app.command("reciprocity")
def reciprocity(
    partner: Annotated[str, typer.Argument(help="Name or identity; everyone if left out.")] = "",
    days: Annotated[int, typer.Option(help="So many days up to today.", min=1)] = 30,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show what was given to each partner and received from it."""

    async def work(client: Client) -> dict[str, Any]:
        asked: dict[str, str | int] = {"days": days}
        if partner:
            asked["peer_id"] = (await find_partner(client, partner))["peer_id"]
        answer: dict[str, Any] = await client.get("/partners/reciprocity", **asked)
        return answer

    answer = ask(data, as_json, work)
    if as_json:
        return
    if not answer["partners"]:
        say("No partners yet. Make an invitation with: openpriors invite")
        return
    say(f"From {instant(answer['since'])} on", style="bold")
    print_table(
        ("Facility", "", "Entries", "Searches", "Studies", "Size", "Refused"),
        (
            (each["name"] if way == "given" else None, way, *_side(each[way]))
            for each in answer["partners"]
            for way in ("given", "received")
        ),
    )
    for each in answer["partners"]:
        say(f"{each['name']}: {each['completeness']['sentence']}")
    until = answer["partners"][0]["today"]["opens_at"]
    say(f"Used of what is agreed for a day, until {instant(until)}", style="bold")
    print_table(
        ("Facility", "", "Searches", "Studies", "Size"),
        (
            (each["name"] if way == "given" else None, way, *_used(each["today"][way]))
            for each in answer["partners"]
            for way in ("given", "received")
        ),
    )
    for each in answer["partners"]:
        if each["state"] == "active" and not each["exchange"]["answered"]:
            exchange = each["exchange"]
            say(f"{each['name']} is not answered now: {exchange['reason']}", style="yellow")


def _side(side: dict[str, Any]) -> tuple[object, ...]:
    refused = ", ".join(f"{each['times']} {each['code']}" for each in side["refused"])
    entries = "unknown" if side["entries"] is None else side["entries"]
    return (entries, side["searches"], side["studies"], size(side["bytes"]), refused)


def _used(figures: dict[str, Any]) -> tuple[str, ...]:
    """Return how much of each figure is used, "12 of 1000"; without a figure what is used."""
    said = []
    for what in ("searches", "studies", "bytes"):
        used, agreed = figures[what]["used"], figures[what]["agreed"]
        shown = size if what == "bytes" else str
        said.append(shown(used) if agreed is None else f"{shown(used)} of {shown(agreed)}")
    return tuple(said)


@app.command("confirm")
def confirm(
    partner: Annotated[str, typer.Argument(help="Name or identity.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Say that both screens show the same six words; the other side must confirm too."""

    async def work(client: Client) -> dict[str, Any]:
        found = await find_partner(client, partner)
        answer: dict[str, Any] = await client.post(f"/partners/{found['peer_id']}/confirm")
        return answer

    answer = ask(data, as_json, work)
    if as_json:
        return
    if answer["state"] == "active":
        say(f"{answer['name']} is a partner now.", style="green")
    else:
        say(f"Confirmed here. {answer['name']} has not confirmed yet; it gets nothing until then.")


@app.command("fork")
def fork(
    partner: Annotated[str, typer.Argument(help="Name or identity.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write the evidence to; else it is printed.")
    ] = None,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show the evidence that a partner has told two histories of its journal."""

    async def work() -> dict[str, Any]:
        async with Client.open(data) as client:
            found = await find_partner(client, partner)
            answer: dict[str, Any] = await client.get(f"/partners/{found['peer_id']}/fork")
            return answer

    answer = run(work(), as_json=as_json)
    if out is not None:
        try:
            out.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise CommandError(
                "cannot-write", f"{out} cannot be written: {error.strerror}."
            ) from error
    if as_json or out is None:
        print_json(answer)
        return
    say(f"{answer['name']} has signed two histories: they differ from batch {answer['batch']} on.")
    say(f"The evidence is in {out}. It can be verified by anybody, without this node; show it to")
    say("the other facility. Nothing of that batch and the later ones is listed here.")


@app.command("mode")
def mode(
    partner: Annotated[str, typer.Argument(help="Name or identity.")],
    mode: Annotated[Mode, typer.Argument(help="How it is to search here from now on.")],
    reason: Annotated[str, typer.Option(help="Why; stands in the audit record.")] = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Choose whether a partner asks for each search (guarded) or holds our keys (delegated)."""

    async def work() -> dict[str, Any]:
        async with Client.open(data) as client:
            found = await find_partner(client, partner)
            answer: dict[str, Any] = await client.post(
                f"/partners/{found['peer_id']}/mode", {"mode": mode, "reason": reason}
            )
            return answer

    answer = run(work(), as_json=as_json)
    if as_json:
        print_json(answer)
        return
    say(f"{answer['name']} is {mode} now. {answer['search']['effect']}")
    if mode is Mode.GUARDED:
        say("It keeps keys that it had; all is published anew under other ones, in the background.")


@app.command("remove")
def remove(
    partner: Annotated[str, typer.Argument(help="Name or identity.")],
    reason: Annotated[str, typer.Option(help="Why; stands in the audit record.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """End a partnership at once; only a new invitation can bring it back."""

    async def work() -> dict[str, Any]:
        async with Client.open(data) as client:
            found = await find_partner(client, partner)
            answer: dict[str, Any] = await client.delete(
                f"/partners/{found['peer_id']}", {"reason": reason}
            )
            return answer

    answer = run(work(), as_json=as_json)
    if as_json:
        print_json(answer)
    else:
        say(f"{answer['name']} is no partner any more. It was asked to delete what it holds of us;")
        say("deletion at the other side cannot be forced.")
