"""How answers, refusals and tables reach the terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console()
_errors = Console(stderr=True)


class CommandError(Exception):
    """A command that could not be done: the cause, and what the person can do about it."""

    def __init__(self, code: str, reason: str, remedy: str = "", *, as_json: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.remedy = remedy
        self.as_json = as_json


def fail(error: CommandError) -> None:
    """Say why a command failed: on standard error, or as JSON where JSON was asked for."""
    if error.as_json:
        print_json({"error": {"code": error.code, "reason": error.reason, "remedy": error.remedy}})
        return
    _errors.print(Text(visible(error.reason), style="bold red"))
    if error.remedy:
        _errors.print(Text(visible(error.remedy)))


def print_json(value: object) -> None:
    """Print one JSON value on standard output, two spaces deep, Unicode as it is if it can be."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings; None is shown as nothing."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    console.print(table)


def say(sentence: str, style: str = "") -> None:
    """Print one sentence, whole on its line; nothing in it is taken for markup."""
    console.print(Text(visible(sentence), style=style), soft_wrap=True)


def remark(sentence: str) -> None:
    """Say on standard error what happens meanwhile; the answer itself stands alone."""
    _errors.print(Text(visible(sentence), style="dim"), soft_wrap=True)


def visible(text: str) -> str:
    """Return `text` with its control characters spelt out.

    A name or description comes from a file or a partner; raw, it could steer the terminal.
    """
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in {"Cc", "Cs"}
        else char.encode("unicode_escape").decode()
        for char in text
    )


def instant(seconds: int | None) -> str:
    """Return a UTC instant as people read it, to the minute."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def day(date: str) -> str:
    """Return a DICOM date YYYYMMDD as YYYY-MM-DD; anything else as it is."""
    if len(date) == len("YYYYMMDD") and date.isdigit():
        return f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return date


_STEP: Final = 1000


def size(count: int) -> str:
    """Return a number of bytes as "12.4 MB"."""
    value, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= _STEP and len(units) > 1:
        value, units = value / _STEP, units[1:]
    return f"{value:.3g} {units[0]}"
