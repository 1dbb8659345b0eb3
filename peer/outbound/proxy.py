"""The HTTP CONNECT proxy (RFC 9110 section 9.3.6) through which calls to partners go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from aiohttp import encode_basic_auth, hdrs

from peer.config import Federation
from peer.errors import ConfigError


class ProxyArguments(TypedDict):
    """What a request of aiohttp's is told of the proxy."""

    proxy: str | None
    proxy_headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where it is, http://host:port or '' for none, and what it is shown of us (RFC 7617)."""

    url: str = ""
    authorization: str = field(default="", repr=False)

    @classmethod
    def configured(cls, settings: Federation) -> Proxy:
        """Return the proxy of the settings; raise ConfigError if its credentials cannot be read."""
        if not settings.proxy_credentials_file:
            return cls(settings.proxy)
        return cls(settings.proxy, _read_credentials(Path(settings.proxy_credentials_file)))

    @property
    def arguments(self) -> ProxyArguments:
        """What to pass to a request of aiohttp's."""
        shown: dict[str, str] = {}
        if self.authorization:
            shown[hdrs.PROXY_AUTHORIZATION] = self.authorization
        return {"proxy": self.url or None, "proxy_headers": shown}


def _read_credentials(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "The file of federation.proxy_credentials_file cannot be read. Check its path and "
            "owner, and that it is text."
        ) from error
    user, colon, password = text.partition(":")
    if not colon or not user or "\n" in text:
        raise ConfigError(
            "The file of federation.proxy_credentials_file must hold one line, user:password."
        )
    return encode_basic_auth(user, password)
