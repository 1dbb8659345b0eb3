"""Every setting as text: for the documentation, and for the file that a new node starts with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from peer.config.dicom import KnownAe
from peer.config.hl7 import Hl7Sender, PriorsRule
from peer.config.settings import ENV_DELIMITER, ENV_PREFIX, Settings
from peer.config.transfer import RateLimit

TomlValue = object

HEAD = """# Configuration

Settings are read from `openpriors.toml` in the data directory, in TOML, and then from environment
variables, which go before the file. `openpriors run --check` says what is wrong with them; an
unknown section or key is an error. A secret is never a setting: settings name the file it is in.

What two facilities must agree on, such as the largest message, is no setting either: it stands in
`protocol/limits.py` and is part of the [protocol](../protocol/README.md). Every other bound that an
operator may want to change is one: see [which bounds are
settings](../decisions/0020-which-bounds-are-settings.md).

This page is made from the program (`peer.config.reference`), and a test keeps it so.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting."""

    section: str
    key: str
    default: TomlValue
    description: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"{ENV_PREFIX}{self.section}{ENV_DELIMITER}{self.key}".upper()


def sections() -> Iterator[tuple[str, str, tuple[Entry, ...]]]:
    """Yield each section: its name, what it is about, and its settings."""
    for name, part in Settings.model_fields.items():
        section = part.default
        yield name, _about(type(section)), _entries(name, type(section))


def reference() -> str:
    """Return the documentation of every setting, in Markdown."""
    parts = [HEAD]
    for name, about, entries in sections():
        parts.append(f"\n## [{name}]\n\n{about}\n\n{_table(entries)}")
    parts += [
        f"\n### An entry of `{name}`\n\n{_about(model)}\n\n"
        f"{_table(_entries(name, model), in_environment=False)}"
        for name, model in (
            ("known_aes", KnownAe),
            ("hl7.senders", Hl7Sender),
            ("hl7.priors", PriorsRule),
            ("limits", RateLimit),
        )
    ]
    return "".join(parts)


def file_text(values: Mapping[str, Mapping[str, TomlValue]]) -> str:
    """Return a configuration file that sets `values` and shows all else as comments."""
    lines = ["# Settings of this node; docs/reference/configuration.md explains each.\n"]
    for name, about, entries in sections():
        given = values.get(name, {})
        lines.append(f"\n# {about}\n[{name}]\n")
        for entry in entries:
            shown = "" if entry.key in given else "# "
            value = toml(given.get(entry.key, entry.default))
            lines.append(f"# {entry.description}.\n{shown}{entry.key} = {value}\n")
    return "".join(lines)


def toml(value: TomlValue) -> str:
    """Write a value as TOML, on one line."""
    match value:
        case str():
            # TOML's basic strings are JSON's, but for DEL, which must be escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool() | int() | float():
            return json.dumps(value)
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {toml(each)}' for key, each in value.items())} }}"
        case _:
            raise TypeError(f"a setting cannot be a {type(value).__name__}")


def _entries(section: str, model: type[BaseModel]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            section,
            key,
            None if field.is_required() else field.default,
            field.description or "",
        )
        for key, field in model.model_fields.items()
    )


def _about(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _table(entries: tuple[Entry, ...], *, in_environment: bool = True) -> str:
    rows = ["| key | default | meaning |\n|---|---|---|\n"]
    for entry in entries:
        default = "required" if entry.default is None else f"`{toml(entry.default)}`"
        variable = f"<br>`{entry.variable}`" if in_environment else ""
        rows.append(f"| `{entry.key}`{variable} | {default} | {entry.description} |\n")
    return "".join(rows)
