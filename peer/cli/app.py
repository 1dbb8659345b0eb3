"""The verbs put together: what `openpriors` runs."""

from __future__ import annotations

import sys

import typer

from peer.cli import (
    alerts,
    audit,
    backup,
    checks,
    consent,
    demo,
    identity,
    import_,
    inbox,
    init,
    invite,
    join,
    journal,
    keys,
    link,
    notify,
    partners,
    prefetch,
    report,
    restore,
    retention,
    retrieve,
    run,
    search,
    status,
    store,
)
from peer.cli.output import CommandError, fail

app = typer.Typer(
    name="openpriors",
    help="Find and fetch a patient's prior imaging at partner hospitals, with consent.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in (init, run, demo, import_, search, retrieve, invite, join, notify, inbox, report):
    app.command(verb.NAME, help=verb.__doc__)(verb.command)
app.command(prefetch.NAME, help=prefetch.__doc__)(prefetch.command)
app.command(alerts.NAME, help=alerts.__doc__)(alerts.command)
app.command(status.NAME, help=status.__doc__)(status.command)
app.command(link.NAME, help=link.__doc__)(link.command)
app.command(restore.NAME, help=restore.__doc__)(restore.command)
for group in (partners, checks, consent, identity, audit, retention, store, keys, journal, backup):
    app.add_typer(group.app, name=group.NAME, help=group.__doc__)


def main() -> None:
    """Run the command line; a refused or failed command ends with 1, a wrong call with 2."""
    as_json = "--json" in sys.argv[1:]
    try:
        # Left to itself, Typer says what is wrong with a call to people only.
        sys.exit(app(standalone_mode=not as_json))
    except typer.TyperException as error:
        remedy = "Add --help in place of the arguments to see what the command takes."
        fail(CommandError("usage", error.format_message(), remedy, as_json=True))
        sys.exit(error.exit_code)
    except CommandError as error:
        fail(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
