"""Make a node's data directory from a backup; its node then asks its partners what it missed."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.backup import (
    Folder,
    PassphraseFile,
    SetName,
    asked_for,
    errors,
    progress,
    said,
    set_json,
)
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import print_json, say


def command(
    to: Folder,
    name: SetName = None,
    passphrase_file: PassphraseFile = None,
    without_damaged: Annotated[
        bool, typer.Option("--without-damaged", help="Leave out packs that are damaged.")
    ] = False,
    data: DataDirectory = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Restore into a directory that is empty or not there yet; nothing is ever overwritten."""
    from peer import backup

    with errors(as_json):
        directory = backup.BackupDirectory(to)
        manifest = directory.read(name).manifest
        passphrase = asked_for(passphrase_file)
        total = manifest.pack_bytes + sum(each.stored for each in manifest.files.values())
        with progress("Restoring", total, quiet=as_json) as advance:
            found = backup.restore(
                directory, name, passphrase, data, advance, without_damaged=without_damaged
            )
    if as_json:
        print_json(
            {**set_json(found.signed), "data": str(data), "missing_packs": found.missing_packs,
             "settings": found.settings}
        )  # fmt: skip
        return
    say(f"{said(found.signed)}, restored to {data}. Every byte was compared.", style="green")
    if found.missing_packs:
        say(
            f"{len(found.missing_packs)} pack(s) are lacking, so some images cannot be read. What "
            "came from a partner can be retrieved from it again.",
            style="yellow",
        )
    for sentence in found.settings:
        say(f"Setting {sentence}", style="yellow")
    if any("master_key_file" in sentence for sentence in found.settings):
        say(f"The master key is in {data}/keys/master.key: move it there, or take the line out.")
    say(_NEXT.format(data=data))


_NEXT = """What happens next:
1. Make sure that no other copy of this node runs, now or ever: two copies are two histories.
2. Start it: openpriors run --data {data}
3. It searches at once. It publishes nothing until every partner has said what it holds of this \
node's journal; what was published after the backup comes back from them. How far that is: \
openpriors journal show --data {data}
4. Patients who were withdrawn after the backup stay withdrawn until someone has looked: \
openpriors journal holds --data {data}
5. Images that came in after the backup are not here. Send them again from where they are.
6. Look through what else the backup does not know: people, tokens and partners removed, consents \
recorded and keys renewed since then.
The root key was not in the backup. It is not needed, unless partners stay silent."""
