"""Reads, checks and first writes DATA/openpriors.toml."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from peer.config.reference import TomlValue, file_text, sections
from peer.config.settings import ENV_DELIMITER, ENV_PREFIX, Settings
from peer.errors import ConfigError, Conflict

FILE_NAME: Final = "openpriors.toml"

OTHERS: Final = 0o077
"""Permission bits of everyone but the owner."""


def load(data: Path) -> Settings:
    """Return the settings of the node in `data`; without a file, those of the environment.

    Raises ConfigError that names every wrong setting.
    """
    return _settings(_read(data / FILE_NAME))


def check(data: Path) -> list[str]:
    """Return a sentence for everything that is wrong with the settings of the node in `data`."""
    try:
        settings = load(data)
    except ConfigError as error:
        return str(error).splitlines()
    return [*_missing(settings), *_bad_files(settings), *_shared_ports(settings)]


def write_default(data: Path, **values: Mapping[str, TomlValue]) -> Path:
    """Write the file of a new node: `values` (section -> key -> value) set, all else as comments.

    Raises ConfigError if a value is wrong, Conflict if there is a file already.
    """
    text = file_text(values)
    _settings({name: dict(section) for name, section in values.items()})
    path = data / FILE_NAME
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise Conflict(f"{FILE_NAME} exists already. Edit it, or remove it first.") from error
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{FILE_NAME} is not UTF-8 text. Save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{FILE_NAME} is not valid TOML: {error}. Correct that place.") from error
    except OSError as error:
        raise ConfigError(
            f"{FILE_NAME} cannot be read: {os.strerror(error.errno or 0)}. "
            "Check that the node's user owns it."
        ) from error


def _settings(tables: Mapping[str, Any]) -> Settings:
    wrong = [*_unknown_variables()]
    settings = None
    try:
        settings = Settings(**tables)
    except ValidationError as error:
        wrong += [_sentence(each["loc"], each["type"], each["msg"]) for each in error.errors()]
    except SettingsError as error:
        wrong.append(f"An environment variable cannot be read: {error}. It must hold JSON.")
    if settings is None or wrong:
        raise ConfigError("\n".join(wrong))
    return settings


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(map(str, location))
    if kind == "extra_forbidden":
        known = [section for section, _, _ in sections()]
        known += [f"{section}.{entry.key}" for section, _, keys in sections() for entry in keys]
        return f"{name}: there is no such setting.{_guess(name, known)}"
    said = message.removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    return f"{name}: {said}."


def _guess(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _unknown_variables() -> Iterator[str]:
    """Yield a sentence for each variable that is meant for us and names no section.

    Names without the delimiter are other programs' business: tests and the command line have some.
    """
    known = {name: f"{ENV_PREFIX}{name}{ENV_DELIMITER}".upper() for name, _, _ in sections()}
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith(ENV_PREFIX) or ENV_DELIMITER not in name:
            continue
        if not name.startswith(tuple(known.values())):
            section = name.removeprefix(ENV_PREFIX).split(ENV_DELIMITER)[0].lower()
            yield f"{variable}: there is no such section.{_guess(section, list(known))}"


def _missing(settings: Settings) -> Iterator[str]:
    if not settings.facility.name:
        yield "facility.name: is not set. Set it to the name that partners should see."
    federation, pairing = settings.federation, settings.pairing
    # With neither a node is outbound-only, which is a way to run it; with one of them it is broken.
    for name, section, other in (
        ("federation", federation, pairing),
        ("pairing", pairing, federation),
    ):
        if other.public_url and not section.public_url:
            yield (
                f"{name}.public_url: is not set, though the other listener's is, so a partner "
                "reaches this node halfway. "
                f"Set it to https://host:{section.port or 'port'} as seen from outside."
            )


def _bad_files(settings: Settings) -> Iterator[str]:
    named = {
        "local.tls_certificate": (settings.local.tls_certificate, False),
        "local.tls_key": (settings.local.tls_key, True),
        "hl7.tls_certificate": (settings.hl7.tls_certificate, False),
        "hl7.tls_key": (settings.hl7.tls_key, True),
        "hl7.tls_ca": (settings.hl7.tls_ca, False),
        "federation.proxy_credentials_file": (settings.federation.proxy_credentials_file, True),
        "notify.webhook_secret_file": (settings.notify.webhook_secret_file, True),
        "keys.master_key_file": (settings.keys.master_key_file, True),
    }
    for name, (path, secret) in named.items():
        if not path:
            continue
        if not Path(path).is_file() or not os.access(path, os.R_OK):
            yield f"{name}: no file can be read at this path. Correct the path or the permissions."
        elif secret and Path(path).stat().st_mode & OTHERS:
            yield f"{name}: others than the owner may read the file. Run chmod 600 on it."


def _shared_ports(settings: Settings) -> Iterator[str]:
    taken: dict[int, str] = {}
    ports = {
        "local.port": settings.local.port,
        "federation.port": settings.federation.port,
        "pairing.port": settings.pairing.port,
        "dicom.port": settings.dicom.port if settings.dicom.enabled else 0,
        "hl7.port": settings.hl7.port if settings.hl7.enabled else 0,
    }
    for name, port in ports.items():
        if port and port in taken:
            yield f"{name}: is {port}, as is {taken[port]}. Give each listener a port of its own."
        taken[port] = name
