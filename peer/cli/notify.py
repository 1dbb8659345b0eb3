"""Tell a partner that images of a patient of theirs are available."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from peer.cli.client import Client, ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import say
from peer.cli.partners import find_partner


def command(
    study: Annotated[list[str], typer.Argument(help="Study Instance UIDs.")],
    facility: Annotated[str, typer.Option("--to", help="The partner: name or identity.")],
    message: Annotated[str, typer.Option(help="A sentence for the reader.")] = "",
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Put the notice in the outbox; it is delivered as soon as the partner can be reached."""

    async def work(client: Client) -> dict[str, Any]:
        partner = await find_partner(client, facility)
        body = {"peer_id": partner["peer_id"], "study_instance_uids": study, "message": message}
        answer: dict[str, Any] = await client.post("/notices", body)
        return answer

    notice = ask(data, as_json, work)
    if not as_json:
        delivered = "Delivered to" if notice["delivered_at"] else "Kept until it is delivered to"
        say(f"{delivered} {notice['name']}. See: openpriors inbox --sent")
