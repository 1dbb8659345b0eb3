"""Show this node's keys, give it new ones, and keep the root key on paper."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import segno
import typer

from peer.cli.client import Client, ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import CommandError, console, instant, print_table, say
from peer.errors import NodeError
from protocol.errors import RemoteProtocolError

app = typer.Typer(no_args_is_help=True)

ATTEMPTS: Final = 5
"""How often a record is drafted anew because something was published just then; a busy node
publishes some times a second, and drafting and signing take milliseconds."""

RootKey = Annotated[Path, typer.Option(help="File of the root key; read here, never sent.")]


@app.command("show")
def show(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Show the key record, and which partner has the newest one."""
    answer = ask(data, as_json, lambda client: client.get("/keys"))
    if not as_json:
        _print(answer)


@app.command("rotate")
def rotate(root_key: RootKey, data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Give the running node new keys: node key, sealing key and certificate."""
    answer = ask(data, as_json, lambda client: _sign(client, root_key, new_keys=True))
    if not as_json:
        say("The node has new keys, and uses them from now on.", style="green")
        say("Back it up now: a node restored from an older backup has the keys of then.")
        _print(answer)


@app.command("renew")
def renew(root_key: RootKey, data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Sign the name and addresses of the settings into the key record; the keys stay."""
    answer = ask(data, as_json, lambda client: _sign(client, root_key, new_keys=False))
    if not as_json:
        say("The key record says what the settings say.", style="green")
        _print(answer)


@app.command("export-root")
def export_root(
    root_key: RootKey,
    qr: Annotated[bool, typer.Option("--qr", help="Also as a QR code.")] = False,
) -> None:
    """Print the root key for the safe, with check characters.  Whoever reads it has the key."""
    from peer.keys import read_root_key, to_paper

    try:
        text = to_paper(read_root_key(root_key))
    except NodeError as error:
        raise CommandError("no-root-key", str(error)) from error
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    if qr:
        segno.make("".join(text.split()), error="m").terminal(compact=True)


@app.command("import-root")
def import_root(
    root_key: Annotated[Path, typer.Option(help="File to write the root key to.")],
    data: DataDirectory = DEFAULT_DATA,
) -> None:
    """Write a root key file from what `export-root` has printed, read from standard input."""
    from peer.keys import from_paper, write_root_key

    try:
        write_root_key(root_key, data, from_paper(sys.stdin.read()))
    except NodeError as error:
        raise CommandError("no-root-key", str(error)) from error
    say(f"The root key is in {root_key}.")


async def _sign(client: Client, root_key: Path, *, new_keys: bool) -> dict[str, Any]:
    """Have the node draft a record, sign it here, and have it put to use."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await _sign_once(client, root_key, new_keys=new_keys)
        except CommandError as error:
            if error.code != "journal-moved":
                raise
    return await _sign_once(client, root_key, new_keys=new_keys)


async def _sign_once(client: Client, root_key: Path, *, new_keys: bool) -> dict[str, Any]:
    from peer.keys import read_root_key
    from protocol.keyrecord import KeyRecord, sign_record
    from protocol.limits import KEY_RECORD_BYTES
    from protocol.records import from_bytes

    try:
        seed = read_root_key(root_key)
        drafted = await client.post("/keys/draft", {"new_keys": new_keys})
        record = from_bytes(KeyRecord, bytes.fromhex(drafted["record"]), KEY_RECORD_BYTES)
        signed = sign_record(seed, record)
    except (NodeError, RemoteProtocolError) as error:
        raise CommandError(
            "no-root-key", f"{error}", "Name the file of this facility's root key."
        ) from error
    answer: dict[str, Any] = await client.post(
        "/keys/record", {"record": signed.record.hex(), "signature": signed.signature.hex()}
    )
    return answer


def _print(answer: dict[str, Any]) -> None:
    say(f"{answer['facility_name']}  ({answer['peer_id']})", style="bold")
    say(f"Key record {answer['revision']}, signed {instant(answer['issued_at'])}")
    say(f"New keys are due by {instant(answer['renew_by'])}, in {answer['days_left']} days")
    last = answer["node_keys"][-1]
    say(f"Node key     {last['public']}, signs from batch {last['from_batch']}")
    say(f"Sealing key  {answer['sealing_key']}")
    say(f"Certificate  {answer['certificate']['fingerprint']} (SHA-256)")
    ends = answer["certificate"]["ends_at"]
    say(f"             ends {instant(ends)}" if ends else "             has no end")
    say(f"Root key     expected at {answer['root_key_expected_at'] or 'no place on record'}")
    if answer["root_key_in_data"]:
        say("Warning: the root key stands in the data directory. Move it away.", style="yellow")
    if answer["partners"]:
        print_table(
            ("Partner", "Has our newest", "Its record", "Its keys are due"),
            (
                (
                    partner["name"],
                    "yes" if partner["has_our_newest"] else "not yet",
                    partner["revision"],
                    instant(partner["renew_by"]),
                )
                for partner in answer["partners"]
            ),
        )
