"""Make a one-time link that signs you in to the node's page."""

from __future__ import annotations

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import console, say


def command(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Print the link; it works once and soon ends."""
    answer = ask(data, as_json, lambda client: client.post("/links"))
    if not as_json:
        say("Open this once, in the browser of the person who is to sign in:")
        console.print(answer["url"], soft_wrap=True, highlight=False, markup=False)
