"""HL7 messages that were refused: show them, try one again, discard one."""

from __future__ import annotations

from typing import Annotated

import typer

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import instant, print_table, say

app = typer.Typer(no_args_is_help=True)

Message = Annotated[int, typer.Argument(help="Number of the message.")]


@app.command("parked")
def parked(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List the messages that wait, the one that came first first."""
    found = ask(data, as_json, lambda client: client.get("/hl7/parked"))
    if as_json:
        return
    if not found["messages"]:
        say("No message waits.")
        return
    print_table(
        ("Message", "From", "Kind", "Control ID", "Came", "Times", "Why"),
        (
            (
                each["parked"],
                each["sender"],
                each["kind"],
                each["control_id"],
                instant(each["last_at"]),
                each["times"],
                f"{each['answer']}: {each['reason']}",
            )
            for each in found["messages"]
        ),
    )


@app.command("retry")
def retry(message: Message, data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Take a message that waits, now that what stood against it is put right."""
    ask(data, as_json, lambda client: client.post(f"/hl7/parked/{message}/retry"))
    if not as_json:
        say(f"Message {message} was taken.", style="green")


@app.command("discard")
def discard(message: Message, data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Keep a message that waits no longer; its sender has it still."""
    ask(data, as_json, lambda client: client.delete(f"/hl7/parked/{message}"))
    if not as_json:
        say(f"Message {message} was discarded.", style="green")
