"""The verbs put together: what `openpriors` runs."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import typer
from typer.core import TyperGroup
from typer.main import get_group

from peer.cli.output import CommandError, fail

VERBS: Final = (
    "init",
    "run",
    "demo",
    "import",
    "collect",
    "echo",
    "search",
    "retrieve",
    "retrievals",
    "invite",
    "join",
    "notify",
    "inbox",
    "report",
    "prefetch",
    "news",
    "alerts",
    "status",
    "link",
    "restore",
    "partners",
    "checks",
    "consent",
    "patients",
    "hl7",
    "identity",
    "audit",
    "retention",
    "store",
    "keys",
    "journal",
    "backup",
)
"""In the order in which `--help` lists them."""

_NO_NAMES_OF_MODULES: Final = {"import": "import_"}


class _Verbs(Mapping[str, Any]):
    """The commands by name; the module of one is imported when that one is wanted.

    It has either `command`, or `app` with the commands of a group; its docstring is the help.
    """

    # typing.override came with Python 3.12.
    def __getitem__(self, verb: str) -> Any:  # type: ignore[explicit-override]  # noqa: ANN401 - a group, or a command of a class that is the library's own
        if verb not in VERBS:
            raise KeyError(verb)
        module = import_module(f"peer.cli.{_NO_NAMES_OF_MODULES.get(verb, verb)}")
        alone = typer.Typer()
        if hasattr(module, "app"):
            alone.add_typer(module.app, name=verb, help=module.__doc__)
        else:
            alone.command(verb, help=module.__doc__)(module.command)
        return get_group(alone).commands[verb]

    def __iter__(self) -> Iterator[str]:  # type: ignore[explicit-override]
        return iter(VERBS)

    def __len__(self) -> int:  # type: ignore[explicit-override]
        return len(VERBS)


app = TyperGroup(
    name="openpriors",
    help="Find and fetch a patient's prior imaging at partner hospitals, with consent.",
    no_args_is_help=True,
    commands=cast("dict[str, Any]", _Verbs()),
)


def _remove_library_copy() -> None:
    """Remove the shared library of 3 MB that `rbcl` writes to the disk whenever it is imported."""
    copy = getattr(sys.modules.get("rbcl._sodium"), "lib_path", None)
    if isinstance(copy, str):
        Path(copy).unlink(missing_ok=True)


def main() -> None:
    """Run the command line; a refused or failed command ends with 1, a wrong call with 2."""
    atexit.register(_remove_library_copy)
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
