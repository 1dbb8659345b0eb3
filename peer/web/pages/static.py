"""Style sheet, scripts and pictures of the pages, served by the node itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final

from aiohttp import hdrs, web

from peer.web.routes import PUBLIC, Route

_TYPES: Final = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


ICON: Final = "mark.svg"
"""What a browser gets that asks for an icon by itself."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent."""

    content: bytes
    media_type: str
    etag: str


STATIC: Final = web.AppKey("static", Mapping[str, File])


def load_static() -> Mapping[str, File]:
    """Return every file by its name; they are few and small, and do not change while we run."""
    found = {}
    for each in files("peer.web.pages").joinpath("static").iterdir():
        media_type = _TYPES.get(each.name.rpartition(".")[2])
        if media_type is not None:
            content = each.read_bytes()
            found[each.name] = File(content, media_type, sha256(content).hexdigest()[:32])
    return found


async def static_file(request: web.Request) -> web.StreamResponse:
    """Send a file, or say that the browser's copy is the same."""
    file = request.app[STATIC].get(request.match_info.get("name", ICON))
    if file is None:
        raise web.HTTPNotFound
    # The browser asks each time: after an update no page may meet an older script.
    headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: f'"{file.etag}"'}
    if any(tag.value in (file.etag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=file.content, content_type=file.media_type, charset="utf-8", headers=headers
    )


ROUTES: Final = (
    Route("GET", "/static/{name}", static_file, PUBLIC),
    Route("GET", "/favicon.ico", static_file, PUBLIC),
)
