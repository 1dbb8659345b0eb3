"""The options that many verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DataDirectory: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--data", envvar="OPENPRIORS_DATA", help="The node's data directory.", show_default=True
    ),
]
DEFAULT_DATA = Path("openpriors-data")

AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the answer as JSON (docs/reference/http.md).")
]

Reason: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Emergency access, with purpose BTG: why. Goes on record; both sides are alerted."
    ),
]

Purpose: TypeAlias = Annotated[
    str, typer.Option(help="Purpose of use, as the partners will see it: TREAT, ETREAT, ...")
]
