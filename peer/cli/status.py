"""Show what the node holds, whom it is connected to, and what needs attention."""

from __future__ import annotations

from peer.cli.client import ask
from peer.cli.options import DEFAULT_DATA, AsJson, DataDirectory
from peer.cli.output import instant, print_table, say


def command(data: DataDirectory = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Print the node's state."""
    answer = ask(data, as_json, lambda client: client.get("/status"))
    if as_json:
        return
    say(f"{answer['facility']['name']}  ({answer['facility']['peer_id'][:16]})", style="bold")
    say(f"Running since {instant(answer['started_at'])}, version {answer['version']}")
    say(f"{answer['studies']} studies, {answer['instances']} instances")
    journal = answer["journal"]
    state = "" if journal["state"] == "writing" else f" ({journal['state']})"
    say(f"Journal: {journal['live']} entries live, batch {journal['batch']}{state}")
    backup = answer["last_backup"]
    say(f"Last backup: {instant(backup['made_at']) if backup else 'none'}")
    if answer["partners"]:
        print_table(
            ("Partner", "State", "Connected", "Last confirmed", "Digests"),
            (
                (
                    partner["name"],
                    partner["state"],
                    "yes" if partner["connected"] else "no",
                    instant(partner["last_confirmed_at"]),
                    partner["digests"],
                )
                for partner in answer["partners"]
            ),
        )
    for warning in answer["warnings"]:
        say(f"Warning: {warning}", style="yellow")
