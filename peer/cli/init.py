"""Make a new node: its keys, its settings, and a one-time link for its first person."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from peer.cli.options import DEFAULT_DATA, DataDirectory
from peer.cli.output import CommandError, console, instant, say
from peer.errors import NodeError


def command(
    name: Annotated[str, typer.Option(help="The facility's name, as partners will see it.")],
    root_key: Annotated[
        Path,
        typer.Option(
            help="Where to write the root key: outside the data directory, best on another medium."
        ),
    ],
    public_host: Annotated[
        str, typer.Option(help="Host name or address under which partners reach this node.")
    ] = "",
    default_issuer: Annotated[
        str, typer.Option(help="Issuer (an OID as urn:oid:... or a URI) of our own patient IDs.")
    ] = "",
    federation_host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - pinned mutual TLS
    local_port: Annotated[int, typer.Option(help="Pages, API and DICOMweb.")] = 8440,
    federation_port: Annotated[int, typer.Option(help="Links with partners.")] = 8441,
    pairing_port: Annotated[int, typer.Option(help="Invitations.")] = 8442,
    dicom_port: Annotated[int, typer.Option(help="DICOM network.")] = 11112,
    data: DataDirectory = DEFAULT_DATA,
) -> None:
    """Make the node; it is started with `openpriors run`."""
    from peer import config, keys, stopped
    from peer.clock import SystemClock

    federation_url = f"https://{public_host}:{federation_port}" if public_host else ""
    pairing_url = f"https://{public_host}:{pairing_port}" if public_host else ""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.write_default(
            data,
            facility={"name": name},
            local={"port": local_port},
            federation={
                "host": federation_host,
                "port": federation_port,
                "public_url": federation_url,
            },
            pairing={"host": federation_host, "port": pairing_port, "public_url": pairing_url},
            dicom={"port": dicom_port},
            ingest={"default_issuer": default_issuer},
            keys={"root_key_hint": str(root_key)},
        )
        keys.create(
            data,
            root_key,
            name,
            now=SystemClock().now(),
            federation_url=federation_url,
            pairing_url=pairing_url,
        )
        link = asyncio.run(stopped.first_link(data))
    except NodeError as error:
        raise CommandError("cannot-init", str(error)) from error
    except OSError as error:
        raise CommandError(
            "cannot-init",
            f"{error.filename or data} cannot be written: {os.strerror(error.errno or 0)}.",
            "Name a data directory and a root key's place that you may write to, with room left.",
        ) from error
    say(f"{name} is ready in {data}.", style="green")
    say(f"The root key is in {root_key}. Keep it safe and offline: it is this facility.")
    say(f"Start the node with: openpriors run --data {data}")
    if local_port == 0:
        say(f"Then make a link to sign in with: openpriors link --data {data}")
        return
    say(f"Then sign in, once, until {instant(link.expires_at)}, with:")
    url = f"http://127.0.0.1:{local_port}/login?link={link.secret}"
    console.print(url, soft_wrap=True, highlight=False, markup=False)
