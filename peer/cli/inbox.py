"""Show what partners have notified us of, and acknowledge it."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import instant, print_table, say


def command(
    acknowledge: Annotated[
        str, typer.Option(help="Identity of the notice to acknowledge.", metavar="NOTICE")
    ] = "",
    sent: Annotated[bool, typer.Option("--sent", help="Show what we have sent instead.")] = False,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List notices, newest first, or acknowledge one."""
    if acknowledge:
        notice = ask(data, as_json, lambda client: client.post(f"/inbox/{acknowledge}/acknowledge"))
        if not as_json:
            say(f"Acknowledged; {notice['name']} is told.", style="green")
        return
    answer = ask(data, as_json, lambda client: client.get("/outbox" if sent else "/inbox"))
    if as_json:
        return
    if not answer["notices"]:
        say("Nothing.")
        return
    print_table(
        ("Facility", "Studies", "Sent", "Delivered", "Acknowledged", "Notice"),
        (
            (
                notice["name"],
                " ".join(notice["study_instance_uids"]),
                instant(notice["sent_at"]),
                instant(notice["delivered_at"]),
                instant(notice["acknowledged_at"]),
                notice["notice_id"],
            )
            for notice in answer["notices"]
        ),
    )
