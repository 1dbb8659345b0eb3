"""The kinds of value that a setting can have, each checked."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from protocol.identifiers import is_ae_title

MIB: Final = 1 << 20
GIB: Final = 1 << 30
DAY_S: Final = 24 * 3600


def _origin(text: str) -> str:
    """Return `text` if it is empty or `https://host[:port]`."""
    parts = urlsplit(text)
    if text and (parts.scheme != "https" or not parts.hostname or parts.path or parts.query):
        raise ValueError("must look like https://host:port, with nothing behind the port")
    return text


def _web_address(text: str) -> str:
    """Return `text` if it is empty or an http(s) URL."""
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError("must start with https:// or http:// and name a host")
    return text.rstrip("/")


def _proxy(text: str) -> str:
    """Return `text` if it is empty or `http://host:port`."""
    parts = urlsplit(text)
    if text and (parts.scheme != "http" or not parts.hostname or parts.path.strip("/")):
        raise ValueError("must look like http://host:port, with nothing behind the port")
    if parts.username is not None:
        raise ValueError(
            "must not hold a user name or password; put user:password into the file of "
            "proxy_credentials_file"
        )
    return text.rstrip("/")


def _ae_title(text: str) -> str:
    if not is_ae_title(text):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return text.strip()


def _day(text: str) -> str:
    """Return `text` if it is empty or a date as DICOM writes it."""
    if text and not (len(text) == len("YYYYMMDD") and _is_date(text)):
        raise ValueError("must be a date, YYYYMMDD")
    return text


def _is_date(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a listener on `host` can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _time_of_day(text: str) -> str:
    """Return `text` if it is a time from 00:00 to 23:59."""
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text) is None:
        raise ValueError("must be a time from 00:00 to 23:59")
    return text


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[int, Field(ge=1)]
Origin = Annotated[str, AfterValidator(_origin)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
ProxyAddress = Annotated[str, AfterValidator(_proxy)]
AeTitle = Annotated[str, AfterValidator(_ae_title)]
Host = Annotated[str, Field(min_length=1)]
TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]
Day = Annotated[str, AfterValidator(_day)]


class Section(BaseModel):
    """A table of the file.  An unknown key is an error, so that no typing slip stays silent."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
