"""Make an invitation for a new partner; it is valid once."""

from __future__ import annotations

from typing import Annotated

import segno
import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import console, instant, say


def command(
    hours: Annotated[
        int | None,
        typer.Option(help="How long it is valid, if not for pairing.invitation_s.", min=1),
    ] = None,
    qr: Annotated[bool, typer.Option("--qr", help="Show it as a QR code too.")] = False,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Print the invitation and what to do with it."""
    asked = {} if hours is None else {"valid_s": hours * 3600}
    answer = ask(data, as_json, lambda client: client.post("/invitations", asked))
    if as_json:
        return
    say("Give this to the other facility's operator; whoever has it can ask to be your partner:")
    console.print(answer["invitation"], soft_wrap=True, highlight=False, markup=False)
    if qr:
        segno.make(answer["invitation"], error="l").terminal(compact=True)
    say(f"It is valid once, until {instant(answer['expires_at'])}.")
    say("They run: openpriors join INVITATION. Then compare the six words by telephone, and both")
    say("sides run: openpriors partners confirm NAME")
