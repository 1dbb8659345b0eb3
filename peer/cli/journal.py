"""Show how this node's own journal stands, and the patients held after a restore."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import CommandError, instant, print_table, say
from peer.cli.search import parse_identifier

app = typer.Typer(no_args_is_help=True)

_STATES = {
    "writing": "In order.",
    "starting": "Waiting for the first partner to say what it holds of it.",
    "claimed": "A partner says that it holds more of it than this node; it was asked to show it.",
    "behind": "Older than what partners were told; its lost end is fetched back from them.",
    "forked": "Partners hold another history of it than this node.",
    "rebuilding": "Whole again; what is published is being compared with it.",
}


@app.command("show")
def show(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Say whether the journal can be written, and which partners have said what they hold of it."""
    journal = ask(data, as_json, lambda client: client.get("/journal"))
    if as_json:
        return
    say(f"Epoch {journal['epoch']}, batch {journal['batch']}, {journal['live']} entries live")
    good = journal["state"] == "writing"
    say(_STATES[journal["state"]], style="green" if good else "yellow")
    if journal["partners"]:
        print_table(
            ("Partner", "Answered", "Holds of it", "Has come back"),
            (
                (
                    partner["name"],
                    "yes" if partner["answered"] else "no",
                    _holds(partner["holds"]) if partner["answered"] else "",
                    "" if not partner["answered"] else "no" if partner["lacking"] else "yes",
                )
                for partner in journal["partners"]
            ),
        )


@app.command("recover")
def recover(
    root_key: Annotated[
        Path | None,
        typer.Option(help="File of the root key: go on without whoever is silent."),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Do not wait for partners that may still answer.")
    ] = False,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Say what a journal that was set back waits for; with the root key, go on without it."""
    if root_key is None:
        _say_what_it_waits_for(data, as_json)
        return
    answer = ask(data, as_json, partial(_begin_epoch, root_key, now))
    if not as_json:
        say(f"The journal goes on in epoch {answer['epoch']}.", style="green")
        say("Check consents and removed partners from after the backup: see `journal holds`.")


def _say_what_it_waits_for(data: Path, as_json: bool) -> None:
    journal = ask(data, as_json, lambda client: client.get("/journal"))
    if as_json:
        return
    if journal["next_epoch"] is None:
        say(_STATES[journal["state"]], style="green")
        return
    waiting = [each["name"] for each in journal["partners"] if not each["answered"]]
    lacking = [each["name"] for each in journal["partners"] if each["lacking"]]
    say(f"{_STATES[journal['state']]} Still to answer: {', '.join(waiting) or 'nobody'}.")
    if lacking:
        say(f"Name a part of it that has not come back yet: {', '.join(lacking)}.")
    say(
        f"If some never will answer, or never give it back: remove them, or after"
        f" {instant(journal['epoch_due_at'])} go on without them with --root-key FILE. What only"
        " they hold is then lost."
    )


async def _begin_epoch(root_key: Path, now: bool, client: Client) -> dict[str, Any]:
    from peer.errors import NodeError
    from peer.keys import read_root_key
    from protocol.epochs import VERSION, EpochRecord, sign_epoch
    from protocol.errors import ProtocolError

    status = await client.get("/status")
    following = (await client.get("/journal"))["next_epoch"]
    if following is None:
        raise CommandError("no-recovery", "The journal is in order: there is nothing to recover.")
    record = EpochRecord(
        version=VERSION,
        origin=bytes.fromhex(status["facility"]["peer_id"]),
        epoch=following["epoch"],
        first_batch=following["first_batch"],
        previous=bytes.fromhex(following["previous"]),
        issued_at=int(time.time()),
    )
    try:
        signed = sign_epoch(read_root_key(root_key), record)
    except (NodeError, ProtocolError) as error:
        raise CommandError("root-key", f"{error}") from error
    body = {"record": signed.record.hex(), "signature": signed.signature.hex(), "now": now}
    answer: dict[str, Any] = await client.post("/journal/epoch", body)
    return answer


@app.command("holds")
def holds(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List the patients of whom nothing is published until somebody has looked."""
    answer = ask(data, as_json, lambda client: client.get("/journal/holds"))
    if as_json:
        return
    if not answer["holds"]:
        say("Nobody is held.")
        return
    print_table(
        ("Patient", "Since", "Why"),
        (
            (
                f"{each['patient']['issuer']}/{each['patient']['patient_id']}",
                instant(each["since"]),
                each["reason"],
            )
            for each in answer["holds"]
        ),
    )


@app.command("release")
def release(
    patient: Annotated[str, typer.Argument(help="ISSUER/PATIENT-ID, as `journal holds` lists it.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Publish a held patient again, as the consents on record permit."""
    identifier = parse_identifier(patient)
    body = {"patient": {"issuer": identifier["issuer"], "patient_id": identifier["value"]}}
    ask(data, as_json, lambda client: client.post("/journal/holds/release", body))
    if not as_json:
        say("Released: the consents on record say again what is published.", style="green")


def _holds(claim: dict[str, int] | None) -> str:
    return "nothing" if claim is None else f"epoch {claim['epoch']}, batch {claim['batch']}"
