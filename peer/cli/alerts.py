"""Show what people here should look at, such as emergency access, and acknowledge it."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import instant, print_table, say


def command(
    acknowledge: Annotated[
        int, typer.Option(help="Number of the alert to acknowledge.", metavar="ALERT", min=0)
    ] = 0,
    everything: Annotated[
        bool, typer.Option("--all", help="Show the acknowledged ones too.")
    ] = False,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List alerts, open ones first, or acknowledge one."""
    if acknowledge:
        alert = ask(data, as_json, lambda client: client.post(f"/alerts/{acknowledge}/acknowledge"))
        if not as_json:
            say(f"Acknowledged by {alert['acknowledged_by']}.", style="green")
        return
    state = "all" if everything else "open"
    answer = ask(data, as_json, lambda client: client.get("/alerts", state=state))
    if as_json:
        return
    if not answer["alerts"]:
        say("Nothing.")
        return
    print_table(
        ("Alert", "Last", "What", "Reason", "Acknowledged"),
        (
            (
                alert["alert"],
                instant(alert["last_at"]),
                alert["sentence"],
                alert["reason"],
                instant(alert["acknowledged_at"]) if alert["acknowledged_at"] else None,
            )
            for alert in answer["alerts"]
        ),
    )
