"""Run the node of a data directory until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from peer.cli.options import DEFAULT_DATA, DataDirectory
from peer.cli.output import CommandError, say
from peer.errors import NodeError


def command(
    check: Annotated[
        bool, typer.Option("--check", help="Only check the settings, and say what is wrong.")
    ] = False,
    data: DataDirectory = DEFAULT_DATA,
) -> None:
    """Run, or check the settings."""
    from peer import config, logs, runtime

    if check:
        wrong = config.check(data)
        for sentence in wrong:
            say(sentence, style="red")
        if wrong:
            raise typer.Exit(1)
        say("The settings are in order.", style="green")
        if not config.load(data).federation.public_url:
            say("This node is outbound-only: it can join partners, and cannot invite any.")
        return
    logs.set_up()
    try:
        asyncio.run(runtime.run(data))
    except NodeError as error:
        raise CommandError("cannot-run", str(error)) from error
