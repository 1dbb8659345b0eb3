"""Answer a partner's invitation; shows the six words to compare by telephone."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import say


def command(
    invitation: Annotated[str, typer.Argument(help="The string that `openpriors invite` printed.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Prove the invitation's secret and show the words."""
    partner = ask(
        data, as_json, lambda client: client.post("/pairings", {"invitation": invitation})
    )
    if as_json:
        return
    say(f"Connected to {partner['name']}. Both screens must show the same six words:")
    say(f"    {' '.join(partner['words'])}", style="bold cyan")
    say("Read them to each other by telephone. If they are the same, both sides run:")
    say(f'    openpriors partners confirm "{partner["name"]}"')
    say("If they differ, someone stands between you: remove the partner and ask for help.")
