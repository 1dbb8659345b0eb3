"""Which media types a client accepts (PS3.18 section 8.3.3.1, RFC 9110 section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from peer.web.errors import Problem, RequestError

ACCEPTED: Final = 64
"""Most media types of one request that are looked at; client libraries send a dozen."""

ANY: Final = "*"
"""As a transfer syntax: as stored."""

MULTIPART: Final = "multipart/related"

_ITEM: Final = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETER: Final = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')


@dataclass(frozen=True, slots=True)
class Accepted:
    """A media type; that of the parts if `multipart`.  `transfer_syntax` is a UID, '*' or ''."""

    media_type: str
    multipart: bool
    transfer_syntax: str
    quality: float

    def covers(self, media_type: str) -> bool:
        """Whether a media type is, or falls under, this one."""
        if self.media_type in ("*/*", media_type):
            return True
        return self.media_type == f"{media_type.partition('/')[0]}/*"


def accepted(request: web.Request) -> Sequence[Accepted]:
    """Return what the client accepts, the most wanted first; nothing said is everything.

    The query parameter `accept` goes before the header, for links and pictures in pages.
    """
    said = [*request.query.getall("accept", ()), *request.headers.getall(hdrs.ACCEPT, ())]
    found = [_read(item) for text in said for item in _split(_ITEM, text)][:ACCEPTED]
    wanted = [each for each in found if each.quality > 0]
    if not found:
        wanted = [Accepted("*/*", False, "", 1.0)]
    return sorted(wanted, key=lambda each: -each.quality)


def not_acceptable(offered: str) -> RequestError:
    """Return the answer to a client that accepts nothing that there is; `offered` names it."""
    return RequestError(
        Problem(
            HTTPStatus.NOT_ACCEPTABLE,
            "not-acceptable",
            "This resource cannot be given in a form that the request accepts.",
            f"Accept {offered}.",
        )
    )


def _read(item: str) -> Accepted:
    media_type, *rest = _split(_PARAMETER, item)
    parameters = {}
    for each in rest:
        name, _, value = each.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 0.0
    media_type = media_type.lower()
    multipart = media_type == MULTIPART
    if multipart:
        media_type = parameters.get("type", "*/*").lower()
    return Accepted(media_type, multipart, parameters.get("transfer-syntax", ""), quality)


def _split(pattern: re.Pattern[str], text: str) -> Iterator[str]:
    return (each.strip() for each in pattern.findall(text) if each.strip())
