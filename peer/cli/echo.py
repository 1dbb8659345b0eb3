"""Ask a PACS of the table whether it answers (C-ECHO)."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from peer.cli.client import Client, run
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import print_json, say


def command(
    title: Annotated[str, typer.Argument(help="Its AE title, as in dicom.known_aes.")],
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Have the running node verify the association with a PACS."""

    async def conversation() -> Any:  # noqa: ANN401 - JSON
        async with Client.open(data) as client:
            return await client.post(f"/pacs/{quote(title, safe='')}/echo")

    found = run(conversation(), as_json=as_json)
    if as_json:
        print_json(found)
    else:
        say(f"{title} answers.", style="green")
